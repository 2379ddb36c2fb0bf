"""The architecture, held by tests: who may import whom, how long modules get, what costs nothing at
import.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PYTHON, ROOT

FILES = sorted([*(ROOT / "backend").rglob("*.py"), *(ROOT / "labelme_plugin").rglob("*.py")])

# Lower numbers never import higher ones. A name stands for itself and everything below it.
LAYERS = {
    "backend.memory": 0,
    "backend.options": 0,
    "backend.logs": 0,
    "backend.errors": 0,
    "backend.types": 0,
    "backend.geometry": 1,
    "backend.files.images": 1,
    "backend.metrics": 1,
    "backend.settings": 1,
    "backend.files": 1,
    "backend.drawing.overlays": 2,
    "backend.formats": 2,
    "backend.service_settings": 2,
    "backend.class_mapping": 1,
    "backend.core.rasterize": 1,
    "backend.evaluation.instances": 2,
    "backend.drawing.comparison": 2,
    "backend.datasets": 4,
    "backend.datasets.convert": 5,
    "backend.datasets.report": 5,
    "labelme_plugin.check": 4,
    "labelme_plugin.check_folder": 5,
    "labelme_plugin.launcher": 5,
    "backend.labeling.sources": 3,
    "backend.labeling.cascade": 3,
    "labelme_plugin": 3,
    "backend.models": 3,
    "backend.label_studio.api.origins": 3,
    "backend.label_studio.api.transport": 3,
    "backend.label_studio.api.tokens": 3,
    "backend.label_studio.api.local_files": 3,
    "backend.label_studio.api.fetch": 3,
    "backend.label_studio.server.app.cache": 3,
    "backend.label_studio.server.app.monitor": 3,
    "backend.label_studio.server.access": 3,
    "backend.label_studio.requests": 3,
    "backend.label_studio.api.stored": 3,
    "backend.label_studio.api.client": 3,
    "backend.label_studio.prelabel.journal": 3,
    "backend.label_studio.prelabel.prelabel_project": 6,
    "backend.labeling.pipeline": 4,
    "backend.labeling.outputs": 4,
    "backend.label_studio.server.worker": 4,
    "backend.scoring": 4,
    "backend.label_studio": 5,
    "backend.labeling.load": 5,
    "backend.labeling.annotate": 5,
    "backend.evaluation.against_truth": 5,
    "backend.evaluation.run": 6,
    "backend.labeling.watch": 6,
    "backend.evaluation.pictures": 5,
    "backend.label_studio.server.serve": 6,
    "backend.doctor": 6,
    "backend.label_studio.server.ml_backend": 7,
    "backend.benchmarks.run": 7,
    "backend.benchmarks.clicks": 6,
    "backend.benchmarks.scoring": 6,
    "backend.benchmarks.prelabel": 6,
    "backend.demo": 7,
    "backend.commands": 7,
    "backend.dataset_commands": 7,
    "backend.dataset_options": 0,
    "backend.model_options": 0,
    "backend.cli": 8,
    "backend.__main__": 9,
}
HEAVY = ("torch", "torchvision", "ultralytics", "sam2", "transformers", "hydra", "omegaconf")


def module_name(path: Path) -> str:
    return (
        path.relative_to(ROOT)
        .with_suffix("")
        .as_posix()
        .replace("/", ".")
        .removesuffix(".__init__")
    )


def layer(module: str) -> int | None:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in LAYERS:
            return LAYERS[name]
    return None


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [
                (
                    f"{node.module}.{alias.name}"
                    if node.module in ("backend", "labelme_plugin")
                    else node.module
                )
                for alias in node.names
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_downwards(path: Path) -> None:
    own = layer(module_name(path))
    if module_name(path) in ("backend", "labelme_plugin"):
        assert not imports(path)
        return
    assert own is not None, "a new module needs a layer"
    for target in imports(path):
        theirs = layer(target)
        assert theirs is None or theirs <= own, (
            f"{module_name(path)} imports {target} from a higher layer"
        )


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_torch_stays_in_its_rooms(path: Path) -> None:
    if path.is_relative_to(ROOT / "backend" / "models") or path.is_relative_to(
        ROOT / "backend" / "demo"
    ):
        return
    assert not [name for name in imports(path) if name.split(".")[0] in HEAVY]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 320
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = (
                node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            )
            assert node.end_lineno - node.lineno + 1 - docstring <= 45, f"{node.name} is too long"


def test_light_parts_need_no_torch() -> None:
    light = [
        "backend.cli",
        "backend.metrics",
        "backend.labeling.outputs",
        "backend.labeling.annotate",
        "backend.labeling.load",
        "backend.formats.label_studio.brush_rle",
        "labelme_plugin.document",
        "backend.evaluation.against_truth",
        "backend.evaluation.run",
    ]
    light += [
        "backend.label_studio.server.app",
        "backend.label_studio.server.app.service",
        "backend.label_studio.server.serve",
        "backend.doctor.studio",
    ]
    code = (
        f"import sys\nfor m in {light!r}: __import__(m)\nprint([m for m in {HEAVY!r} if m in"
        " sys.modules])"
    )
    done = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_works_without_torch_installed(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    done = subprocess.run(
        [PYTHON, "-m", "backend", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0
    assert "annotate" in done.stdout


def test_importing_the_package_does_no_work() -> None:
    code = "import sys, backend; print(len([m for m in sys.modules if 'numpy' in m or 'cv2' in m]))"
    done = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "0"


def test_no_registry_or_machine_is_named() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split()
    for name in listed:
        if name.endswith((".py", ".md", ".toml", ".txt", ".yaml", "Makefile", "run")):
            text = (ROOT / name).read_text()
            assert "index" + "-url" not in text, name
            assert "find" + "-links" not in text, name
