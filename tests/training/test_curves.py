"""Curves for TensorBoard, which nobody has to have."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from backend.training.curves import with_curves
from backend.training.logs import read_curves
from backend.training.segmenter_loop import Progress

EPOCH = Progress(done=0.5, epoch=3, loss=0.25, validation=0.75, best=0.8)


class Writer:
    made: ClassVar[list[Writer]] = []

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.rows: list[tuple[str, float, int]] = []
        self.is_closed = False
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((name, value, step))

    def close(self) -> None:
        self.is_closed = True


def test_each_epoch_is_a_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    heard: list[Progress] = []
    with with_curves(tmp_path, heard.append) as tell:
        tell(EPOCH)
    assert heard == [EPOCH]
    [writer] = Writer.made
    assert writer.folder == str(tmp_path / "tensorboard")
    assert writer.rows == [("segmenter/loss", 0.25, 3), ("segmenter/validation IoU", 0.75, 3)]
    assert writer.is_closed


def test_without_the_package_nothing_is_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    heard: list[Progress] = []
    with with_curves(tmp_path, heard.append) as tell:
        tell(EPOCH)
    assert heard == [EPOCH]
    assert not list(tmp_path.iterdir())


def test_the_last_training_of_a_run_is_drawn(tmp_path: Path) -> None:
    """What a kill cut off, what came twice, and a loss that is no number are left out."""

    def row(epoch: int, validation: float, loss: float = 1.0) -> str:
        return json.dumps({"epoch": epoch, "loss": loss, "validation": validation}) + "\n"

    before = [row(k, 0.9) for k in range(1, 5)]
    now = [row(1, 0.1), row(2, 0.2), row(2, 0.3), row(3, 0.4), row(4, 0.5, float("nan"))]
    (tmp_path / "segmenter-log.jsonl").write_text("".join([*before, *now]) + '{"epoch": 5, "lo')
    (tmp_path / "detector-log.jsonl").write_text(row(1, 0.1))
    assert read_curves(tmp_path, ("detector", "segmenter")) == [
        {
            "what": "segmenter",
            "figure": "IoU",
            "epoch": [1.0, 2.0, 3.0],
            "loss": [1.0, 1.0, 1.0],
            "validation": [0.1, 0.3, 0.4],
        }
    ]
    assert read_curves(tmp_path, ("detector",)) == []
