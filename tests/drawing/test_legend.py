"""The legend beside a picture, and the colours of masks that nobody named."""

from __future__ import annotations

import numpy as np
import pytest

from backend.core.colours import class_colour
from backend.core.types import Instance, Mask, Prediction
from backend.drawing.legend import shares_of_classes, with_legend
from backend.drawing.overlays import draw


def found(labels: list[str], size_hw: tuple[int, int] = (240, 640), **more: float) -> Prediction:
    """A column of twelve pixels for each label."""
    instances = []
    for k, label in enumerate(labels):
        mask = Mask(12 * k, 0, np.ones((size_hw[0], 12), np.bool_))
        box = np.array([12 * k, 0, 12 * k + 12, size_hw[0]], np.float32)
        instances.append(Instance(label, 0, 0.9, box, mask, **more))
    return Prediction(tuple(instances), size_hw, "version")


def colours_in(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}


def test_every_class_has_its_colour_and_its_share() -> None:
    prediction = found(["cat", "dog", "cat"])
    assert shares_of_classes(prediction) == {"cat": 24 / 640, "dog": 12 / 640}
    picture = with_legend(np.zeros((240, 640, 3), np.uint8), prediction)
    panel = picture[:, 640:]
    assert picture.shape[0] == 240
    assert {class_colour("cat"), class_colour("dog")} <= colours_in(panel)
    assert (picture[:, :640] == 0).all(), "the picture itself stays as it is"


@pytest.mark.parametrize("count", [1, 12, 50])
def test_all_rows_lie_in_the_panel(count: int) -> None:
    """Where there is no room for all classes, the last row says how many are missing."""
    labels = [f"class {k}" for k in range(count)]
    prediction = found(labels)
    panel = with_legend(np.zeros((240, 640, 3), np.uint8), prediction)[:, 640:]
    listed = [label for label in labels if class_colour(label) in colours_in(panel)]
    ground = panel[0, 0]
    written = np.flatnonzero((panel != ground).any((1, 2)))
    assert written[-1] < 239, "nothing is cut off below"
    assert len(listed) == count if count <= 12 else 5 < len(listed) < 20


def test_masks_without_names_have_colours_of_their_own_and_no_swatch() -> None:
    prediction = found(["object", "object"], quality=0.9)
    image = np.full((240, 640, 3), 255, np.uint8)
    drawn = draw(image, prediction)
    assert tuple(drawn[120, 6]) != tuple(drawn[120, 18])
    panel = with_legend(drawn, prediction)[:, 640:]
    assert class_colour("object") not in colours_in(panel)
    detected = found(["object", "object"], quality=0.5)
    same = draw(image, detected)
    assert tuple(same[200, 6]) == tuple(same[200, 18]), "a detector's class named object"


def test_nothing_found_has_a_legend_as_well() -> None:
    nothing = Prediction((), (40, 60), "version")
    assert with_legend(np.zeros((40, 60, 3), np.uint8), nothing).shape[0] == 40
