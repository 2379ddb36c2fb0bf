"""Pictures for datasets that hold their own: copied, linked, or left where they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from backend.files.picture_data import header_of, picture_bytes, upright_bytes
from backend.files.pictures import Pictures
from backend.formats.base import TURNED, Copied
from backend.formats.sample import Sample

MODES = ("copy", "link", "none")


class Copies:
    """Puts pictures into an output folder.

    Args:
        mode: of ``MODES``. What EXIF turns is copied upright, because many training programs do not
            look at EXIF.
        pictures: knows where they lie.
    """

    def __init__(self, mode: str, pictures: Pictures) -> None:
        self.mode = mode
        self._pictures = pictures

    def place(self, sample: Sample, path: PurePosixPath, always: bool = False) -> Copied:
        """The picture of a sample at ``path``.

        Args:
            sample: with its picture.
            path: below the output folder.
            always: whether bytes that lie in no file become one in any mode.

        Raises:
            InputError: it cannot be read.
        """
        picture = sample.picture
        if picture is None:
            return Copied(None)
        if isinstance(picture, Path):
            if self.mode == "none":
                return Copied(self._pictures.relative(picture))
            if self.mode == "link":
                turned = header_of(picture, sample.where).turned
                return Copied(
                    path,
                    ((path, picture.resolve()),),
                    Counter({"linked pictures that only EXIF turns upright": 1} if turned else {}),
                )
        elif self.mode == "none" and not always:
            return Copied(None)
        if header_of(picture, sample.where).turned:
            data = upright_bytes(picture, sample.where)
            losses = Counter({TURNED: 1})
            return Copied(path, ((path, data),), losses)
        return Copied(path, ((path, picture_bytes(picture, sample.where)),))
