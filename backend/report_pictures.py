"""The pixels of the images that a report shows, wherever they are."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from backend.errors import InputError
from backend.files import find_files
from backend.images import SUFFIXES, ImageLimits, decode_image, read_image
from backend.label_studio.stored import Stored
from backend.scoring.gallery import LoadPicture
from backend.scoring.pairs import Picture
from backend.types import Image

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


def pictures(folder: Path | None, limits: ImageLimits, stored: Stored | None) -> LoadPicture:
    """How to get at the pixels of a picture: its file, the folder of pictures, or Label Studio."""
    files = [] if folder is None else list(find_files(folder, SUFFIXES))

    def load(picture: Picture) -> Image:
        with suppress(OSError, ValueError):  # a name that the system cannot even look for
            if picture.path is not None and picture.path.is_file():
                return read_image(picture.path, limits)
        address = str(picture.uri or picture.path or "")
        name = unquote(address.partition("?d=")[2] or address.partition("?")[0])
        found = best_match(name, files)
        if found is not None:
            return read_image(found, limits)
        if stored is not None and picture.uri is not None:
            return decode_image(stored.image(picture.uri, picture.task_id), name, limits)
        raise InputError("the picture is not at hand; --images DIR, or --url, --api-key and --project, let the page show it")

    return load


def best_match(address: str, files: Sequence[Path]) -> Path | None:
    """The file that shares most folder names with an address, from its end; None where none has its name, or several fit equally well."""
    wanted = list(reversed(PurePosixPath(address).parts))
    if not wanted:
        return None
    uploaded = _UPLOADED.sub("", wanted[0])  # Label Studio puts eight hexadecimal digits before the name of an upload

    def shared(file: Path) -> int:
        parents = zip(wanted[1:], reversed(file.parts[:-1]), strict=False)
        return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], parents)))

    named = [file for file in files if file.name == wanted[0]] or [file for file in files if file.name == uploaded]
    fitting = sorted(named, key=shared, reverse=True)
    if len(fitting) > 1 and shared(fitting[0]) == shared(fitting[1]):
        return None
    return fitting[0] if fitting else None
