"""A YOLO of Ultralytics without its predictor, for GPUs.

The predictor prepares pictures on the CPU one by one, and waits for the device several times a
picture. Here the pictures of a batch are resized on the device together, and the answer is fetched
once. Letterbox, suppression and scaling follow the predictor's. The model is not replayed as that
of the segmenter is: it keeps places of its own for the last shape it saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from backend.core.types import Image

_GREY = 114  # what is around a picture


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in the model's input, in pixels of the input."""

    height: int  # of the picture
    width: int
    top: int
    bottom: int  # rows below the picture
    left: int
    right: int


def letterbox(size_hw: tuple[int, int], input_hw: tuple[int, int], stride: int) -> Letterbox:
    """Fit a picture into the model's input, with as little around it as the stride allows.

    Args:
        size_hw: of the picture.
        input_hw: most of the input.
        stride: that its sides are multiples of.

    >>> letterbox((1080, 1920), (640, 640), stride=32)
    Letterbox(height=360, width=640, top=12, bottom=12, left=0, right=0)
    """
    scale = min(input_hw[0] / size_hw[0], input_hw[1] / size_hw[1])
    height, width = (max(round(side * scale), 1) for side in size_hw)
    around_y = (input_hw[0] - height) % stride / 2
    around_x = (input_hw[1] - width) % stride / 2
    return Letterbox(
        height=height,
        width=width,
        top=round(around_y - 0.1),
        bottom=round(around_y + 0.1),
        left=round(around_x - 0.1),
        right=round(around_x + 0.1),
    )


def can_go_direct(predictor: Any) -> bool:
    """Whether a predictor does nothing but what is done here."""
    from ultralytics.models.yolo.detect import DetectionPredictor
    from ultralytics.models.yolo.segment import SegmentationPredictor

    return (
        type(predictor) in (DetectionPredictor, SegmentationPredictor)
        and predictor.model.format == "pt"
        and not predictor.model.fp16
        and predictor.args.rect
    )


class DirectYolo:
    """The model of a predictor that was set up.

    Args:
        predictor: of Ultralytics; see ``can_go_direct``.
    """

    def __init__(self, predictor: Any) -> None:
        self._model = predictor.model
        self._args = predictor.args
        self._input_hw = (int(predictor.imgsz[0]), int(predictor.imgsz[1]))
        self._device = torch.device(predictor.device)

    def detect(self, images: Sequence[Image]) -> list[np.ndarray]:
        """Find objects.

        Args:
            images: RGB uint8 (H, W, 3), at least one, all of one size.

        Returns:
            Per image (N, 6) float32: xyxy in pixels, score and class.
        """
        from ultralytics.utils import nms, ops

        height, width = images[0].shape[:2]
        args = self._args
        with torch.inference_mode():
            pixels = self._prepared(images)
            answer = self._model(pixels)
            while isinstance(answer, list | tuple):  # boxes come first
                answer = answer[0]
            found = nms.non_max_suppression(
                answer,
                args.conf,
                args.iou,
                args.classes,
                args.agnostic_nms,
                max_det=args.max_det,
                nc=0 if args.task == "detect" else len(self._model.names),
                end2end=getattr(self._model, "end2end", False),
            )
            together = torch.cat([one[:, :6] for one in found])
            together[:, :4] = ops.scale_boxes(
                tuple(pixels.shape[2:]), together[:, :4], (height, width)
            )
            rows = together.float().cpu().numpy()
        ends = np.cumsum([len(one) for one in found])
        return np.split(rows, ends[:-1])

    def _prepared(self, images: Sequence[Image]) -> Tensor:
        """(B, 3, h, w) float32, 0..1."""
        place = letterbox(
            (images[0].shape[0], images[0].shape[1]), self._input_hw, int(self._model.stride)
        )
        pixels = torch.stack(
            [
                torch.from_numpy(np.ascontiguousarray(image)).to(self._device, non_blocking=True)
                for image in images
            ]
        )
        resized = F.interpolate(
            pixels.permute(0, 3, 1, 2).float(),
            (place.height, place.width),
            mode="bilinear",
            align_corners=False,
        ).round()
        padding = (place.left, place.right, place.top, place.bottom)
        return F.pad(resized, padding, value=_GREY).div_(255)
