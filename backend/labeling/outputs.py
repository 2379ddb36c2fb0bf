"""What a run writes: annotation files through the writers of formats, and pictures to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from backend.core.classes import ClassNames, class_mapping, map_instances
from backend.core.types import Image, Prediction
from backend.drawing import overlays
from backend.drawing.comparison import compare
from backend.drawing.legend import with_legend
from backend.errors import ConfigError, InputError
from backend.files.atomic import set_aside, write_atomic
from backend.files.ownership import OutputFolder
from backend.files.pictures import Pictures
from backend.files.stores import exists, is_stored
from backend.formats.base import Format, NoCopies, WriteRequest
from backend.formats.options import WriteOptions
from backend.formats.registry import format_of
from backend.formats.sample import sample_of
from backend.formats.voc.label_maps import label_maps, read_label_map
from backend.labeling.sources import ImageItem

OUTPUT_FORMATS = ("labelme", "label-studio", "voc", "overlay")
DATASETS = ("coco", "coco-panoptic", "yolo")  # made of labelme files once these are complete
LABELME_FOLDER = "labelme"  # of those

Files = list[tuple[Path, bytes]]


class RunOutput(Protocol):
    """One kind of result of a run."""

    def paths(self, item: ImageItem) -> list[Path]:
        """The files of one image."""

    def is_ours(self, path: Path) -> bool:
        """Whether nobody but this program made an existing file, or changed it since."""

    def version_of(self, path: Path) -> str | None:
        """The model version that made an existing file, where it tells it."""

    def picture_of(self, stem: str) -> str | None:
        """The name of the picture that the files of a stem are for, where they are there and tell
        it.
        """

    def encode(self, item: ImageItem, image: Image, prediction: Prediction) -> Files:
        """The content of ``paths``, in that order; runs on any thread."""

    def class_files(self) -> Files:
        """Small files that tell the classes of all images; a run with others is refused."""

    def close(self, overwrite: bool) -> tuple[list[Path], int]:
        """Write what needs all images.

        Returns:
            The files to point the user at, and how many a person made, which were kept.
        """


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


class Drawings:
    """A picture for every image.

    Args:
        root: folder.
        draw: item, image and prediction to the picture.
    """

    def __init__(self, root: Path, draw: Callable[[ImageItem, Image, Prediction], Image]) -> None:
        self._root = root
        self._draw = draw

    def paths(self, item: ImageItem) -> list[Path]:
        return [self._root / f"{item.stem}.jpg"]

    def is_ours(self, path: Path) -> bool:
        return overlays.made_by_us(path)

    def version_of(self, path: Path) -> str | None:
        return None

    def picture_of(self, stem: str) -> str | None:
        return None

    def encode(self, item: ImageItem, image: Image, prediction: Prediction) -> Files:
        drawn = self._draw(item, image, prediction)
        return [(self.paths(item)[0], overlays.mark_jpeg(overlays.encode_picture(drawn)))]

    def class_files(self) -> Files:
        return []

    def close(self, overwrite: bool) -> tuple[list[Path], int]:
        return [self._root], 0


def _overlay(item: ImageItem, image: Image, prediction: Prediction) -> Image:
    """Masks, outlines and labels drawn over the image."""
    return overlays.draw(image, prediction)


def _overlay_with_legend(item: ImageItem, image: Image, prediction: Prediction) -> Image:
    return with_legend(overlays.draw(image, prediction), prediction)


def comparisons(
    root: Path,
    model_names: Mapping[int, str],
    names: Sequence[str],
    rename: Mapping[str, str],
) -> Drawings:
    """Prediction, truth and error map of the images of a VOC dataset, side by side.

    Args:
        root: folder.
        model_names: class index to name of the model.
        names: of the dataset's classes.
        rename: model's name to the dataset's, where they differ.

    Raises:
        ConfigError: no class of the model is one of the dataset.
    """
    mapping = class_mapping(model_names, names, rename)

    def draw(item: ImageItem, image: Image, prediction: Prediction) -> Image:
        dataset = item.path.parents[len(item.relative.parts)]  # pictures lie in JPEGImages below it
        path = dataset / "SegmentationClass" / item.relative.with_suffix(".png")
        truth = read_label_map(path)
        if truth.shape != image.shape[:2]:
            raise InputError(
                f"{path}: is {truth.shape[1]}x{truth.shape[0]}, its picture"
                f" {image.shape[1]}x{image.shape[0]}"
            )
        known = map_instances(prediction.instances, mapping, names)
        found, _ = label_maps(replace(prediction, instances=tuple(known)))
        return compare(image, truth, found, names)

    return Drawings(root, draw)


def make_outputs(
    formats: Sequence[str],
    out: Path,
    names: Sequence[str],
    url_prefix: str,
    *,
    legend: bool = False,
) -> list[RunOutput]:
    """The outputs of a run.

    Args:
        formats: of ``OUTPUT_FORMATS`` and ``DATASETS``.
        out: output folder.
        names: class names in order.
        url_prefix: put before an image's quoted relative path to make the URL in Label Studio
            tasks.
        legend: whether pictures get one; for masks that do not overlap.

    Raises:
        ConfigError: more classes than a format can hold.
    """
    for_datasets = bool(set(DATASETS) & set(formats))
    made: list[RunOutput] = []
    for name in dict.fromkeys("labelme" if name in DATASETS else name for name in formats):
        if name == "overlay":
            folder = out if set(formats) == {"overlay"} else out / "overlays"
            made.append(Drawings(folder, _overlay_with_legend if legend else _overlay))
            continue
        root = out
        if name == "label-studio":
            root = out / name
        elif name == "labelme" and for_datasets:
            root = out / LABELME_FOLDER
        made.append(
            AnnotationFiles(
                format_of(name),
                root,
                names,
                url_prefix=url_prefix,
                # labels.txt fixes the numbers of classes in what is made of labelme files.
                with_class_files=name != "labelme" or for_datasets,
            )
        )
    return made


def with_earlier_stem(item: ImageItem, outputs: Sequence[RunOutput]) -> ImageItem:
    """An item whose outputs keep the names of an earlier run: a picture that was alone then, and is
    one of several of its name now, has its results under the plain name.
    """
    plain = item.relative.with_suffix("").as_posix()
    if item.stem == plain:
        return item
    was_alone = any(output.picture_of(plain) == item.path.name for output in outputs)
    return replace(item, stem=plain) if was_alone else item


def check_outputs(outputs: Sequence[RunOutput], items: Sequence[ImageItem]) -> None:
    """Refuse, before any work, what would destroy an input.

    Raises:
        ConfigError: naming the file.
    """
    inputs = {item.path.resolve() for item in items}
    for output in outputs:
        for item in items:
            for path in output.paths(item):
                if path.resolve() in inputs:
                    raise ConfigError(
                        f"{path}: is one of the pictures to label, and would be overwritten; choose"
                        " another --out"
                    )


def check_classes(outputs: Sequence[RunOutput], overwrite: bool) -> None:
    """Refuse, before any work, what would mix two sets of classes.

    Raises:
        ConfigError: naming the file.
    """
    for output in outputs:
        for path, data in output.class_files():
            if exists(path) and not overwrite and path.read_bytes().strip() != data.strip():
                raise ConfigError(
                    f"{path}: is there already, for other classes; choose another --out, or"
                    " --overwrite to replace it (a .bak copy is kept)"
                )
