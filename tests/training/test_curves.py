"""Curves for TensorBoard, which nobody has to have."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from backend.training.curves import with_curves
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
