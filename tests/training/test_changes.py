"""What learning changed: which pictures most, and what is found by size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Image, Instance
from backend.errors import InputError
from backend.evaluation.pairs import Region
from backend.training.changes import Changes

SIZE = (200, 300)


def square(x: int, side: int, label: str = "cell") -> Region:
    full = np.zeros(SIZE, bool)
    full[10 : 10 + side, x : x + side] = True
    mask = mask_from_full(full)
    assert mask is not None
    return Region(key=None, instance=Instance(label, 0, 0.9, mask_xyxy(mask), mask))


def changes() -> Changes:
    found = Changes("before", "after")
    found.take("before", "better", SIZE, [square(10, 20), square(100, 120)], [square(60, 20)])
    found.take("after", "better", SIZE, [square(10, 20), square(100, 120)], [square(10, 20)])
    found.take("offered", "better", SIZE, [], [])
    found.take("before", "worse", SIZE, [square(10, 50)], [square(10, 50)])
    found.take("after", "worse", SIZE, [square(10, 50)], [square(10, 50, "other")])
    found.take("before", "same", SIZE, [square(10, 50)], [square(10, 50)])
    found.take("after", "same", SIZE, [square(10, 50)], [square(12, 50)])
    return found


def test_recall_by_size() -> None:
    """By COCO's sizes; another label does not count."""
    assert changes().recall_by_size() == {
        "before": {
            "small": {"objects": 1, "found": 0},
            "medium": {"objects": 2, "found": 2},
            "large": {"objects": 1, "found": 0},
        },
        "after": {
            "small": {"objects": 1, "found": 1},
            "medium": {"objects": 2, "found": 1},
            "large": {"objects": 1, "found": 0},
        },
    }


def test_the_sheet_shows_what_changed_most(tmp_path: Path) -> None:
    asked: list[str] = []

    def load(name: str) -> Image:
        asked.append(name)
        return np.full((*SIZE, 3), 90, np.uint8)

    changes().write_sheet(tmp_path / "changes.jpg", load)
    assert asked == ["better", "worse", "same"]
    sheet = cv2.imread(str(tmp_path / "changes.jpg"))
    assert sheet is not None
    assert sheet.shape[1] == 1599
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 50, "masks are drawn"


def test_pictures_that_are_gone_cost_themselves(tmp_path: Path) -> None:
    def load(name: str) -> Image:
        if name == "better":
            raise InputError("gone")
        return np.full((*SIZE, 3), 90, np.uint8)

    changes().write_sheet(tmp_path / "changes.jpg", load)
    assert (tmp_path / "changes.jpg").is_file()
    Changes("before", "after").write_sheet(tmp_path / "none.jpg", load)
    assert not (tmp_path / "none.jpg").exists()
