"""Finding the pictures that annotation files name, only below the folders a user gave."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from backend.errors import ConfigError
from backend.files.addresses import uploaded_name
from backend.files.find import find_files, is_inside
from backend.files.images import (
    SUFFIXES,
)

# Where datasets keep pictures, beside the file that names them.
_PICTURE_FOLDERS = ("images", "data", "JPEGImages", "images/default", "train/images")
_SPLIT_FOLDERS = {"val": ("valid", "validation"), "train": (), "test": ()}
# How a name may differ from that of the file it means, the surest first. Label Studio puts eight
# digits before the names of uploads, makes blanks to "_" and drops other marks (Django's
# get_valid_filename); where a name was taken, Django put "_" and seven characters behind it.
_DROPPED = re.compile(r"[^-\w.]")
_AGAIN = re.compile(r"_[0-9A-Za-z]{7}$")


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _as_uploaded(name: str) -> str:
    """A name without what Label Studio changes, the same for a file and for its upload."""
    return _DROPPED.sub("", _composed(name).strip().replace(" ", "_")).casefold()


def _spellings(name: str) -> list[str]:
    """A name with and without the digits before it."""
    bare = uploaded_name(name)
    return [name] if bare == name else [name, bare]


_SAME: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    _composed,
    lambda name: _composed(name).casefold(),
    _as_uploaded,
)


class PictureFolder:
    """All pictures below a folder, found by what others call them.

    Args:
        root: the folder.
        files: the pictures.
    """

    def __init__(self, root: Path, files: Iterable[Path]) -> None:
        self._root = root
        self._named: list[defaultdict[str, list[Path]]] = [defaultdict(list) for _ in _SAME]
        self._stems: list[defaultdict[str, list[Path]]] = [defaultdict(list) for _ in _SAME]
        for file in files:
            for same, named, stems in zip(_SAME, self._named, self._stems, strict=True):
                named[same(file.name)].append(file)
                stems[same(file.stem)].append(file)

    @classmethod
    def of(cls, folder: Path, skip: Iterable[Path] = ()) -> PictureFolder:
        """The pictures below ``folder``, hidden files, links out of it and the folders in ``skip``
        left out.
        """
        return cls(folder, find_files(folder, SUFFIXES, skip))

    def find(self, address: str, any_suffix: bool = False) -> Path | None:
        """The file that shares most folder names with an address, from its end.

        None where none has its name, or several fit equally well.

        Args:
            address: a path or URL.
            any_suffix: whether a picture of the same name with another suffix will do.
        """
        fitting = self.candidates(address, any_suffix)
        return fitting[0] if len(fitting) == 1 else None

    def candidates(self, address: str, any_suffix: bool = False) -> list[Path]:
        """All files that fit best; see ``find``."""
        wanted = list(reversed(PurePosixPath(address.replace("\\", "/")).parts))
        if not wanted:
            return []
        named = self._called(wanted[0], any_suffix)

        def shared(file: Path) -> int:
            parents = zip(wanted[1:], reversed(file.parts[:-1]), strict=False)
            return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], parents)))

        best = max(map(shared, named), default=0)
        return [file for file in named if shared(file) == best]

    def _called(self, name: str, any_suffix: bool) -> list[Path]:
        """The files of the surest spelling that any has; names with their suffix come first."""
        for same, named in zip(_SAME, self._named, strict=True):
            for spelling in _spellings(name):
                if found := named.get(same(spelling)):
                    return found
        path = PurePosixPath(name)
        stems = _spellings(path.stem)
        if any_suffix:
            for same, known in zip(_SAME, self._stems, strict=True):
                for spelling in stems:
                    if found := known.get(same(spelling)):
                        return found
        for spelling in stems:
            if _AGAIN.search(spelling):
                again = _as_uploaded(_AGAIN.sub("", spelling) + path.suffix)
                if found := self._named[-1].get(again):
                    return found
        return []

    def contradicts(self, address: str, file: Path) -> bool:
        """True if both name folders below their roots, and not even the last is the same: most
        likely another picture of that name.
        """
        text = address.replace("\\", "/")
        if "/upload/" in text:  # Label Studio's own folders
            return False
        if "://" in text:
            text = text.partition("://")[2].partition("/")[2].partition("?")[0]
        theirs = [part for part in PurePosixPath(text).parts[:-1] if part not in ("/", "..", ".")]
        ours = file.relative_to(self._root).parts[:-1]
        return bool(theirs and ours) and theirs[-1] != ours[-1]


class Pictures:
    """Pictures of a conversion.

    Args:
        roots: the folders the user gave; nothing outside of them is read, links resolved.
        images: the one of them that was named for pictures, to look through by name.
        skip: folders to leave out there, such as the output folder.
    """

    def __init__(
        self, roots: Iterable[Path], images: Path | None, skip: Iterable[Path] = ()
    ) -> None:
        self.roots = [root.resolve() for root in roots] + (
            [images.resolve()] if images is not None else []
        )
        self._bases = self.roots[::-1]
        self._claims: dict[Path, str] = {}  # pictures that were found by name, and by which
        self.doubtful: Counter[str] = (
            Counter()
        )  # why pictures were not taken that have the name, and how often
        self._images = images
        self._skip = list(skip)
        self._no_pictures: list[Path] = []
        self._folder = None if images is None else PictureFolder.of(images, self._skip)
        self._beside: dict[Path, PictureFolder] = {}  # folders where datasets keep their pictures

    def add_base(self, folder: Path) -> None:
        """Tell where the dataset itself keeps its pictures."""
        self._bases.insert(len(self._bases) - 1, folder.resolve())

    def leave_out(self, folder: Path) -> None:
        """Tell where files lie that look like pictures, and are something else."""
        self._no_pictures.append(folder)
        if self._images is not None:
            self._folder = PictureFolder.of(self._images, [*self._skip, *self._no_pictures])

    def inside(self, path: Path) -> bool:
        """True for an existing file in one of the folders."""
        with suppress(OSError, ValueError):  # a name that the system cannot even look for
            return path.is_file() and any(is_inside(path, root) for root in self.roots)
        return False

    def find(self, direct: Path | None, *names: str) -> Path | None:
        """The picture at a path, or the one in the images folder that is called so.

        A name without folders finds a picture anywhere, one with folders only where they agree: a
        frame of another video is worse than none. For the same reason a picture is not found for
        two.

        Args:
            direct: where it should be.
            names: paths or URLs, the best first.

        Returns:
            None if there is none that may be read, or no telling which; ``doubtful`` counts why.
        """
        if direct is not None and self.inside(direct):
            return direct
        doubt: str | None = None
        if self._folder is None:
            return None
        for name in names:
            fitting = self._folder.candidates(name, any_suffix=True)
            if len(fitting) > 1:
                doubt = "several have the name"
            elif fitting and self._folder.contradicts(name, fitting[0]):
                doubt = "they lie in other folders than files say"
            elif fitting and self._claims.setdefault(fitting[0], names[0]) != names[0]:
                doubt = "they were found for another name already"
            elif fitting:
                return fitting[0]
        self.doubtful.update([doubt] if doubt else [])
        return None

    def beside(self, folder: Path, name: str, splits: Sequence[str] = ()) -> Path | None:
        """A picture where datasets keep theirs: beside the file that names it, or in ``images``,
        ``data`` and the like there, with its name as it is or as programs change it.

        Args:
            folder: of the file that names it.
            name: path below its dataset.
            splits: what the list of the image is called, which may have a folder of its own.
        """
        own = [one for split in splits for one in (split, *_SPLIT_FOLDERS.get(split, ()))]
        inner = ["", *_PICTURE_FOLDERS, *own]
        inner += [f"{a}/{b}" for one in own for a, b in ((one, "images"), ("images", one))]
        places = [folder / place for place in inner]
        wanted = PurePosixPath(name.replace("\\", "/"))
        places = [place for place in places if not self._is_left_out(place / wanted)]
        for place in places:
            if self.inside(place / wanted):
                return place / wanted
        found = [
            file
            for place in dict.fromkeys(places)
            for file in self._listed(place / wanted.parent).candidates(wanted.name)
            if self.inside(file)
        ]
        if len(set(found)) != 1 or self._claims.setdefault(found[0], name) != name:
            return None
        return found[0]

    def _is_left_out(self, path: Path) -> bool:
        return any(is_inside(path, folder) for folder in self._no_pictures)

    def _listed(self, folder: Path) -> PictureFolder:
        if folder not in self._beside:
            try:
                files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
            except (OSError, ValueError):
                files = []
            self._beside[folder] = PictureFolder(folder, sorted(files))
        return self._beside[folder]

    def check(self, path: Path) -> None:
        """Refuse a file of a dataset, such as its list of classes, that is a link to somewhere
        else; one that is not there will do.

        Raises:
            ConfigError: naming it.
        """
        if path.exists() and not self.inside(path):
            raise ConfigError(f"{path}: is a link that leads outside of the folders given")

    def relative(self, picture: Path) -> PurePosixPath:
        """A picture's path below the folder it lies in: the images folder, else the dataset's own
        folder of pictures, else the source.
        """
        for root in self._bases:
            with suppress(ValueError):
                return PurePosixPath(picture.resolve().relative_to(root).as_posix())
        return PurePosixPath(picture.name)
