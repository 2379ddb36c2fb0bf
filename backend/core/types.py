"""The values that cross module borders.

Arrays are compared by identity, so the dataclasses are frozen with ``eq=False``. The free functions
in ``boxes`` and ``masks`` validate them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB, upright
Boxes: TypeAlias = NDArray[np.float32]  # (N, 4) xyxy in absolute pixels, half-open
LabelMap: TypeAlias = NDArray[np.integer[Any]]  # (H, W), 0 background, 255 ignore


@dataclass(frozen=True, eq=False)
class Mask:
    """A boolean crop and where its top left pixel lies in the image."""

    x: int
    y: int
    crop: NDArray[np.bool_]  # (h, w)
    # Its runs in a frame of that width, where they are known already; see ``runs.edges_of_mask``.
    runs: tuple[NDArray[np.int64], int] | None = field(default=None, repr=False)

    @cached_property
    def area(self) -> int:
        """Foreground pixels; counted once."""
        # Unlike numpy's, this count holds no lock of the interpreter.
        return cv2.countNonZero(self.crop.view(np.uint8)) if self.crop.size else 0


@dataclass(frozen=True)
class Area:
    """The rectangle of an image that a grid covers, in pixels of the image.

    It may reach beyond the image, as that of a model whose input is padded does.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Masks:
    """A segmenter's answer for one image, still on its own coarse grid; N may be 0.

    Cell (r, c) of the grid is centred at (area.x + (c + .5) area.width / w, area.y + (r + .5)
    area.height / h); without an area the grid covers the whole image. ``upsample.crop_masks`` turns
    it into pixel masks. Until then the small grid is cheap to copy from the device and to queue.
    """

    logits: NDArray[np.floating[Any]]  # (N, h, w) float16 or float32, > 0 is inside
    quality: NDArray[np.float32]  # (N,) the segmenter's own estimate of IoU, 0..1
    size_hw: tuple[int, int]  # of the image
    area: Area | None = None

    def __len__(self) -> int:
        return len(self.logits)

    def keep(self, rows: NDArray[Any]) -> Masks:
        """The masks of some rows.

        Args:
            rows: (N,) bool, or indices.
        """
        return Masks(self.logits[rows], self.quality[rows], self.size_hw, self.area)


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one image; N may be 0.

    ``masks`` is None for a detector that gives boxes only. They are what is drawn where no
    segmenter outlines the boxes.
    """

    xyxy: Boxes  # (N, 4) float32
    class_ids: NDArray[np.int64]  # (N,) index into the detector's names
    scores: NDArray[np.float32]  # (N,) 0..1
    masks: Masks | None = None  # one for each box, in the same order

    def __len__(self) -> int:
        return len(self.class_ids)

    def keep(self, rows: NDArray[Any]) -> Detections:
        """The detections of some rows.

        Args:
            rows: (N,) bool, or indices.
        """
        masks = None if self.masks is None else self.masks.keep(rows)
        return Detections(self.xyxy[rows], self.class_ids[rows], self.scores[rows], masks)


@dataclass(frozen=True, eq=False)
class Proposals:
    """Masks of one image that nobody asked for, the best first; N may be 0."""

    masks: tuple[Mask, ...]
    predicted_iou: NDArray[np.float32]  # (N,) 0..1, the segmenter's own estimate
    stability: NDArray[np.float32]  # (N,) 0..1, IoU of a mask at a lower and a higher threshold
    size_hw: tuple[int, int]  # of the image

    def __len__(self) -> int:
        return len(self.masks)

    def keep(self, rows: Sequence[int]) -> Proposals:
        """The proposals of some rows, by their indices."""
        index = np.array(rows, np.intp)
        return Proposals(
            masks=tuple(self.masks[k] for k in rows),
            predicted_iou=self.predicted_iou[index],
            stability=self.stability[index],
            size_hw=self.size_hw,
        )


@dataclass(frozen=True, eq=False)
class ClassProbabilities:
    """How likely each mask of an image shows each class, and how likely none of them.

    Rows of ``probabilities`` sum to 1 together with ``background``.
    """

    probabilities: NDArray[np.float32]  # (N, K) 0..1, K classes in the order of the namer's names
    background: NDArray[np.float32]  # (N,) 0..1


@dataclass(frozen=True, eq=False)
class NamedProposals:
    """Masks of everything in an image before it is decided which names are given."""

    proposals: Proposals
    names: ClassProbabilities
    class_ids: tuple[int, ...]  # of the columns of ``names``, among the labeler's


@dataclass(frozen=True, eq=False)
class FrameMasks:
    """The followed objects in one frame of a video.

    The ``quality`` of a mask says how sure the model is that its object is seen at all, 0..1; below
    0.5 it is hidden or gone, and the mask is empty.
    """

    frame: int  # 0 is the first
    object_ids: tuple[int, ...]
    masks: Masks  # one for each object, in the same order


@dataclass(frozen=True, eq=False)
class Instance:
    """One object: what it is, how sure the detector is, and where."""

    label: str
    class_id: int  # index into the class names; its value in a label map is class_id + 1
    score: float  # 0..1, of the detector
    xyxy: NDArray[np.float32]  # (4,)
    mask: Mask | None = None  # None where only boxes were asked for
    quality: float | None = None  # 0..1, the segmenter's estimate of its mask's IoU
    stability: float | None = None  # 0..1, of automatic masks: see Proposals
    track: int | None = None  # in a video: the number of its track, from 1 on
    chance: float | None = None  # 0..1, that nobody corrects it, by what people accepted of others


@dataclass(frozen=True, eq=False)
class Prediction:
    """The instances of one image."""

    instances: tuple[Instance, ...]
    size_hw: tuple[int, int]
    model_version: str
    left_out: Mapping[str, int] = field(default_factory=dict)  # why, and how many masks
    everything: NamedProposals | None = None  # of a labeler that names masks of everything


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a person says about one object: a box, signed points, a previous mask, or any of them
    together.
    """

    xyxy: NDArray[np.float32] | None = None  # (4,)
    points_xy: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((0, 2), np.float32)
    )  # (P, 2)
    positive: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))  # (P,)
    logits: NDArray[np.float32] | None = None  # (h, w) of an earlier answer's grid


@dataclass(frozen=True, eq=False)
class Embedding:
    """An encoded image.

    ``features`` belongs to the segmenter that made it and means nothing to others.
    """

    features: Any
    size_hw: tuple[int, int]
    n_bytes: int
