"""The pixels of the images that a report shows, wherever they are."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from backend.core.types import Image
from backend.errors import InputError
from backend.evaluation.gallery import LoadPicture
from backend.evaluation.pairs import Picture
from backend.files.addresses import path_of
from backend.files.images import ImageLimits, decode_image, read_image
from backend.files.pictures import PictureFolder
from backend.label_studio.api.stored import StoredProject


def pictures(folder: Path | None, limits: ImageLimits, stored: StoredProject | None) -> LoadPicture:
    """How to get at the pixels of a picture: its file, the folder of pictures, or Label Studio."""
    files = None if folder is None else PictureFolder.of(folder)

    def load(picture: Picture) -> Image:
        with suppress(OSError, ValueError):  # a name that the system cannot even look for
            if picture.path is not None and picture.path.is_file():
                return read_image(picture.path, limits)
        address = str(picture.uri or picture.path or "")
        name = path_of(address)
        found = None if files is None else files.find(name)
        if found is not None:
            return read_image(found, limits)
        if stored is not None and picture.uri is not None:
            return decode_image(stored.image(picture.uri, picture.task_id), name, limits)
        raise InputError(
            "the picture is not at hand; --images DIR, or --url, --api-key and --project, let the"
            " page show it"
        )

    return load
