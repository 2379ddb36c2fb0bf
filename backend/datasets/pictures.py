"""Finding the pictures that annotation files name, only below the folders a user gave, and what their headers tell."""

from __future__ import annotations

import io
import itertools
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import PIL.Image
import PIL.ImageOps

from backend.errors import InputError
from backend.files import find_files, is_inside
from backend.formats.tasks import uploaded_name
from backend.images import DEFAULT_LIMITS, FORMATS, SUFFIXES, Header, ImageLimits, read_header

_LIMITS = ImageLimits(min_side=1)  # there is no model here that needs more
_QUALITY = 95  # of a JPEG that is turned upright


class PictureFolder:
    """All pictures below a folder, found by what others call them.

    Args:
        files: the pictures.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._by_name: defaultdict[str, list[Path]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[Path]] = defaultdict(list)
        for file in files:
            self._by_name[file.name].append(file)
            self._by_stem[file.stem].append(file)

    @classmethod
    def of(cls, folder: Path, skip: Iterable[Path] = ()) -> PictureFolder:
        """The pictures below ``folder``, hidden files, links out of it and the folders in ``skip`` left out."""
        return cls(find_files(folder, SUFFIXES, skip))

    def find(self, address: str, any_suffix: bool = False) -> Path | None:
        """The file that shares most folder names with an address, from its end; None where none has its name, or several fit equally well.

        Args:
            address: a path or the path of a URL, with forward slashes.
            any_suffix: whether a picture of the same name with another suffix will do.
        """
        wanted = list(reversed(PurePosixPath(address).parts))
        if not wanted:
            return None
        bare = uploaded_name(wanted[0])
        named = self._by_name.get(wanted[0]) or self._by_name.get(bare)
        if not named and any_suffix:
            named = self._by_stem.get(PurePosixPath(wanted[0]).stem) or self._by_stem.get(PurePosixPath(bare).stem)

        def shared(file: Path) -> int:
            parents = zip(wanted[1:], reversed(file.parts[:-1]), strict=False)
            return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], parents)))

        fitting = sorted(named or (), key=shared, reverse=True)
        if len(fitting) > 1 and shared(fitting[0]) == shared(fitting[1]):
            return None
        return fitting[0] if fitting else None


class Pictures:
    """Pictures of a conversion.

    Args:
        roots: the folders the user gave; nothing outside of them is read, links resolved.
        images: the one of them that was named for pictures, to look through by name.
        skip: folders to leave out there, such as the output folder.
    """

    def __init__(self, roots: Iterable[Path], images: Path | None, skip: Iterable[Path] = ()) -> None:
        self.roots = [root.resolve() for root in roots] + ([images.resolve()] if images is not None else [])
        self._bases = self.roots[::-1]
        self._claims: dict[Path, str] = {}  # pictures that were found by another name than their own, and by which
        self._folder = None if images is None else PictureFolder.of(images, skip)

    def add_base(self, folder: Path) -> None:
        """Tell where the dataset itself keeps its pictures."""
        self._bases.insert(len(self._bases) - 1, folder.resolve())

    def inside(self, path: Path) -> bool:
        """True for an existing file in one of the folders."""
        with suppress(OSError, ValueError):  # a name that the system cannot even look for
            return path.is_file() and any(is_inside(path, root) for root in self.roots)
        return False

    def find(self, direct: Path | None, name: str) -> Path | None:
        """The picture at a path, or the one in the images folder that is called so; None if there is none that may be read."""
        if direct is not None and self.inside(direct):
            return direct
        found = None if self._folder is None else self._folder.find(name, any_suffix=True)
        if found is not None and found.name != PurePosixPath(name).name and self._claims.setdefault(found, name) != name:
            return None  # two names cannot mean the same picture
        return found

    def relative(self, picture: Path) -> PurePosixPath:
        """A picture's path below the folder it lies in: the images folder, else the dataset's own folder of pictures, else the source."""
        for root in self._bases:
            with suppress(ValueError):
                return PurePosixPath(picture.resolve().relative_to(root).as_posix())
        return PurePosixPath(picture.name)


def header_of(picture: Path | bytes, where: str, limits: ImageLimits = _LIMITS) -> Header:
    """Upright size, format and whether the picture is stored turned, from its header alone.

    Raises:
        InputError: unreadable, no picture, or too large.
    """
    try:
        return read_header(picture, where if isinstance(picture, bytes) else str(picture), limits)
    except OSError as error:
        raise InputError(f"{where if isinstance(picture, bytes) else picture}: cannot read: {(error.strerror or str(error)).lower()}") from None


def upright_bytes(picture: Path | bytes, where: str) -> bytes:
    """The picture turned as its EXIF orientation says, in its own format; a JPEG is encoded anew with quality 95.

    Raises:
        InputError: it cannot be decoded.
    """
    source: Path | io.BytesIO = io.BytesIO(picture) if isinstance(picture, bytes) else picture
    try:
        with PIL.Image.open(source, formats=FORMATS) as opened:
            turned = PIL.ImageOps.exif_transpose(opened)
            stream = io.BytesIO()
            turned.save(stream, opened.format or "PNG", quality=_QUALITY, icc_profile=opened.info.get("icc_profile"))
            return stream.getvalue()
    except (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{where}: cannot turn the picture upright: {error}") from None


def without_exif(picture: bytes, where: str) -> bytes:
    """The picture as it is stored, without the EXIF that would turn it; a JPEG is encoded anew with quality 95.

    Raises:
        InputError: it cannot be decoded.
    """
    try:
        with PIL.Image.open(io.BytesIO(picture), formats=FORMATS) as opened:
            stream = io.BytesIO()
            opened.save(stream, opened.format or "PNG", quality=_QUALITY, icc_profile=opened.info.get("icc_profile"), exif=b"")
            return stream.getvalue()
    except (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{where}: cannot read the picture in imageData: {error}") from None


def picture_bytes(picture: Path | bytes, where: str) -> bytes:
    """The picture's own bytes.

    Raises:
        InputError: unreadable or too large.
    """
    if isinstance(picture, bytes):
        return picture
    try:
        if picture.stat().st_size > DEFAULT_LIMITS.max_bytes:
            raise InputError(f"{where}: {picture.name} is larger than {DEFAULT_LIMITS.max_bytes >> 20} MiB")
        return picture.read_bytes()
    except OSError as error:
        raise InputError(f"{picture}: cannot read: {(error.strerror or str(error)).lower()}") from None
