"""COCO's mask average precision, by pycocotools, for any number of images in bounded memory.

pycocotools matches a few images at a time; of each prediction only its score and the thresholds at
which it matched are kept, and pycocotools makes the precision-recall curve of those at the end.
"""

from __future__ import annotations

import contextlib
import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 128  # images that are matched at once
_MOST_DETECTIONS = 100  # of an image and class, as COCO has it
_ALL = [[0, 1e10]]  # areas of every size


@dataclass(frozen=True, eq=False)
class _Image:
    truth: NDArray[np.intp]  # (T,) class indices
    predicted: NDArray[np.intp]  # (P,)
    scores: NDArray[np.float64]  # (P,)
    iou: NDArray[np.float64]  # (P, T)


def _evaluator(images: Sequence[_Image], n_classes: int) -> Any:
    """pycocotools on overlaps that are known already, so that no mask has to be encoded for it."""
    from pycocotools.cocoeval import COCOeval

    class Evaluator(COCOeval):  # type: ignore[misc]
        def _prepare(self) -> None:
            empty: list[Any] = []
            self._gts = {(i, c): empty for i in range(len(images)) for c in range(n_classes)}
            self._dts = dict(self._gts)
            for i, image in enumerate(images):
                for c in np.union1d(image.truth, image.predicted).tolist():
                    # Ids from 1, because 0 means no match there.
                    self._gts[i, c] = [
                        {"id": int(k) + 1, "ignore": 0, "iscrowd": 0, "area": 1}
                        for k in np.flatnonzero(image.truth == c)
                    ]
                    self._dts[i, c] = [
                        {"id": int(k) + 1, "score": float(image.scores[k]), "area": 1}
                        for k in np.flatnonzero(image.predicted == c)
                    ]

        def computeIoU(self, image_id: int, class_id: int) -> Any:
            image = images[image_id]
            rows = np.flatnonzero(image.predicted == class_id)
            columns = np.flatnonzero(image.truth == class_id)
            order = np.argsort(-image.scores[rows], kind="mergesort")[:_MOST_DETECTIONS]
            return image.iou[np.ix_(rows[order], columns)] if len(rows) and len(columns) else []

    made = Evaluator(iouType="bbox")  # masks and boxes differ only in how overlaps are computed
    made.params.imgIds = list(range(len(images)))
    made.params.catIds = list(range(n_classes))
    made.params.areaRng = _ALL
    made.params.areaRngLbl = ["all"]
    made.params.maxDets = [_MOST_DETECTIONS]
    return made


class AveragePrecision:
    """Collects images and gives the figures of all of them."""

    def __init__(self) -> None:
        self._waiting: list[_Image] = []
        self._n_truth: dict[int, int] = {}
        self._scores: dict[int, array[float]] = {}
        self._matches: dict[int, array[int]] = {}  # bit k: matched at the k-th threshold

    def add(
        self,
        truth: NDArray[np.intp],
        predicted: NDArray[np.intp],
        scores: NDArray[np.float64],
        iou: NDArray[np.float64],
    ) -> None:
        """Add an image.

        Args:
            truth: (T,) class indices.
            predicted: (P,) class indices.
            scores: (P,) 0..1.
            iou: (P, T).
        """
        self._waiting.append(_Image(truth, predicted, scores, iou))
        if len(self._waiting) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        n_classes = 1 + max(
            (int(c) for image in self._waiting for c in (*image.truth, *image.predicted)),
            default=-1,
        )
        evaluator = _evaluator(self._waiting, n_classes)
        self._waiting = []
        if not n_classes:
            return
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.evaluate()
        for found in filter(None, evaluator.evalImgs):
            c = found["category_id"]
            self._n_truth[c] = self._n_truth.get(c, 0) + len(found["gtIds"])
            bits = (found["dtMatches"] > 0).T @ (1 << np.arange(len(found["dtMatches"])))
            self._scores.setdefault(c, array("d")).extend(found["dtScores"])
            self._matches.setdefault(c, array("H")).extend(bits.astype(int).tolist())

    def __add__(self, other: AveragePrecision) -> AveragePrecision:
        total = AveragePrecision()
        for part in (self, other):
            part._flush()
            for c, n in part._n_truth.items():
                total._n_truth[c] = total._n_truth.get(c, 0) + n
            for c in part._scores:
                total._scores.setdefault(c, array("d")).extend(part._scores[c])
                total._matches.setdefault(c, array("H")).extend(part._matches[c])
        return total

    def in_order(self, new: NDArray[np.intp]) -> AveragePrecision:
        """The same with class k as class ``new[k]``."""
        self._flush()
        moved = AveragePrecision()
        moved._n_truth = {int(new[c]): n for c, n in self._n_truth.items()}
        moved._scores = {int(new[c]): scores for c, scores in self._scores.items()}
        moved._matches = {int(new[c]): bits for c, bits in self._matches.items()}
        return moved

    def figures(self, n_classes: int) -> tuple[dict[str, float], list[float]]:
        """Average precision over all images.

        Args:
            n_classes: class indices lie below.

        Returns:
            ``AP`` (mean over IoU 0.5 to 0.95), ``AP50`` and ``AP75``, each the mean over the
            classes that truth has, and ``AP`` per class; nan where truth has none.
        """
        self._flush()
        evaluator = _evaluator([], n_classes)
        n_thresholds = len(evaluator.params.iouThrs)
        evaluator.evalImgs = []
        for c in range(n_classes):
            scores = np.array(self._scores.get(c, ()), np.float64)
            bits = np.array(self._matches.get(c, ()), np.int64)
            matches = (bits[None, :] >> np.arange(n_thresholds)[:, None]) & 1
            one = {
                "dtScores": scores,
                "dtMatches": matches,
                "dtIgnore": np.zeros_like(matches),
                "gtIgnore": np.zeros(self._n_truth.get(c, 0)),
            }
            evaluator.evalImgs.append(one)  # as if everything of a class were one image
        if not n_classes:
            return dict.fromkeys(("AP", "AP50", "AP75"), float("nan")), []
        evaluator.params.imgIds = [0]
        evaluator.params.maxDets = [1 << 40]
        evaluator._paramsEval = evaluator.params
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.accumulate()
        precision = evaluator.eval["precision"][
            :, :, :, 0, 0
        ]  # (thresholds, recalls, classes), -1 for classes without truth
        precision = np.where(precision < 0, np.nan, precision)
        per_class = [float(np.mean(precision[:, :, c])) for c in range(n_classes)]
        there = [c for c in range(n_classes) if self._n_truth.get(c)]
        rows = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
        return {
            name: float(precision[row][:, :, there].mean()) if there else float("nan")
            for name, row in rows.items()
        }, per_class
