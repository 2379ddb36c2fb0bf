"""The videos that ``video`` and ``frames`` are given, and where they write."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from backend.errors import ConfigError, InputError

_DOWNLOAD_S = 3600.0
_LIST = "_videos.txt"  # how a list of a VOC dataset ends


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Sources and the output folder."""
    about = (
        "videos in any format that FFmpeg reads, folders of pictures, addresses (https://..), or a"
        " list of a VOC dataset such as ImageSets/Segmentation/val_videos.txt"
    )
    parser.add_argument("sources", nargs="+", metavar="SRC", help=about)
    about = "output folder; made if missing"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=about)


def sources_of(args: argparse.Namespace) -> list[Path]:
    """The videos on disk; those of addresses are downloaded into ``OUT/downloads``, once.

    Raises:
        ConfigError: one is not there.
        InputError: an address does not work.
        Unavailable: it may work later.
    """
    found: list[Path] = []
    for source in args.sources:
        if source.startswith(("http://", "https://")):
            found.append(_downloaded(source, args.out / "downloads"))
            continue
        path = Path(source)
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
        if path.is_file() and path.name.endswith(_LIST):
            found += _listed(path)
        else:
            found.append(path)
    return found


def _listed(path: Path) -> Iterable[Path]:
    """The folders of frames that a list of a VOC dataset names."""
    from backend.files.text import read_text

    pictures = path.parent.parent.parent / "JPEGImages"
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise ConfigError(f"{path}: names no video")
    folders = [pictures / name for name in names]
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise ConfigError(f"{path}: names {missing[0].name!r}, but {missing[0]} is no folder")
    return folders


def _downloaded(address: str, folder: Path) -> Path:
    from backend.config.service import load_service_settings
    from backend.files.atomic import temporary_beside
    from backend.label_studio.api.fetch import Fetcher

    parts = urlsplit(address)
    name = PurePosixPath(unquote(parts.path)).name
    if name in ("", "..") or "\\" in name or not name.isprintable() or not parts.hostname:
        raise InputError(f"{address[:100]}: names no file")
    # Addresses may differ in all but the name.
    folder = folder / sha256(address.encode()).hexdigest()[:8]
    path = folder / name
    if path.exists():
        return path
    settings = load_service_settings({}, os.environ)
    # The user wrote this address, which is what the list of hosts is there to make sure of.
    settings = replace(settings, allowed_hosts=(*settings.allowed_hosts, parts.hostname))
    folder.mkdir(parents=True, exist_ok=True)
    part = temporary_beside(path)
    try:
        with part.open("wb") as file:
            deadline = time.monotonic() + _DOWNLOAD_S
            Fetcher(settings).download(address, None, deadline, file, settings.max_video_bytes)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
