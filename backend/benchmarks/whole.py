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
import torch

from backend.benchmarks.ratios import Measurement
from backend.benchmarks.yardsticks import labelme_file_of_masks
from backend.config.models import Settings
from backend.labeling.annotate import annotate
from backend.labeling.load import build_cascade
from backend.labeling.picture_work import RunOptions
from backend.labeling.sources import collect
from backend.models.openvino import has_openvino, processor_has_bf16
from backend.models.sam2.stock import untrained_sam2
from backend.models.yolo import quiet_ultralytics

_CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
_PICTURES = 20
_OBJECTS = 10  # in each


def _picture(number: int) -> np.ndarray:
    """A picture of 1080p with coarse shapes in it."""
    coarse = np.random.default_rng(number).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (1920, 1080), interpolation=cv2.INTER_CUBIC)


def untrained_yolo(path: Path, name: str = "yolov8n") -> None:
    """Write a YOLO that was never trained; a fresh one is sure that there is nothing, this one is
    sure of nothing.
    """
    quiet_ultralytics(offline=True)
    from ultralytics import YOLO

    torch.manual_seed(0)
    network = YOLO(f"{name}.yaml")
    head = network.model.model[-1]
    for layer in head.modules():
        sure = isinstance(layer, torch.nn.Conv2d) and layer.out_channels == head.nc
        if sure and layer.bias is not None:
            layer.bias.data.zero_()
    network.save(path)


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
    from ultralytics import SAM, YOLO
    from ultralytics.data import annotator

    models = (YOLO(str(yolo)), SAM(str(sam2)))

    def run(folder: Path) -> None:
        # It loads both for every folder, which is no part of the work that is compared.
        annotator.YOLO, annotator.SAM = (lambda path, own=own: own for own in models)
        try:
            annotator.auto_annotate(folder, device="cpu", iou=0.7, max_det=_OBJECTS, output_dir=out)
        finally:
            annotator.YOLO, annotator.SAM = YOLO, SAM

    return run


def _upstream(yolo: Path, sam2: Path, out: Path) -> Callable[[Path], None]:
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor
    from ultralytics import YOLO

    detector = YOLO(str(yolo))
    predictor = SAM2ImagePredictor(build_sam2(_CONFIG, str(sam2), device="cpu"))

    def run(folder: Path) -> None:
        for path in folder.iterdir():
            [found] = detector.predict(
                str(path), device="cpu", max_det=_OBJECTS, agnostic_nms=True, verbose=False
            )
            image = np.asarray(cv2.imread(str(path)))[..., ::-1].copy()
            with torch.inference_mode():
                predictor.set_image(image)
                masks, _, _ = predictor.predict(
                    box=found.boxes.xyxy.cpu().numpy(), multimask_output=False
                )
            labels = [found.names[int(k)] for k in found.boxes.cls]
            size_hw = (image.shape[0], image.shape[1])
            masks = np.asarray(masks, np.float32).reshape(-1, *size_hw)
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
        for number in range(count + 1):
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
                if number:  # everything is loaded, converted and compiled
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
