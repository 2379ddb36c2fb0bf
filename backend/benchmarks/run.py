"""``yolosam2 bench``: all measurements against their goals."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.benchmarks.codecs import (
    _BOXES,
    _coco,
    _instance,
    _rle,
    _routes,
    canned_logits,
    labelme_file_of,
)
from backend.benchmarks.ratios import Measurement
from backend.benchmarks.threads import lock_share, scaling
from backend.config.process import limit_arenas
from backend.core.types import Masks, Prediction
from backend.core.upsample import crop_masks
from backend.files.atomic import write_atomic
from backend.formats.json_text import json_bytes
from backend.formats.label_studio import results as labelstudio
from backend.labeling import pipeline


def stub_pipeline(
    count: int, size_hw: tuple[int, int] = (540, 960), workers: int = 2
) -> tuple[int, float]:
    """Push ``count`` stub images through the real pipeline and both encoders.

    Returns this process's peak memory in KiB, and the wall time in seconds.
    """
    limit_arenas()
    start = time.perf_counter()
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
        for outcome in pipeline.run(range(count), stages, batch=8, workers=workers):
            if outcome.error is not None:
                raise outcome.error
    return peak_kib(), time.perf_counter() - start


def _memory() -> Measurement:
    small, large = (
        max(
            _peak(f"from backend.benchmarks.run import stub_pipeline; stub_pipeline({count})")
            for _ in range(2)  # how much is in flight at once is a matter of luck
        )
        for count in (200, 3000)
    )
    return Measurement(
        "peak memory, 3000 stub images over 200",
        large / small,
        1.05,
        False,
        f"{large // 1024} MiB over {small // 1024} MiB",
    )


def _overlap(items: int = 300, stage_s: float = 0.02) -> Measurement:
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
    return Measurement(
        "staged wall time over the slowest stage",
        wall / (stage_s * done),
        1.1,
        False,
        f"{wall:.2f} s for {done} items",
    )


def _second_click() -> Measurement:
    from backend.benchmarks.clicks import second_click

    value, detail = second_click()
    return Measurement("second prompt on an image over the first", value, 0.1, False, detail)


def _prelabelling() -> list[Measurement]:
    from backend.benchmarks import prelabel as bench_prelabel

    overlap = bench_prelabel.overlap()
    requests = bench_prelabel.requests()
    doubling = bench_prelabel.doubling()
    small, large = (
        _peak(
            "from backend.benchmarks.prelabel import stub_run; "
            f"stub_run({n}, 0.0005, 2 << 20, 20000)"
        )
        for n in (200, 5000)
    )
    return [
        Measurement(
            "prelabel: wall time over the slowest stage", overlap[0], 1.1, False, overlap[1]
        ),
        Measurement(
            "prelabel: requests beyond 2 for 100 tasks", requests[0], 5, False, requests[1]
        ),
        Measurement(
            "prelabel: time of twice the tasks over once", doubling[0], 2.2, False, doubling[1]
        ),
        Measurement(
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


def _counting(repeats: int) -> list[Measurement]:
    from backend.benchmarks.scoring import counting_cost, whole_cost

    value, detail = counting_cost(repeats)
    cost, of_each = whole_cost(repeats)
    return [
        Measurement(
            "confusion counts over boundaries of the same label maps", value, 0.2, False, detail
        ),
        Measurement("scoring a 1080p picture, ten instances, ms", cost, 25, False, of_each),
    ]


def _everything(repeats: int) -> list[Measurement]:
    from backend.benchmarks.everything import naming, outlining

    ours, theirs = (
        _peak(f"from backend.benchmarks.everything import large_picture; large_picture({way!r})")
        for way in ("ours", "theirs")
    )
    return [
        outlining(repeats),
        naming(repeats),
        Measurement(
            "masks of everything in 12 megapixels, peak memory over sam2's",
            ours / theirs,
            0.25,
            False,
            f"{ours // 1024} MiB over {theirs // 1024} MiB, 24 points at once",
        ),
    ]


def _outside() -> list[Measurement]:
    """On workers of Ray, and with models.

    They are imported here: processes whose memory is measured import this module, too.
    """
    from backend.benchmarks.scale_out import overlap
    from backend.benchmarks.whole import whole_runs

    return [*overlap(), *whole_runs()]


def run_bench(repeats: int) -> list[Measurement]:
    """Measure everything; takes some minutes.

    Args:
        repeats: interleaved pairs behind each median.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [
            *_routes(repeats, Path(folder)),
            *_rle(repeats),
            *_coco(repeats),
            *scaling(repeats),
            *lock_share(),
            _memory(),
            _overlap(),
            _second_click(),
            *_counting(repeats),
            *_prelabelling(),
            *_outside(),
            *_everything(repeats),
        ]
