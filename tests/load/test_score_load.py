"""Ten thousand tasks: memory that does not grow with the file, and a progress bar."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PYTHON, ROOT
from tests.support.exports import disc, regions, task

_PEAK = """
import sys
from pathlib import Path
from backend.cli.main import main
options = ["--json", sys.argv[2], "--report", sys.argv[3], "--resamples", "100"]
code = main(["score", sys.argv[1], *options])
status = Path("/proc/self/status").read_text()
print(code, next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
"""


def write_export(path: Path, count: int) -> int:
    """An export of ``count`` tasks that differ in their ids; gives its size in bytes."""
    shapes = [
        regions(
            ("car", disc(20 + k % 7, 30, 9), 0.5 + k / 20),
            ("dog", disc(60, 25 + k % 5, 8), 0.4 + k / 20),
        )
        for k in range(10)
    ]
    texts = [json.dumps(task(123456789, shapes[(k * 3) % 10], shapes[k])) for k in range(10)]
    with path.open("w") as stream:
        for number in range(count):
            stream.write(
                ("[" if number == 0 else ",\n")
                + texts[number % 10].replace("123456789", str(number))
            )
        stream.write("]")
    return path.stat().st_size


def run(path: Path) -> tuple[dict, int, str]:
    """The document, the peak memory in KiB, and what went to stderr."""
    out = path.with_suffix(".scores")
    command = [PYTHON, "-c", _PEAK, str(path), str(out), str(path.with_suffix(".html"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    code, peak = done.stdout.splitlines()[-1].split()
    assert code == "0"
    return json.loads(out.read_text()), int(peak), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_tasks_in_bounded_memory(tmp_path: Path) -> None:
    write_export(tmp_path / "small.json", 500)
    size = write_export(tmp_path / "large.json", 10_000)
    small, small_peak, _ = run(tmp_path / "small.json")
    large, large_peak, progress = run(tmp_path / "large.json")
    assert large["views"][0]["images"] == 10_000
    assert large["failed"] == []
    # Twenty times the same tasks: the same figures.
    assert large["views"][0]["figures"]["mean_iou"]["value"] == pytest.approx(
        small["views"][0]["figures"]["mean_iou"]["value"], abs=1e-9
    )
    assert large["views"][0]["figures"]["AP"]["value"] == pytest.approx(
        small["views"][0]["figures"]["AP"]["value"], abs=1e-3
    )
    assert "100%" in progress
    assert "10,000 tasks, 0 failed" in progress
    assert size > 30 << 20
    # What is kept of an image are its counts, about 1 KiB; the file alone, as Python objects, would
    # be over 500 MiB.
    assert large_peak - small_peak < 60 << 10, (small_peak, large_peak)
