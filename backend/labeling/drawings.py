"""Pictures of a run, to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backend.core.classes import class_mapping, map_instances
from backend.core.types import Image, Prediction
from backend.drawing import overlays
from backend.drawing.comparison import compare
from backend.drawing.legend import with_legend
from backend.errors import InputError
from backend.formats.voc.label_maps import label_maps, read_label_map
from backend.labeling.run_output import Files
from backend.labeling.sources import ImageItem


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


def overlays_in(root: Path, *, legend: bool) -> Drawings:
    """Masks, outlines and labels drawn over the images.

    Args:
        root: folder.
        legend: whether pictures get one; for masks that do not overlap.
    """

    def draw(item: ImageItem, image: Image, prediction: Prediction) -> Image:
        drawn = overlays.draw(image, prediction)
        return with_legend(drawn, prediction) if legend else drawn

    return Drawings(root, draw)


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
