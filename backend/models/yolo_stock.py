"""A stock YOLO that was never trained, which costs what a real one costs, and how others label with
it and a SAM 2: yardsticks of the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from backend.models.yolo import quiet_ultralytics


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


def auto_annotate(yolo: Path, sam2: Path, most: int) -> Callable[[Path, Path], None]:
    """Ultralytics' ``auto_annotate`` over a folder, into another, with models that are there.

    Args:
        yolo: weights.
        sam2: weights, by a name that Ultralytics knows.
        most: detections in a picture.
    """
    quiet_ultralytics(offline=True)
    from ultralytics import SAM, YOLO
    from ultralytics.data import annotator

    detector, segmenter = YOLO(str(yolo)), SAM(str(sam2))

    def run(folder: Path, out: Path) -> None:
        # It loads both for every folder, which is no part of the work that is compared.
        annotator.YOLO, annotator.SAM = lambda path: detector, lambda path: segmenter
        try:
            annotator.auto_annotate(folder, device="cpu", iou=0.7, max_det=most, output_dir=out)
        finally:
            annotator.YOLO, annotator.SAM = YOLO, SAM

    return run


def detect_and_outline(
    yolo: Path, sam2: Path, config: str, most: int
) -> Callable[[Path], tuple[NDArray[np.float32], list[str]]]:
    """Upstream's loop for one picture: a YOLO, then ``SAM2ImagePredictor`` with its boxes.

    Args:
        yolo: weights.
        sam2: weights.
        config: a name inside the sam2 package.
        most: detections in a picture.

    Returns:
        A file to masks (N, H, W) of 0 and 1, and N labels.
    """
    quiet_ultralytics(offline=True)
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor
    from ultralytics import YOLO

    detector = YOLO(str(yolo))
    predictor = SAM2ImagePredictor(build_sam2(config, str(sam2), device="cpu"))

    def outline(path: Path) -> tuple[NDArray[np.float32], list[str]]:
        [found] = detector.predict(
            str(path), device="cpu", max_det=most, agnostic_nms=True, verbose=False
        )
        image = np.asarray(cv2.imread(str(path)))[..., ::-1].copy()
        predictor.set_image(image)
        boxes = found.boxes.xyxy.cpu().numpy()
        masks, _, _ = predictor.predict(box=boxes, multimask_output=False)
        made = np.asarray(masks, np.float32).reshape(-1, *image.shape[:2])
        return made, [found.names[int(k)] for k in found.boxes.cls]

    return outline
