"""Where the picture of a Label Studio task is, according to the task's data."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote


def looks_like_address(text: str) -> bool:
    """True for a path or URL, or a picture as data URL.

    >>> looks_like_address("s3://bucket/a.jpg"), looks_like_address("a cat")
    (True, False)
    """
    return text.startswith(("/", "data:")) or "://" in text


def address_of(data: Any, image: str) -> str | None:
    """The address of a task's picture: the text under the tag's name or under ``image``, else the
    only text that looks like an address.

    Args:
        data: of the task.
        image: name of the Image tag.

    >>> address_of({"photo": "/data/a.jpg", "title": "a cat"}, "image")
    '/data/a.jpg'
    """
    if not isinstance(data, dict):
        return None
    addresses = {
        key: text
        for key, text in data.items()
        if isinstance(text, str) and looks_like_address(text)
    }
    only = next(iter(addresses.values())) if len(addresses) == 1 else None
    return addresses.get(image) or addresses.get("image") or only


def path_of(address: str) -> str:
    """The path in an address, unquoted; for local files (``/data/local-files/?d=a/b.jpg``) the path
    below their root.

    >>> path_of("/data/local-files/?d=a%20b.jpg"), path_of("https://host/a.jpg?size=1")
    ('a b.jpg', 'https://host/a.jpg')
    """
    return unquote(address.partition("?d=")[2] or address.partition("?")[0])
