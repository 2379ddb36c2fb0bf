"""Where the pictures of a COCO file are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from backend.errors import InputError
from backend.files.addresses import name_in, uploaded_name
from backend.files.images import SUFFIXES
from backend.files.names import safe_name
from backend.files.pictures import Pictures
from backend.formats.coco.files import list_of


def find_picture(
    pictures: Pictures, path: Path, root: Path, text: str, where: str, split: str | None
) -> tuple[PurePosixPath, Path | None]:
    """What the picture is called, and where it is.

    A name that leads elsewhere only helps to find it below ``--images``.

    Args:
        pictures: where they may be.
        path: of the annotation file.
        root: of the dataset.
        text: the picture's name as the file has it.
        where: for messages.
        split: what the list of the image is called.

    Raises:
        InputError: a name that leads elsewhere, and no picture of its last part.
    """
    is_address = "://" in text or "?" in text or "/upload/" in text or text.startswith("/data/")
    if is_address:
        text = name_in(text)
    try:
        name = safe_name(text, where)
    except InputError:
        last = PurePosixPath(text.replace("\\", "/")).name
        found = pictures.find(None, last) if last and "\0" not in last else None
        if found is None:
            raise
        return safe_name(last, where), found
    called = list_of(path)
    direct = next(
        (
            place
            for folder in dict.fromkeys((path.parent, root, path.parent.parent))
            if (
                place := pictures.beside(
                    folder, str(name), list(dict.fromkeys(filter(None, (split, called))))
                )
            )
        ),
        None,
    )
    found = pictures.find(direct, str(name))
    if direct is None and found is not None and uploaded_name(name.name) != name.name:
        name = name.with_name(uploaded_name(name.name))
    if name.suffix.lower() not in SUFFIXES:
        name = name.with_name(name.name + (found.suffix if found is not None else ".jpg"))
    return name, found
