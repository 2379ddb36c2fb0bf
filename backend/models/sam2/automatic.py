"""Masks of everything in an image, from a grid of points, by SAM 2.

What is asked and what is kept is as in ``sam2.automatic_mask_generator`` (sam2 1.1.0). The way is
another: masks stay on the decoder's small grid until it is known which of them are kept, and two
masks of one thing are told by the masks themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from backend.config.automatic import AutomaticOptions
from backend.core.masks import without_small_regions
from backend.core.proposing import (
    Crop,
    crops_of,
    distinct,
    distinct_grids,
    is_cut,
    only_piece,
    point_grid,
)
from backend.core.types import Image, Mask, Proposals
from backend.core.upsample import crop_mask
from backend.errors import ConfigError
from backend.models.chunks import in_chunks
from backend.models.sam2.image import Sam2Segmenter
from backend.models.sam2.preprocess import Features, decoded

_MASK_LIMIT = 32.0  # of a mask that is given as a prompt, as in the package
# The stability on the small grid differs from that in pixels by what the cells of the outline make
# of it, and these go with the root of the area. Where that could decide, pixels are counted.
_LOGIT_LIMIT = 60_000.0  # of float16
_MANY = 512  # candidates that are held before those of one thing are told apart
_DOUBT = 1.6  # over the root of the area in cells


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Masks of one crop on the decoder's grid, on the host."""

    logits: np.ndarray  # (N, h, w) float16, with the threshold at 0
    quality: np.ndarray  # (N,) float32
    stability: np.ndarray  # (N,) float32

    def keep(self, rows: np.ndarray | list[int]) -> _Candidates:
        return _Candidates(self.logits[rows], self.quality[rows], self.stability[rows])

    @classmethod
    def joined(cls, parts: Sequence[_Candidates]) -> _Candidates:
        """Those of several calls, at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([one.logits for one in parts]),
            np.concatenate([one.quality for one in parts]),
            np.concatenate([one.stability for one in parts]),
        )


@dataclass(frozen=True, eq=False)
class _Found:
    """One mask in pixels of the image, and the crop it was seen in."""

    mask: Mask
    quality: float
    stability: float
    crop: Crop


class Sam2Proposer:
    """Automatic masks of a SAM 2.

    Args:
        segmenter: loaded before; shared with boxes and clicks.
        options: see ``AutomaticOptions``.

    Raises:
        ConfigError: point grids for another number of layers.
    """

    def __init__(self, segmenter: Sam2Segmenter, options: AutomaticOptions) -> None:
        options = options.resolved(segmenter.automatic)
        grids = options.point_grids
        self._n_layers = options.crop_n_layers or 0
        if grids is not None and len(grids) != self._n_layers + 1:
            raise ConfigError(
                f"--point-grids: has points for {len(grids)} layers, the image and"
                f" --crop-n-layers make {self._n_layers + 1}"
            )
        self._segmenter = segmenter
        self._options = options
        self._least_iou = options.pred_iou_thresh or 0.0
        self._least_stability = options.stability_score_thresh or 0.0
        self._same = (options.mask_nms_thresh or 0.0, options.nested_thresh or 0.0)
        # Whatever decides results; how many points go at once does not.
        names = [one.name for one in fields(AutomaticOptions) if one.name != "points_per_batch"]
        recipe = json.dumps([segmenter.version, {name: getattr(options, name) for name in names}])
        digest = sha256(recipe.encode()).hexdigest()[:8]
        self._version = f"{segmenter.version.rpartition('-')[0]}-automatic-{digest}"

    @property
    def version(self) -> str:
        """The segmenter's name, and a digest of its weights and all options."""
        return self._version

    def _points(self, layer: int) -> np.ndarray:
        options = self._options
        if options.point_grids is not None:
            return np.array(options.point_grids[layer], np.float32)
        side = int((options.points_per_side or 1) / options.crop_n_points_downscale_factor**layer)
        return point_grid(max(1, side))

    def propose(self, images: Sequence[Image]) -> list[Proposals]:
        """Outline everything in some images.

        Args:
            images: RGB uint8 (H, W, 3), any sizes.

        Returns:
            Per image the masks that passed the thresholds, the best first.

        Raises:
            Unavailable: out of memory even with a single image or point.
        """
        options = self._options
        found: list[list[_Found]] = [[] for _ in images]
        cut = [
            (k, crop)
            for k, image in enumerate(images)
            for crop in crops_of(_size(image), self._n_layers, options.crop_overlap_ratio)
        ]
        for start in range(0, len(cut), max(1, len(images))):
            part = cut[start : start + len(images)]
            pixels = [images[k][crop.y0 : crop.y1, crop.x0 : crop.x1] for k, crop in part]
            with self._segmenter.scope():
                features = self._segmenter.encode_all(pixels)
            for row, (k, crop) in enumerate(part):
                one = features.rows(torch.tensor([row], device=self._segmenter.device))
                found[k] += self._of_crop(one, crop, _size(images[k]))
        return [
            self._chosen(of_image, _size(image))
            for of_image, image in zip(found, images, strict=True)
        ]

    def _of_crop(self, features: Features, crop: Crop, size_hw: tuple[int, int]) -> list[_Found]:
        points = self._points(crop.layer) * np.float32(self._segmenter.model.image_size)
        where = torch.from_numpy(points).to(self._segmenter.device)
        chunk = self._options.points_per_batch
        if self._options.use_m2m and self._options.multimask_output:
            chunk = max(1, chunk // 3)  # each of the three masks of a point is a prompt
        kept: list[_Candidates] = []

        def run(start: int, stop: int) -> None:
            kept.append(self._answers(features, where[start:stop], crop, size_hw))
            if sum(len(one.quality) for one in kept) > _MANY:
                kept[:] = [self._distinct(kept)]

        with self._segmenter.scope():
            in_chunks(self._segmenter.device, len(where), chunk, "points", run)
        if not kept:
            return []
        if self._options.duplicates == "mask":
            return list(self._in_pixels(self._distinct(kept), crop, size_hw))
        # Only boxes are held until it is known which masks stay.
        every = _Candidates.joined(kept)
        seen = [
            (k, one.quality, _corners(one.mask))
            for k in range(len(every.quality))
            for one in self._in_pixels(every.keep([k]), crop, size_hw)
        ]
        boxes = [box for _, _, box in seen]
        rows = _box_nms(boxes, [quality for _, quality, _ in seen], self._options.box_nms_thresh)
        return list(self._in_pixels(every.keep([seen[k][0] for k in rows]), crop, size_hw))

    def _distinct(self, found: Sequence[_Candidates]) -> _Candidates:
        """One mask for each thing, where masks tell that; else all."""
        every = _Candidates.joined(found)
        if self._options.duplicates != "mask" or not len(every.quality):
            return every
        scores = _goodness(every.quality, every.stability)
        return every.keep(distinct_grids(every.logits > 0, scores, *self._same))

    def _answers(
        self, features: Features, where: Tensor, crop: Crop, size_hw: tuple[int, int]
    ) -> _Candidates:
        """Decode points of a crop; only what passes the thresholds comes to the host."""
        options = self._options
        model = self._segmenter.model
        points = where[:, None]
        labels = torch.ones(len(where), 1, dtype=torch.int, device=where.device)
        answer = decoded(model, features, points, labels, multimask=options.multimask_output)
        if options.use_m2m:
            per_point = answer.logits.shape[1]
            before = answer.logits.flatten(0, 1)[:, None].clamp(-_MASK_LIMIT, _MASK_LIMIT)
            points, labels = (one.repeat_interleave(per_point, 0) for one in (points, labels))
            answer = decoded(model, features, points, labels, before.float())
        logits = answer.logits.flatten(0, 1).float()
        quality = answer.quality.flatten().float()
        keep = quality > self._least_iou if self._least_iou > 0 else quality >= 0
        logits = logits[keep] - options.mask_threshold
        quality = quality[keep]
        if options.connected:
            owner = torch.arange(len(where), device=where.device)
            owner = owner.repeat_interleave(len(keep) // len(where))[keep]
            logits = self._pieces(logits, where[owner])
        high = (logits > options.stability_score_offset).sum((1, 2))
        low = (logits > -options.stability_score_offset).sum((1, 2))
        stability = high / low.clamp(min=1)
        doubt = _DOUBT / low.clamp(min=1).sqrt()
        keep = (logits > 0).any(2).any(1) & (stability + doubt >= self._least_stability)
        rows = torch.nonzero(keep)[:, 0]
        return self._stable(
            _Candidates(
                logits[rows].clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).half().cpu().numpy(),
                quality[rows].cpu().numpy(),
                stability[rows].cpu().numpy().astype(np.float32),
            ),
            doubt[rows].cpu().numpy(),
            crop,
            size_hw,
        )

    def _pieces(self, logits: Tensor, where: Tensor) -> Tensor:
        """Of each mask the piece in which its point lies."""
        shares = (where / self._segmenter.model.image_size).cpu().numpy()
        pieces = [
            only_piece(one, *at)
            for one, at in zip(logits.cpu().numpy(), shares.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(pieces)).to(logits.device) if pieces else logits

    def _stable(
        self, found: _Candidates, doubt: np.ndarray, crop: Crop, size_hw: tuple[int, int]
    ) -> _Candidates:
        """Those that are stable and that no edge of the crop cut.

        Pixels are counted where the small grid leaves doubt.
        """
        least = self._least_stability
        offset = np.float32(self._options.stability_score_offset)
        stability = found.stability.copy()
        for k in np.flatnonzero(np.abs(stability - least) <= doubt):
            high, low = (
                crop_mask(found.logits[k].astype(np.float32) - shift, size_hw, crop.area)
                for shift in (offset, -offset)
            )
            count = 0 if high is None else high.area
            stability[k] = count / (1 if low is None else low.area)
        keep = (stability >= least) & ~self._are_cut(found.logits > 0, crop, size_hw)
        return _Candidates(found.logits, found.quality, stability).keep(keep)

    def _are_cut(self, inside: np.ndarray, crop: Crop, size_hw: tuple[int, int]) -> np.ndarray:
        """Which masks an edge of the crop cut, to the nearest cell: (N,) bool.

        They must not decide which of the others are duplicates.
        """
        cut = np.zeros(len(inside), np.bool_)
        if crop.layer == 0:
            return cut
        cell = np.array([crop.area.width / inside.shape[2], crop.area.height / inside.shape[1]])
        corner = np.array([crop.x0, crop.y0])
        for k, one in enumerate(inside):
            cols, rows = np.flatnonzero(one.any(0)), np.flatnonzero(one.any(1))
            low = corner + np.array([cols[0], rows[0]]) * cell
            high = corner + np.array([cols[-1] + 1, rows[-1] + 1]) * cell - 1
            cut[k] = is_cut(np.concatenate([low, high]), crop, size_hw)
        return cut

    def _in_pixels(
        self, found: _Candidates, crop: Crop, size_hw: tuple[int, int]
    ) -> Iterator[_Found]:
        """Masks in pixels of the image, but for those that an edge of the crop cut."""
        smallest = self._options.min_mask_region_area
        for logits, quality, stability in zip(
            found.logits, found.quality.tolist(), found.stability.tolist(), strict=True
        ):
            mask = crop_mask(logits, size_hw, crop.area)
            if mask is None or is_cut(_corners(mask), crop, size_hw):
                continue
            if smallest:
                mask = without_small_regions(mask, smallest)
            yield _Found(mask, min(quality, 1.0), stability, crop)

    def _chosen(self, found: list[_Found], size_hw: tuple[int, int]) -> Proposals:
        """The masks of all crops of an image without duplicates, the best first."""
        options = self._options
        masks = [one.mask for one in found]
        quality = np.array([one.quality for one in found], np.float32)
        stability = np.array([one.stability for one in found], np.float32)
        if options.duplicates == "mask":
            scores = _goodness(quality, stability)
            rows = distinct(masks, scores, *self._same)
        elif self._n_layers:
            # The package prefers masks of smaller crops.
            sides = [one.crop.area for one in found]
            smaller = [1 / (one.width * one.height) for one in sides]
            boxes = [_corners(mask) for mask in masks]
            rows = _box_nms(boxes, smaller, options.crop_nms_thresh)
            rows.sort(key=lambda k: -quality[k])
        else:
            rows = list(range(len(found)))
        return Proposals(tuple(masks), quality, stability, size_hw).keep(rows)


def _goodness(quality: np.ndarray, stability: np.ndarray) -> np.ndarray:
    """What decides between masks of one thing.

    The stability weighs more: of masks that differ in a neighbour that one of them took in, it is
    the one that tells.
    """
    return np.asarray(quality * stability**4)


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _corners(mask: Mask) -> np.ndarray:
    """The first and the last pixel of a mask's box, as the package measures boxes: (4,)."""
    h, w = mask.crop.shape
    return np.array([mask.x, mask.y, mask.x + w - 1, mask.y + h - 1], np.float32)


def _box_nms(boxes: Sequence[np.ndarray], scores: Sequence[float], most_iou: float) -> list[int]:
    from torchvision.ops import nms

    corners = torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))
    kept: list[int] = nms(corners, torch.tensor(scores, dtype=torch.float32), most_iou).tolist()
    return kept
