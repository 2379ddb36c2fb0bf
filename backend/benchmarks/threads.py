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
_SAMPLE_S = 12
_IN_A_ROW = 25  # pictures


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


def _measured(work: Callable[[], object]) -> None:
    for _ in range(_IN_A_ROW):
        work()


def _locked(seconds: float) -> None:
    """Hold the lock all the time, for as long as what is measured took."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def take_turns(seconds: float) -> None:
    """What the sampler looks at: finishing, and as long a time of a loop that never gives the lock
    away.
    """
    work = finisher()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        _measured(work)
        _locked(time.perf_counter() - start)


def lock_share() -> list[Measurement]:
    """How much of finishing the interpreter's lock is held, by a sampler; nothing where that is not
    installed or may not look into processes.
    """
    program = Path(sys.executable).with_name("py-spy")
    code = f"from {__name__} import take_turns; take_turns({_SAMPLE_S})"
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.txt"
        command = [str(program), "record", "--gil", "--nonblocking", "-r", "400", "-f", "raw"]
        command += ["-o", str(samples), "--", sys.executable, "-c", code]
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError):
            return []
        lines = samples.read_text().splitlines()
    counts = [
        sum(int(line.rpartition(" ")[2]) for line in lines if f";{name} (" in line)
        for name in ("_measured", "_locked")
    ]
    return [
        Measurement(
            "finishing: share of its time with the interpreter's lock",
            counts[0] / max(1, counts[1]),
            0.2,
            False,
            f"{counts[0]} samples of py-spy, {counts[1]} in as long a time with the lock held",
        )
    ]
