"""Measurements of the host side against its peers: ratios in one process, by CPU time, interleaved,
medians.

The models are replaced by canned 256x256 logits of ten objects on a 1080p image, so that only our
own work is measured.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.config.process import limit_arenas
from backend.core.classes import ClassNames
from backend.core.masks import full_frame, mask_from_full, mask_xyxy
from backend.core.types import Instance, Mask, Masks, Prediction
from backend.core.upsample import crop_masks
from backend.files.atomic import write_atomic
from backend.files.pictures import Pictures
from backend.formats.base import NoCopies, WriteRequest
from backend.formats.coco import segmentation as coco
from backend.formats.json_text import json_bytes
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio import results as labelstudio
from backend.formats.options import WriteOptions
from backend.formats.registry import format_of
from backend.formats.sample import sample_of
from backend.labeling import pipeline

SIZE_HW = (1080, 1920)
_BOXES = 10


@dataclass(frozen=True)
class Row:
    """One measurement: ``value`` against ``goal``, at least or at most."""

    name: str
    value: float
    goal: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool:
        """True if the goal is reached."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def as_text(self) -> str:
        """One line for people."""
        sign = ">=" if self.at_least else "<="
        return (
            f"{'ok  ' if self.met else 'MISS'} {self.name:<52} {self.value:8.2f}  (goal {sign}"
            f" {self.goal:g}; {self.detail})"
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "met": self.met}


