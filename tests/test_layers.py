"""The architecture, held by tests: who may import whom, and what costs nothing at import."""

from __future__ import annotations

import ast
import gc
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import PYTHON, ROOT

FILES = sorted([*(ROOT / "backend").rglob("*.py"), *(ROOT / "labelme_plugin").rglob("*.py")])

# Rooms, which are folders, by row. A room imports lower rows only; rooms of one row do not import
# one another.
ROWS = (
    ("backend.errors",),
    ("backend.core",),
    ("backend.files", "backend.config"),
    ("backend.formats", "backend.drawing", "backend.models"),
    ("backend.labeling", "backend.datasets", "backend.label_studio.api"),
    (
        "backend.evaluation",
        "backend.label_studio.server",
        "backend.label_studio.prelabel",
        "backend.doctor",
        "labelme_plugin",
    ),
    ("backend.training",),
    ("backend.demo", "backend.benchmarks"),
    ("backend.cli",),
    ("backend.__main__",),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
HEAVY = ("torch", "torchvision", "ultralytics", "sam2", "transformers", "hydra", "omegaconf")
WITH_TORCH = ("backend.models", "backend.training")
LONGEST_MODULE = 400  # lines; past 300 ask what second thing it holds
LONGEST_FUNCTION = 60  # lines without the docstring; past 40 ask the same
LONGEST_LINE = 100


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return parts.removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def room_of(module: str) -> str | None:
    """The longest room that a module lies in; None for what belongs to others."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in ROW_OF), None)


@cache
def tree(path: Path) -> ast.Module:
    """A module as it was parsed, once.

    Some Pythons (3.11 before 3.11.9) count the depth of the parser in one place for the whole
    process: a finalizer that runs in the midst, and whatever it lets run, can upset the count.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        if was_on:
            gc.enable()


def imports(path: Path) -> list[str]:
    """The modules that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if name in MODULES]
            found += modules if len(modules) == len(inner) else [node.module, *modules]
    return found


def test_every_module_has_a_room() -> None:
    packages = {"backend", "backend.label_studio"}
    assert [name for name in MODULES if room_of(name) is None and name not in packages] == []
    rooms = {room_of(name) for name in MODULES} - {None}
    assert rooms == set(ROW_OF), "a room of the table is not there"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_to_lower_rows(path: Path) -> None:
    own = room_of(module_name(path))
    if own is None:
        assert not imports(path)
        return
    for target in imports(path):
        theirs = room_of(target)
        if theirs is not None and theirs != own:
            told = f"{module_name(path)} imports {target}, which is not in a lower row"
            assert ROW_OF[theirs] < ROW_OF[own], told


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One circle for every module that can reach itself."""
    found = []
    for start in graph:
        stack = [(start, [start])]
        seen: set[str] = set()
        while stack:
            at, way = stack.pop()
            for following in graph.get(at, ()):
                if following == start:
                    found.append([*way, start])
                    stack = []
                    break
                if following not in seen:
                    seen.add(following)
                    stack.append((following, [*way, following]))
    return found


def type_only(path: Path) -> set[str]:
    """What is imported for annotations only, behind TYPE_CHECKING."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found |= {n.module for n in ast.walk(node) if isinstance(n, ast.ImportFrom)}
    return {name for name in found if name}


@pytest.mark.parametrize("room", sorted(ROW_OF))
def test_no_circles_inside_a_room(room: str) -> None:
    graph = {
        name: {
            target
            for target in imports(path)
            if room_of(target) == room and target not in type_only(path) and target in MODULES
        }
        for name, path in MODULES.items()
        if room_of(name) == room
    }
    assert circles(graph) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"], ["c", "b", "c"]]


def test_backend_never_imports_the_labelme_plug_in() -> None:
    for name, path in MODULES.items():
        if name.startswith("backend"):
            assert not [t for t in imports(path) if t.startswith("labelme_plugin")], name


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_torch_stays_in_its_rooms(path: Path) -> None:
    if room_of(module_name(path)) in WITH_TORCH:
        return
    assert not [name for name in imports(path) if name.split(".")[0] in HEAVY]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert max(map(len, text.splitlines()), default=0) <= LONGEST_LINE
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            docstring = 0
            if ast.get_docstring(node):
                docstring = node.body[0].end_lineno - node.body[0].lineno + 1
            length = node.end_lineno - node.lineno + 1 - docstring
            assert length <= LONGEST_FUNCTION, f"{node.name} is too long"


def test_light_parts_need_no_torch() -> None:
    light = [
        "backend.cli.main",
        "backend.evaluation.run_score",
        "backend.evaluation.semantic",
        "backend.labeling.annotate",
        "backend.labeling.load",
        "backend.labeling.outputs",
        "backend.datasets.convert",
        "backend.formats.label_studio.brush_rle",
        "backend.label_studio.server.app",
        "backend.label_studio.server.serve",
        "backend.label_studio.server.service",
        "backend.doctor.studio",
        "labelme_plugin.document",
    ]
    code = (
        f"import sys\nfor m in {light!r}: __import__(m)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
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
    command = ["git", "ls-files"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    for name in done.stdout.split():
        if name.endswith((".py", ".md", ".toml", ".txt", ".yaml", "Makefile", "run")):
            text = (ROOT / name).read_text()
            assert "index" + "-url" not in text, name
            assert "find" + "-links" not in text, name
