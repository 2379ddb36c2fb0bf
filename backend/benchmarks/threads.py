"""How the work around the models adds up on threads, and how long it holds the lock of the
interpreter.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from backend.benchmarks.codecs import _prediction, canned_logits
from backend.benchmarks.ratios import Measurement
from backend.formats.label_studio import results as labelstudio

_IMAGES = 150
_SAMPLE_S = 4


def finisher() -> Callable[[], str]:
    """Small logits of ten objects at 1080p to Label Studio's JSON."""
    half = canned_logits().astype(np.float16).astype(np.float32)

    def finish() -> str:
        prediction = _prediction(half)
        return labelstudio.result_of(prediction, labelstudio.plain_outputs(prediction)).regions

    finish()  # compiled loops are loaded
    return finish


def _wall(work: Callable[[], object], times: int, threads: int) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work) for _ in range(times)]:
            done.result()
    return time.perf_counter() - start


def scaling(repeats: int) -> list[Measurement]:
    """Wall time of finishing on two threads over one, and that of zlib, which holds no lock."""
    data = np.random.default_rng(0).integers(0, 9, 1 << 20, dtype=np.uint8).tobytes()
    control = partial(zlib.compress, data, 6)
    finish = finisher()
    found: dict[str, list[float]] = {"finish": [], "zlib": []}
    for _ in range(repeats):
        for name, work, times in (("finish", finish, _IMAGES), ("zlib", control, 6)):
            found[name].append(_wall(work, times, 2) / _wall(work, times, 1))
    ours = statistics.median(found["finish"])
    limit = statistics.median(found["zlib"])
    return [
        Measurement(
            "finishing on two threads, wall time over one",
            ours,
            max(0.6, 1.1 * limit),
            False,
            f"zlib beside it, which holds no lock: {limit:.2f}",
        )
    ]


def lock_share() -> list[Measurement]:
    """How much of finishing the interpreter's lock is held, by a sampler; nothing where that is not
    installed or may not look into processes.
    """
    program = Path(sys.executable).with_name("py-spy")
    code = (
        f"import time; from {__name__} import finisher; work = finisher();"
        f" end = time.perf_counter() + {_SAMPLE_S} + 4\n"
        "while time.perf_counter() < end: work()"
    )
    counts = []
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.txt"
        for more in ((), ("--gil",)):
            command = [str(program), "record", "-d", str(_SAMPLE_S), "-r", "400", "-f", "raw"]
            command += ["--nonblocking", *more, "-o", str(samples), "--", sys.executable, "-c"]
            try:
                subprocess.run([*command, code], check=True, capture_output=True)  # noqa: S603
            except (OSError, subprocess.CalledProcessError):
                return []
            lines = [line for line in samples.read_text().splitlines() if "finish (" in line]
            counts.append(sum(int(line.rpartition(" ")[2]) for line in lines))
    share = counts[1] / max(1, counts[0])
    return [
        Measurement(
            "finishing: share of its time with the interpreter's lock",
            share,
            0.2,
            False,
            f"{counts[1]} of {counts[0]} samples of py-spy",
        )
    ]
