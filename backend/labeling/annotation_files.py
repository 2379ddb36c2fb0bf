"""Annotation files of a run, through the writers of formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from backend.core.classes import ClassNames
from backend.core.types import Image, Prediction
from backend.errors import ConfigError
from backend.files.atomic import set_aside, write_atomic
from backend.files.ownership import OutputFolder
from backend.files.pictures import Pictures
from backend.files.stores import exists, is_stored
from backend.formats.base import Format, NoCopies, WriteRequest
from backend.formats.options import WriteOptions
from backend.formats.sample import sample_of
from backend.labeling.run_output import Files
from backend.labeling.sources import ImageItem


class AnnotationFiles:
    """Predictions in an annotation format.

    Args:
        made: the format.
        root: folder.
        names: of the classes, in order.
        url_prefix: put before a picture's path to make its address in Label Studio.
        with_class_files: whether the files that only tell the classes are written.

    Raises:
        ConfigError: more classes than the format can hold.
    """

    def __init__(
        self,
        made: Format,
        root: Path,
        names: Sequence[str],
        *,
        url_prefix: str,
        with_class_files: bool = True,
    ) -> None:
        if made.most_classes is not None and len(names) > made.most_classes:
            raise ConfigError(
                f"--format {made.name}: a label map holds at most {made.most_classes} classes,"
                f" these are {len(names)}"
            )
        self._format = made
        self._root = root
        self._prefix = url_prefix
        self._with_class_files = with_class_files
        self._writer = made.write(
            WriteRequest(
                out=root,
                names=ClassNames(names, fixed=True),
                pictures=Pictures([], None),
                copies=NoCopies(),
                options=WriteOptions(url_prefix=url_prefix, resumable=True),
            )
        )

    def paths(self, item: ImageItem) -> list[Path]:
        return [self._root / path for path in self._writer.paths(item.stem)]

    def is_ours(self, path: Path) -> bool:
        own = self._format.own_folder
        if own is not None and path.is_relative_to(self._root / own):
            return True
        return self._format.is_marked(path)

    def version_of(self, path: Path) -> str | None:
        return self._format.version_in(path)

    def picture_of(self, stem: str) -> str | None:
        path = self._root / self._writer.paths(stem)[0]
        return self._format.picture_named_in(path) if path.is_file() else None

    def encode(self, item: ImageItem, image: Image, prediction: Prediction) -> Files:
        sample = sample_of(
            prediction,
            name=item.relative,
            picture=item.path,
            url=self._prefix + quote(item.relative.as_posix(), errors="surrogateescape"),
            drawing_order=self._format.drawing_order,
        )
        encoded = self._writer.encode(sample, item.stem)
        files = [(self._root / path, content) for path, content in encoded.files]
        return [(path, content) for path, content in files if isinstance(content, bytes)]

    def class_files(self) -> Files:
        if not self._with_class_files:
            return []
        return [(self._root / path, data) for path, data in self._writer.class_files()]

    def close(self, overwrite: bool) -> tuple[list[Path], int]:
        own = {path for path, _ in self._writer.class_files()}
        # In a store, what is joined of all files would have to be read again for it.
        closing = () if is_stored(self._root) else self._writer.close()
        joined = [(path, content) for path, content in closing if path not in own]
        written = _write_class_files(self.class_files(), overwrite)
        if not joined:
            folder = self._root / self._writer.paths("x")[0].parent
            return [folder, *(path for path in written if path.name != "labels.txt")], 0
        place = OutputFolder(self._root, self._format.name, overwrite=overwrite)
        try:
            made = [self._root / path for path, content in joined if place.put(path, content)]
            place.prune(place.leftovers())  # of a run with more images
        finally:
            place.close()
        return [*made, *written], len(place.kept)


def _write_class_files(files: Files, overwrite: bool) -> list[Path]:
    for path, data in files:
        if overwrite and exists(path) and path.read_bytes().strip() != data.strip():
            set_aside(path)
        write_atomic(path, data)
    return [path for path, _ in files]