def canned_logits(seed: int = 1) -> NDArray[np.float32]:
    """Smooth, slightly ragged blobs with a hole here and there: (10, 256, 256) float32, 2 to 15 %
    of the frame each.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    grids = []
    for k in range(_BOXES):
        cx = rng.uniform(60, 196)
        cy = rng.uniform(60, 196)
        radius = rng.uniform(20, 56)
        field = (
            radius
            - np.hypot(x - cx, y - cy)
            + 3 * cv2.GaussianBlur(rng.normal(size=(256, 256)).astype(np.float32), (0, 0), 3) * 4
        )
        if k % 3 == 0:
            field = np.minimum(field, np.hypot(x - cx, y - cy) - radius * 0.3)
        grids.append(field)
    return np.stack(grids).astype(np.float32)


def _prediction(logits: NDArray[np.float32]) -> Prediction:
    masks = crop_masks(Masks(logits, np.ones(len(logits), np.float32), SIZE_HW))
    instances = [
        Instance(f"class{k}", k, 0.5, mask_xyxy(mask), mask, 1.0)
        for k, mask in enumerate(masks)
        if mask is not None
    ]
    return Prediction(tuple(instances), SIZE_HW, "bench")


def _ratio(
    theirs: Callable[[], object], ours: Callable[[], object], repeats: int
) -> tuple[float, float, float]:
    """Median of the paired CPU time ratios, and both medians in milliseconds."""

    def spent(work: Callable[[], object], times: int) -> float:
        start = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - start) / times

    spent(theirs, 1)
    once = max(spent(ours, 2), 1e-6)
    times = max(1, int(0.03 / once))  # long enough for the clock
    pairs = [(spent(theirs, 1), spent(ours, times)) for _ in range(repeats)]
    return (
        statistics.median(a / b for a, b in pairs),
        1e3 * statistics.median(a for a, _ in pairs),
        1e3 * statistics.median(b for _, b in pairs),
    )


def labelme_file_of(prediction: Prediction) -> bytes:
    """The labelme file of a prediction, as ``annotate`` writes it."""
    made = format_of("labelme")
    writer = made.write(
        WriteRequest(
            out=Path(),
            names=ClassNames(),
            pictures=Pictures([], None),
            copies=NoCopies(),
            options=WriteOptions(resumable=True),
        )
    )
    sample = sample_of(prediction, name=PurePosixPath("a.jpg"), drawing_order=made.drawing_order)
    ((_, content),) = writer.encode(sample, "a").files
    return content if isinstance(content, bytes) else b""


def _routes(repeats: int, folder: Path) -> list[Row]:
    from backend.benchmarks.yardsticks import label_studio_json, labelme_file
    from backend.models.sam2.stock import use_one_thread

    use_one_thread()
    logits = canned_logits()
    labels = [f"class{k}" for k in range(_BOXES)]
    half = logits.astype(np.float16).astype(
        np.float32
    )  # what leaves the device; rounded once for both sides

    def to_json(prediction: Prediction) -> str:
        return labelstudio.result_of(prediction, labelstudio.plain_outputs(prediction)).regions

    studio = _ratio(
        lambda: label_studio_json(half, SIZE_HW, labels),
        lambda: to_json(_prediction(half)),
        repeats,
    )
    theirs = folder / "theirs.json"
    ours = folder / "ours.json"
    files = _ratio(
        lambda: labelme_file(half, SIZE_HW, labels, theirs),
        lambda: ours.write_bytes(labelme_file_of(_prediction(half))),
        repeats,
    )
    names = (
        "logits -> Label Studio RLE JSON, against mask2rle",
        "logits -> labelme file, against upstream's route",
    )
    return [
        Row(name, ratio, 20, True, f"{slow:.1f} ms against {fast:.2f} ms")
        for name, (ratio, slow, fast) in zip(names, (studio, files), strict=True)
    ]


def mask_set() -> list[tuple[str, NDArray[np.bool_]]]:
    """Twelve masks: three sizes of image, and small, smooth, holed and ragged objects."""
    rng = np.random.default_rng(7)
    masks = []
    for height, width in ((480, 640), SIZE_HW, (2160, 3840)):
        y, x = np.mgrid[:height, :width].astype(np.float32)
        middle = np.hypot((y - height / 2), (x - width / 2))
        side = min(height, width)
        rough = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), 1.0)
        smooth = cv2.resize(
            rng.normal(size=(24, 32)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        disc = middle + smooth * side * 0.03 < side * 0.35
        masks += [
            ("small", middle < side * 0.036),
            ("smooth", disc),
            ("holed", disc & (smooth < 0.9)),
            ("ragged", disc & (rough > -0.25)),
        ]
    return masks


def _rle(repeats: int) -> list[Row]:
    from label_studio_sdk.converter.brush import decode_rle, mask2rle

    encode = []
    decode = []
    for _, full in mask_set():
        grey = full.astype(np.uint8) * 255
        crop = mask_from_full(full)
        size = (full.shape[0], full.shape[1])
        text = mask2rle(grey)
        ours, _, _ = _ratio(partial(mask2rle, grey), partial(rle.encode, crop, size), repeats)
        encode.append(ours)
        ours, _, _ = _ratio(partial(decode_rle, text), partial(rle.decode, text, size), repeats)
        decode.append(ours)
    return [
        _mean_row("RLE encode against the SDK", encode, 15),
        _mean_row("RLE decode against the SDK", decode, 20),
    ]


def _mean_row(name: str, ratios: Sequence[float], goal: float) -> Row:
    mean = float(np.exp(np.mean(np.log(ratios))))
    return Row(
        f"{name}, geometric mean of {len(ratios)}",
        mean,
        goal,
        True,
        f"{min(ratios):.1f}x to {max(ratios):.1f}x",
    )


def _coco(repeats: int) -> list[Row]:
    """COCO's run lengths from a crop and back to one, against pycocotools, which works on whole
    frames in column order.
    """
    from pycocotools import mask as coco_mask

    encode = []
    decode = []
    for _, full in mask_set():
        crop = mask_from_full(full)
        size = (full.shape[0], full.shape[1])
        if crop is None:
            continue
        theirs = coco_mask.encode(np.asfortranarray(full.view(np.uint8)))
        ours = coco.encode(crop, size)

        def by_frame(mask: Mask = crop, size: tuple[int, int] = size) -> object:
            return coco_mask.encode(np.asfortranarray(full_frame(mask, size).view(np.uint8)))

        def to_crop(encoded: Any = theirs) -> object:
            return mask_from_full(coco_mask.decode(encoded))

        ratio, _, _ = _ratio(by_frame, partial(coco.encode, crop, size), repeats)
        encode.append(ratio)
        ratio, _, _ = _ratio(to_crop, partial(coco.decode, ours, size), repeats)
        decode.append(ratio)
    return [
        _mean_row("COCO run lengths against pycocotools, encode", encode, 1),
        _mean_row("COCO run lengths against pycocotools, decode", decode, 1),
    ]


def stub_run(count: int, size_hw: tuple[int, int] = (540, 960)) -> int:
    """Push ``count`` stub images through the real pipeline and both encoders.

    Returns this process's peak memory in KiB.
    """
    limit_arenas()
    logits = canned_logits()

    def finish(key: int, image: NDArray[np.uint8], answer: Masks) -> list[bytes]:
        masks = [mask for mask in crop_masks(answer) if mask is not None]
        prediction = Prediction(
            tuple(_instance(k, mask) for k, mask in enumerate(masks)), answer.size_hw, "stub"
        )
        return [
            labelme_file_of(prediction),
            json_bytes(labelstudio.task_object(prediction, "a.jpg")),
        ]

    with tempfile.TemporaryDirectory() as folder:
        stages = pipeline.Stages[int, NDArray[np.uint8], Masks, list[bytes]](
            load=lambda key: np.full((*size_hw, 3), key % 256, np.uint8),
            infer=lambda images: [
                Masks(logits, np.ones(_BOXES, np.float32), size_hw) for _ in images
            ],
            finish=finish,
            write=lambda key, files: write_atomic(
                Path(folder) / f"{key % 8}.json", b"".join(files)
            ),
        )
        for outcome in pipeline.run(range(count), stages, batch=8, workers=2):
            if outcome.error is not None:
                raise outcome.error
    return peak_kib()


def _instance(k: int, mask: Mask) -> Instance:
    return Instance(f"class{k}", k, 0.5, mask_xyxy(mask), mask, 1.0)


def _memory() -> Row:
    small, large = (
        _peak(f"from backend.bench import stub_run; stub_run({count})") for count in (50, 1000)
    )
    return Row(
        "peak memory, 1000 stub images over 50",
        large / small,
        1.05,
        False,
        f"{large // 1024} MiB over {small // 1024} MiB",
    )


def _overlap(items: int = 300, stage_s: float = 0.02) -> Row:
    """Wall time of sleeping stages over their slowest.

    Two workers share loading and finishing, the model is the slowest.
    """

    def after(seconds: float, value: Any) -> Any:
        time.sleep(seconds)
        return value

    stages = pipeline.Stages[int, int, int, int](
        load=lambda key: after(stage_s * 1.6, key),
        infer=lambda batch: after(stage_s * len(batch), list(batch)),
        finish=lambda key, item, answer: after(stage_s * 1.6, key),
        write=lambda key, item: after(stage_s * 0.8, None),
    )
    start = time.perf_counter()
    done = sum(1 for _ in pipeline.run(range(items), stages, batch=8, workers=2))
    wall = time.perf_counter() - start
    return Row(
        "staged wall time over the slowest stage",
        wall / (stage_s * done),
        1.1,
        False,
        f"{wall:.2f} s for {done} items",
    )


def _second_click() -> Row:
    from backend.benchmarks.clicks import second_click

    value, detail = second_click()
    return Row("second prompt on an image over the first", value, 0.1, False, detail)


def _prelabelling() -> list[Row]:
    from backend.benchmarks import prelabel as bench_prelabel

    overlap = bench_prelabel.overlap()
    requests = bench_prelabel.requests()
    doubling = bench_prelabel.doubling()
    small, large = (
        _peak(f"from backend.bench_prelabel import stub_run; stub_run({n}, 0.0005, 2 << 20, 20000)")
        for n in (200, 5000)
    )
    return [
        Row("prelabel: wall time over the slowest stage", overlap[0], 1.1, False, overlap[1]),
        Row("prelabel: requests beyond 2 for 100 tasks", requests[0], 5, False, requests[1]),
        Row("prelabel: time of twice the tasks over once", doubling[0], 2.2, False, doubling[1]),
        Row(
            "prelabel: peak memory, 5000 stub tasks over 200",
            large / small,
            1.1,
            False,
            f"{large // 1024} MiB over {small // 1024} MiB",
        ),
    ]


def _peak(code: str) -> int:
    """Peak memory in KiB of a process that runs some of our own code."""
    whole = (
        f"from backend.config.process import limit_arenas; limit_arenas(); {code}; from"
        " backend.benchmarks.run import peak_kib; print(peak_kib())"
    )
    return int(
        subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", whole], check=True, capture_output=True, text=True
        ).stdout
    )


def peak_kib() -> int:
    """The most memory this process has held, in KiB."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, not inherited from the process that started this one
        return int(
            next(
                line for line in status.read_text().splitlines() if line.startswith("VmHWM")
            ).split()[1]
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _counting(repeats: int) -> Row:
    from backend.benchmarks.scoring import counting_cost

    value, detail = counting_cost(repeats)
    return Row("confusion counts over reading both label maps once", value, 5, False, detail)


def run_bench(repeats: int) -> list[Row]:
    """Measure everything; takes a minute or two.

    Args:
        repeats: interleaved pairs behind each median.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [
            *_routes(repeats, Path(folder)),
            *_rle(repeats),
            *_coco(repeats),
            _memory(),
            _overlap(),
            _second_click(),
            _counting(repeats),
            *_prelabelling(),
        ]
