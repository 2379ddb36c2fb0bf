"""Compiled loops against plain numpy, zlib and Pillow, and where their code is kept."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backend.core.kernels import brush, coco, compiled, counting, deflate, logits, runs
from backend.core.masks import full_frame, mask_from_full
from backend.core.runs import (
    counts_of_edges,
    edges_of_counts,
    edges_of_mask,
    mask_of_edges,
    transposed,
)
from backend.core.types import Mask

FRAMES = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))
MODULES = (runs, logits, brush, coco, deflate, counting)


def plain_edges(frame: np.ndarray) -> list[int]:
    padded = np.concatenate([[0], frame.ravel().astype(np.int8), [0]])
    return np.flatnonzero(np.diff(padded)).tolist()


@given(frame=FRAMES)
@settings(max_examples=300, deadline=None)
def test_runs_of_a_frame_and_back(frame: np.ndarray) -> None:
    height, width = frame.shape
    mask = mask_from_full(frame)
    if mask is None:
        assert mask_of_edges(np.empty(0, np.int64), width) is None
        return
    edges = edges_of_mask(mask, width)
    assert edges.tolist() == plain_edges(frame)
    back = mask_of_edges(edges, width)
    assert back is not None
    assert np.array_equal(full_frame(back, frame.shape), frame)
    tight = mask_from_full(frame)
    wraps = any(a // width != (b - 1) // width for a, b in edges.reshape(-1, 2).tolist())
    assert wraps or (back.x, back.y, back.crop.shape) == (tight.x, tight.y, tight.crop.shape)
    counts = counts_of_edges(edges, height * width)
    assert counts.sum() == height * width
    assert edges_of_counts(counts).tolist() == edges.tolist()


def test_crops_of_other_numbers_and_of_nothing() -> None:
    odd: Any = np.array([[3, 0, 255, 7, 1]], np.uint8)  # as somebody's own reader may give
    assert edges_of_mask(Mask(0, 0, odd), 5).tolist() == [0, 1, 2, 5]
    nothing = Mask(0, 0, np.zeros((0, 0), np.bool_))
    assert transposed(nothing).crop.shape == (0, 0)
    assert nothing.area == 0
    assert edges_of_mask(nothing, 5).tolist() == []


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=30),
)
def test_edges_of_any_counts(counts: list[int]) -> None:
    frame = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    assert edges_of_counts(np.array(counts)).tolist() == plain_edges(frame)


@given(changes=st.lists(st.integers(0, 8), max_size=20))
def test_changes_that_meet_undo_each_other(changes: list[int]) -> None:
    edges = np.empty(len(changes) + 1, np.int64)
    n = 0
    for position in changes:
        n = runs.toggled(edges, n, position)
    odd = sorted(place for place in set(changes) if changes.count(place) % 2)
    assert edges[:n].tolist() == odd


@given(crop=FRAMES)
@settings(max_examples=300, deadline=None)
def test_deflate_of_runs_is_what_zlib_and_pillow_read(crop: np.ndarray) -> None:
    from labelme_plugin.shapes import encode_mask_png

    h, w = crop.shape
    rows = np.zeros((h, w + 1), np.uint8)
    rows[:, 1:] = crop * 255
    head, codes = deflate.table()
    edges = edges_of_mask(Mask(1, 0, crop), w + 1)
    stream = deflate.deflated_runs(edges, rows.size, head, *codes).tobytes()
    unpacked = zlib.decompressobj()
    assert unpacked.decompress(stream) == rows.tobytes()
    assert unpacked.eof
    assert not unpacked.unused_data
    with PIL.Image.open(io.BytesIO(encode_mask_png(crop))) as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.array(picture) > 0, crop)


@pytest.mark.parametrize("count", [*range(1, 12), *range(255, 265), *range(510, 525), 70_000])
def test_runs_of_every_length_can_be_matches(count: int) -> None:
    # A match has 3 to 258 bytes, so that what is left must not be 1 or 2.
    head, codes = deflate.table()
    for edges, expected in (
        ([], bytes(count)),
        ([0, count], b"\xff" * count),
        ([1, count], b"\0" + b"\xff" * (count - 1)),
    ):
        used = np.array([] if edges and edges[0] == edges[1] else edges, np.int64)
        stream = deflate.deflated_runs(used, count, head, *codes).tobytes()
        assert zlib.decompress(stream) == expected[:count]
        assert zlib.adler32(expected[:count]).to_bytes(4, "big") == stream[-4:]


def test_code_lengths_of_deflate_are_a_complete_code() -> None:
    _, (_, widths) = deflate.table()
    used = widths[widths > 0].astype(float)
    assert sum(2.0**-used) == 1
    assert len(used) == 2 + 30  # two bytes, the end, and the lengths of matches


@given(frame=FRAMES, other=FRAMES)
@settings(max_examples=100, deadline=None)
def test_pairs_are_counted(frame: np.ndarray, other: np.ndarray) -> None:
    size = min(frame.size, other.size)
    first = frame.ravel()[:size].astype(np.uint8) * 7
    second = other.ravel()[:size].astype(np.uint8) * 255
    counts = counting.pairs(first, second)
    assert counts.sum() == size
    for a in (0, 7):
        for b in (0, 255):
            assert counts[a, b] == np.count_nonzero((first == a) & (second == b))


def test_text_of_any_bytes_is_json() -> None:
    data = np.arange(256, dtype=np.uint8)
    out = np.empty(4 * len(data) + 4, np.uint8)
    text = out[: brush._write_json(data, out, 0)].tobytes().decode()
    assert text == str(list(range(256))).replace(" ", "")
    assert out[: brush._write_json(data[:0], out, 0)].tobytes() == b"[]"


def test_no_loop_holds_the_lock_of_the_interpreter() -> None:
    loops = [
        value
        for module in MODULES
        for value in vars(module).values()
        if hasattr(value, "targetoptions")
    ]
    assert len(loops) > 20
    assert all(loop.targetoptions["nogil"] for loop in loops)


PROGRAM = """
import os, tempfile
tempfile.tempdir = os.environ["TMPDIR"]
import numpy as np
from backend.core.kernels import runs
crop = np.ones((2, 3), np.uint8)
assert runs.edges_of_crop(crop, 1, 0, 5).tolist() == [1, 4, 6, 9]
print(sum(runs.edges_of_crop.stats.cache_hits.values()))
"""


def run_in(tree: Path, home: Path) -> int:
    """How many compiled functions a program found, whose code lies in a tree."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_", "COV_"))},
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home),
        "TMPDIR": str(home),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A copy of the package beside which no code can be kept, as on a read-only root."""
    source = Path(compiled.__file__).parents[2]
    tree = tmp_path / "tree"
    shutil.copytree(source, tree / "backend", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "backend" / "core" / "kernels" / "__pycache__").write_text("")  # no folder
    return tree


def test_code_is_kept_in_a_folder_of_the_user(unwritable: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert run_in(unwritable, home) == 0
    assert list(home.rglob("*.nbi"))
    assert run_in(unwritable, home) == 1  # nothing is compiled twice


def test_a_change_in_any_module_compiles_anew(unwritable: Path, tmp_path: Path) -> None:
    # Compiled code holds what it calls in other modules, which numba does not look at.
    home = tmp_path / "home"
    home.mkdir()
    assert run_in(unwritable, home) == 0
    with (unwritable / "backend" / "core" / "kernels" / "coco.py").open("a") as file:
        file.write("\n")
    assert run_in(unwritable, home) == 0
    assert run_in(unwritable, home) == 1


def test_loops_work_where_nothing_can_be_written(unwritable: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("")
    assert run_in(unwritable, nowhere) == 0


def test_what_was_compiled_before_is_taken_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "kernels"
    (beside / "__pycache__").mkdir(parents=True)
    (beside / "__pycache__" / "runs.nbi").write_bytes(b"index")
    real = compiled._is_writable
    monkeypatch.setattr(
        compiled, "_is_writable", lambda folder: "__pycache__" not in str(folder) and real(folder)
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = compiled.code_folder(beside)
    assert folder == tmp_path / "cache" / "yolosam2" / "kernels"
    assert (folder / "runs.nbi").read_bytes() == b"index"
    # A folder that others may write to is not used: what lies there would be run.
    folder.chmod(0o777)
    compiled.code_folder.cache_clear()
    assert compiled.code_folder(beside) != folder
