"""Shared fixtures: the embedded models, scenes and fakes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

from backend.config.models import Settings
from backend.demo.scenes.compose import TEST_SEEDS, Scene, generate
from backend.labeling.cascade import Cascade
from backend.labeling.load import load
from backend.models import openvino
from tests.support.fakes import FakeDetector, FakeSegmenter
from tests.support.lab import lab  # noqa: F401 - a fixture

settings.register_profile("any machine", deadline=None)  # a busy one is no failure
settings.load_profile("any machine")
ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


# The files that take longest come first, so that none is left when all others are done.
_LONGEST = (
    "e2e/test_studio_training.py",
    "models/test_embedded_tracking.py",
    "models/test_contract.py",
    "docs/test_docs.py",
    "training/test_finetune.py",
    "training/test_detector.py",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tell ``make test`` what one process runs: the tests of a file, which share fixtures that take
    long, and all that use the same Label Studio.
    """
    of_file = item.path.relative_to(ROOT / "tests").with_suffix("").as_posix()
    together = "lab" if "lab" in getattr(item, "fixturenames", ()) else of_file
    item.add_marker(pytest.mark.xdist_group(together))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first."""

    def turn(item: pytest.Item) -> int:
        path = item.path.as_posix()
        turns = [k for k, name in enumerate(_LONGEST) if path.endswith(name)]
        return turns[0] if turns else len(_LONGEST)

    items.sort(key=turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: object, ids: list[str]) -> None:
    """Stop where pytest-xdist does not heed the marks: fixtures would be made in every process."""
    by_group = getattr(node, "config").getoption("dist") == "loadgroup"  # noqa: B009 - no type
    if by_group and any("@" not in one for one in ids):
        pytest.exit("pytest-xdist groups no tests with this pytest", returncode=4)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Processes of pytest send one another reports as UTF-8, and a test may log or compare what is
    none.
    """
    report = yield
    report.sections = [(title, _as_utf8(text)) for title, text in report.sections]
    text = report.longreprtext
    if _as_utf8(text) != text:
        report.longrepr = _as_utf8(text)
    return report


def _as_utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


HAS_OPENVINO = openvino.has_openvino()


@pytest.fixture(scope="session", autouse=True)
def _models_by_torch() -> Iterator[None]:
    """Torch runs the models of tests and of the programs they start: each fresh set of weights
    would be converted first. OpenVINO has tests of its own (``by_openvino``), and the backend that
    most end-to-end tests share (``lab``) runs what a user's does.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino, "has_openvino", lambda: False)
        patch.setenv("MODEL_RUNTIME", "torch")
        # What ``make test`` sets for itself; programs have a user's memory, which tests measure.
        patch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
        patch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
        yield


@pytest.fixture
def by_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models run as they do where nothing else is said."""
    monkeypatch.setattr(openvino, "has_openvino", lambda: HAS_OPENVINO)
    monkeypatch.delenv("MODEL_RUNTIME")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs that lie beside the project on some machines."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real photographs of ../shared/data are not on this machine")
    return SHARED / "data"


@pytest.fixture(scope="session")
def demo() -> Cascade:
    return load(
        Settings(detector="demo", segmenter="demo", device="cpu", box_margin=0.04, min_part=0.02)
    ).cascade


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    return [generate(TEST_SEEDS[5000 + k]) for k in range(4)]


@pytest.fixture
def without_collector() -> Iterator[None]:
    """No garbage collection meanwhile: in a process of thousands of tests it takes longer than what
    a test measures.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_mask(rng: np.random.Generator, height: int, width: int, kind: int) -> np.ndarray:
    """A full boolean frame: noise, empty, full, one pixel, blobs, blobs with holes."""
    if kind == 0:
        return rng.random((height, width)) < rng.uniform(0.1, 0.9)
    if kind == 1:
        return np.zeros((height, width), bool)
    if kind == 2:
        return np.ones((height, width), bool)
    if kind == 3:
        frame = np.zeros((height, width), bool)
        frame[rng.integers(height), rng.integers(width)] = True
        return frame
    smooth = cv2.GaussianBlur(
        rng.normal(size=(height, width)).astype(np.float32), (0, 0), rng.uniform(1, 6)
    )
    frame = smooth > np.quantile(smooth, rng.uniform(0.3, 0.9))
    return (
        frame if kind == 4 else frame & (np.abs(smooth - smooth.max() * 0.5) > smooth.std() * 0.2)
    )


@pytest.fixture
def fake() -> Cascade:
    return Cascade(FakeDetector(), FakeSegmenter())


@pytest.fixture
def pictures(tmp_path: Path, scenes: list[Scene]) -> Path:
    """A folder with three good pictures, one of them in a sub-folder with a difficult name."""
    from backend.drawing.overlays import encode_picture

    folder = tmp_path / "pictures"
    (folder / "sub ä #1").mkdir(parents=True)
    for name, scene in zip(("a.jpg", "b.JPG", "sub ä #1/图 c?.jpg"), scenes, strict=False):
        (folder / name).write_bytes(encode_picture(scene.image))
    return folder


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run ``yolosam2`` in this process: arguments -> (exit code, stdout, stderr)."""
    import signal

    from backend.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        finally:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGTERM, before[1])
        out, err = capsys.readouterr()
        return code, out, err

    return run


PYTHON = sys.executable
