"""Addresses of pictures as annotation files hold them: paths, URLs, and Label Studio's own."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from backend.files.images import HEIC_SUFFIXES, SUFFIXES

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_FIELDS = re.compile(r"&(?=\w+=)")  # between fields of a query; names of files hold & as well
_LOCAL_FILES = "data/local-files/"
_OWN_PATHS = ("/tasks/", "/presign/", "/resolve/")  # of Label Studio, with a ``fileuri`` behind


def uploaded_name(name: str) -> str:
    """A file's name without the eight hexadecimal digits that Label Studio puts before the names of
    uploads.

    >>> uploaded_name("ab12cd34-a.jpg"), uploaded_name("a.jpg")
    ('a.jpg', 'a.jpg')
    """
    return _UPLOADED.sub("", name)


def looks_like_address(text: str) -> bool:
    """True for a path or URL of a picture, or a picture as data URL.

    >>> looks_like_address("s3://bucket/a.jpg"), looks_like_address("set/a.jpg")
    (True, True)
    >>> looks_like_address("a cat")
    False
    """
    if text.startswith(("/", "data:")) or "://" in text:
        return True
    path = text.partition("?")[0].lower()
    return path.startswith(_LOCAL_FILES) or path.endswith((*SUFFIXES, *HEIC_SUFFIXES))


def path_of(address: str) -> str:
    """The path in an address, unquoted and with forward slashes.

    Of local files (``/data/local-files/?d=a/b.jpg``) it is the path below their root, of cloud
    storage behind Label Studio (``/tasks/7/resolve/?fileuri=...``) the address in there.

    >>> path_of("/data/local-files/?d=a%20b.jpg"), path_of("https://host/a.jpg?size=1")
    ('a b.jpg', 'https://host/a.jpg')
    >>> path_of("/tasks/7/resolve/?fileuri=czM6Ly9iL2EuanBn")
    's3://b/a.jpg'
    """
    head, _, query = address.partition("?")
    if query and head.strip("/").endswith("data/local-files"):
        given = dict(part.partition("=")[::2] for part in _FIELDS.split(query))
        return unquote(given.get("d") or head).replace("\\", "/")
    if query.startswith("fileuri=") and any(part in head for part in _OWN_PATHS):
        coded = unquote(query.removeprefix("fileuri=").partition("&")[0])
        try:
            return path_of(base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode())
        except (ValueError, binascii.Error):
            return unquote(head)
    return unquote(head if "://" in head or query else address).replace("\\", "/")


def is_local_file(address: str) -> bool:
    """True for Label Studio's local files, whose path keeps its folders."""
    return _LOCAL_FILES in address.partition("?")[0] + "/" and "?" in address


def name_in(address: str) -> str:
    """What the picture at an address is called below its dataset.

    Local files keep their folders; of others only the last part says anything.

    >>> name_in("/data/upload/3/ab12cd34-b.jpg"), name_in("data/local-files/?d=set%5Cc.jpg")
    ('b.jpg', 'set/c.jpg')
    """
    path = path_of(address)
    if is_local_file(address):
        return path.lstrip("/")
    last = PurePosixPath(urlsplit(path).path if "://" in path else path).name
    return uploaded_name(last) if "/upload/" in path or path.startswith("upload/") else last


def suffix_of(uri: str) -> str:
    """The end of a file's name, which may become part of a path; empty where it is unusual.

    >>> suffix_of("/data/a.mp4?x=1"), suffix_of("/data/a.m/p4"), suffix_of("/a.\\0")
    ('.mp4', '', '')
    """
    suffix = "" if uri.startswith("data:") else PurePosixPath(path_of(uri)).suffix
    return suffix if suffix.isascii() and suffix[1:].isalnum() and len(suffix) <= 8 else ""
