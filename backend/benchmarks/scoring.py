"""What scoring costs: counting pixels, and everything about a picture."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.benchmarks.codecs import SIZE_HW, canned_logits
from backend.core.masks import mask_xyxy
from backend.core.types import Instance, Masks
from backend.core.upsample import crop_masks
from backend.evaluation.boundaries import boundaries
from backend.evaluation.image_counts import measure, painted
from backend.evaluation.semantic import confusion

N_VALUES = 32
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def label_map_pairs(count: int, size_hw: tuple[int, int], seed: int = 5) -> list[Pair]:
    """Truth and prediction of ``count`` images: some thirty ragged objects each, borders to ignore,
    and a prediction that is off by a few pixels.
    """
    rng = np.random.default_rng(seed)
    height, width = size_hw
    pairs: list[Pair] = []
    for _ in range(count):
        truth = np.zeros(size_hw, np.uint8)
        for _ in range(30):
            side = int(rng.integers(height // 20, height // 4))
            rough = cv2.GaussianBlur(rng.normal(size=(24, 24)).astype(np.float32), (0, 0), 3)
            blob = cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC) > 0
            y = int(rng.integers(height - side))
            x = int(rng.integers(width - side))
            truth[y : y + side, x : x + side][blob] = rng.integers(1, N_VALUES)
        predicted = np.roll(truth, (int(rng.integers(-3, 4)), int(rng.integers(-3, 4))), (0, 1))
        edge = cv2.morphologyEx(truth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        truth[edge & (rng.random() < 0.5)] = 255
        pairs.append((truth, np.ascontiguousarray(predicted)))
    return pairs


def _spent(
    work: Callable[[NDArray[np.uint8], NDArray[np.uint8]], object], pairs: Sequence[Pair]
) -> float:
    start = time.process_time()
    for truth, predicted in pairs:
        work(truth, predicted)
    return time.process_time() - start


def counting_cost(repeats: int) -> tuple[float, str]:
    """CPU time of ``confusion`` over that of ``boundaries``, the longest step of scoring an image.

    The images of a data set follow each other, so that neither side finds its pixels in the
    processor's cache.

    Args:
        repeats: interleaved pairs behind the median.

    Returns:
        The ratio over both sizes, and what it was for each.
    """
    ratios = []
    parts = []
    for name, size_hw, count in (("1080p", (1080, 1920), 6), ("4K", (2160, 3840), 2)):
        pairs = label_map_pairs(count, size_hw)
        found = []
        for _ in range(repeats + 1):
            longest = _spent(lambda truth, found: boundaries(truth, found, N_VALUES), pairs)
            counting = _spent(lambda truth, found: confusion(truth, found, N_VALUES), pairs)
            found.append(counting / longest)
        ratios.append(statistics.median(found[1:]))
        parts.append(f"{name} {ratios[-1]:.2f}")
    return float(np.exp(np.mean(np.log(ratios)))), ", ".join(parts)


def whole_cost(repeats: int) -> tuple[float, str]:
    """CPU time of everything that is counted about a 1080p picture with ten instances: pixels,
    boundaries and instances.

    Args:
        repeats: interleaved runs behind the medians.

    Returns:
        Milliseconds where the prediction is close to truth, and what it was where it is truth, or
        has nothing to do with it.
    """
    logits = canned_logits(1)
    truth = _instances(logits)
    others = {
        "close": _instances(logits - np.float32(1.5)),
        "equal": truth,
        "unrelated": _instances(canned_logits(3)),
    }
    spent: dict[str, list[float]] = {name: [] for name in others}
    true_map = painted(truth, SIZE_HW, "score")
    for _ in range(repeats + 1):
        for name, predicted in others.items():
            found_map = painted(predicted, SIZE_HW, "score")
            start = time.process_time()
            measure(true_map, found_map, len(truth), truth=truth, predicted=predicted)
            spent[name].append(1e3 * (time.process_time() - start))
    medians = {name: statistics.median(times[1:]) for name, times in spent.items()}
    return medians["close"], ", ".join(f"{name} {one:.1f} ms" for name, one in medians.items())


def _instances(logits: NDArray[np.float32]) -> list[Instance]:
    found = crop_masks(Masks(logits, np.ones(len(logits), np.float32), SIZE_HW))
    return [
        Instance(f"class{k}", k, 0.5, mask_xyxy(mask), mask, 1.0)
        for k, mask in enumerate(found)
        if mask is not None
    ]
