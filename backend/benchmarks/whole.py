"""``annotate`` as a whole on a CPU, against Ultralytics' ``auto_annotate`` and upstream's loop,
with the same weights: a stock SAM 2.1 tiny and a YOLOv8n that were never trained.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backend.benchmarks.ratios import Measurement
from backend.benchmarks.yardsticks import labelme_file_of_masks
from backend.config.models import Settings
from backend.labeling.annotate import annotate
from backend.labeling.load import build_cascade
from backend.labeling.picture_work import RunOptions
from backend.labeling.sources import collect
from backend.models.openvino import has_openvino, processor_has_bf16
from backend.models.sam2.stock import untrained_sam2
from backend.models.yolo_stock import auto_annotate, detect_and_outline, untrained_yolo

_CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
_PICTURES = 20
_WARM_UP = 3  # pictures that are not counted: a YOLO is converted with the third of a shape
_OBJECTS = 10  # in each


def _picture(number: int) -> np.ndarray:
    """A picture of 1080p with coarse shapes in it."""
    coarse = np.random.default_rng(number).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (1920, 1080), interpolation=cv2.INTER_CUBIC)


def _ours(yolo: Path, sam2: Path, out: Path, **settings: Any) -> Callable[[Path], None]:
    cascade = build_cascade(
        Settings(
            detector=str(yolo),
            segmenter=str(sam2),
            segmenter_config=_CONFIG,
            device="cpu",
            max_det=_OBJECTS,
            **settings,
        )
    )
    options = RunOptions(batch=8, progress=False, overwrite=True)

    def run(folder: Path) -> None:
        summary = annotate(collect([folder], "val").items, cascade, ("labelme",), out, options)
        if summary.failed or not summary.labelled:
            raise RuntimeError(summary.as_text())

    return run


def _auto_annotate(yolo: Path, sam2: Path, out: Path) -> Callable[[Path], None]:
    run = auto_annotate(yolo, sam2, _OBJECTS)
    return lambda folder: run(folder, out)


def _upstream(yolo: Path, sam2: Path, out: Path) -> Callable[[Path], None]:
    outline = detect_and_outline(yolo, sam2, _CONFIG, _OBJECTS)

    def run(folder: Path) -> None:
        for path in folder.iterdir():
            masks, labels = outline(path)
            size_hw = (masks.shape[1], masks.shape[2])
            labelme_file_of_masks(masks, size_hw, labels, out / f"{path.stem}.json")

    return run


def whole_runs(count: int = _PICTURES) -> list[Measurement]:
    """CPU time of theirs over ours, picture by picture, in one process."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        yolo = root / "yolov8n.pt"
        sam2 = root / "sam2.1_t.pt"  # Ultralytics tells a model by the name of its file
        untrained_yolo(yolo)
        untrained_sam2(root).rename(sam2)
        folders = []
        for number in range(_WARM_UP + count):
            folders.append(root / "pictures" / str(number))
            folders[-1].mkdir(parents=True)
            cv2.imwrite(str(folders[-1] / "a.jpg"), _picture(number))
        (root / "out").mkdir()
        make: dict[str, Callable[[Path, Path, Path], Callable[[Path], None]]] = {
            "ours": partial(_ours, precision="float32"),
            "auto_annotate": _auto_annotate,
            "upstream": _upstream,
        }
        if processor_has_bf16():
            make["bf16"] = partial(_ours, precision="bf16")
        ways = {name: one(yolo, sam2, root / "out") for name, one in make.items()}
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for number, folder in enumerate(folders):
            for name, run in ways.items():
                start = time.process_time()
                run(folder)
                if number >= _WARM_UP:  # everything is loaded, converted and compiled
                    spent[name].append(time.process_time() - start)
    return [
        _compared(spent, ours, theirs, goal)
        for ours, goal in (("ours", 1.3), ("bf16", 2.0))
        for theirs in ("auto_annotate", "upstream")
        if ours in spent
    ]


def _compared(spent: dict[str, list[float]], ours: str, theirs: str, goal: float) -> Measurement:
    ratio = statistics.median(a / b for a, b in zip(spent[theirs], spent[ours], strict=True))
    runtime = "OpenVINO" if has_openvino() else "torch"
    precision = " bf16" if ours == "bf16" else ""
    told = " and ".join(f"{statistics.median(spent[name]):.2f} s" for name in (theirs, ours))
    whose = "auto_annotate" if theirs == "auto_annotate" else "upstream's loop"
    return Measurement(
        f"annotate on a CPU ({runtime}{precision}) against {whose}",
        ratio,
        goal,
        True,
        f"{told} of CPU time a picture, {len(spent[ours])} of 1080p",
    )
