"""The examples in docstrings run, and every metric and every codec has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import backend
import labelme_plugin
from tests.conftest import ROOT

# Modules whose public functions are metrics or codecs. Functions that take a Path read files, and
# need no example.
METRICS_AND_CODECS = (
    "backend.core.boxes",
    "backend.core.classes",
    "backend.core.masks",
    "backend.core.outlines",
    "backend.core.rasterize",
    "backend.core.rings",
    "backend.core.stacking",
    "backend.core.upsample",
    "backend.evaluation.accumulate",
    "backend.evaluation.boundaries",
    "backend.evaluation.calibration",
    "backend.evaluation.columns",
    "backend.evaluation.effort",
    "backend.evaluation.instances",
    "backend.evaluation.intervals",
    "backend.evaluation.image_counts",
    "backend.evaluation.repeats",
    "backend.evaluation.semantic",
    "backend.formats.coco.parts",
    "backend.formats.coco.segmentation",
    "backend.formats.json_text",
    "backend.formats.label_studio.bitmask",
    "backend.formats.label_studio.brush_rle",
    "backend.formats.label_studio.context",
    "backend.formats.label_studio.label_config",
    "backend.formats.label_studio.region_masks",
    "backend.formats.label_studio.regions",
    "backend.formats.label_studio.made_regions",
    "backend.formats.label_studio.results",
    "backend.formats.label_studio.tasks",
    "backend.formats.options",
    "backend.formats.prompt_file",
    "backend.formats.voc.class_names",
    "backend.formats.voc.label_maps",
    "backend.formats.yolo.labels",
    "labelme_plugin.document",
    "labelme_plugin.instances",
    "labelme_plugin.shapes",
)


def modules_with_examples() -> list[str]:
    """Told by their text, so that only these are imported."""
    packages = [(package.__path__, f"{package.__name__}.") for package in (backend, labelme_plugin)]
    names = [
        found.name
        for path, prefix in packages
        for found in pkgutil.walk_packages(path, prefix)
        if not found.name.endswith("__main__")
    ]
    return [name for name in names if ">>>" in source_of(name)]


def source_of(name: str) -> str:
    """The text of a module or package, which is not imported for it."""
    path = ROOT / f"{name.replace('.', '/')}.py"
    return (path if path.is_file() else path.with_suffix("") / "__init__.py").read_text()


def public_functions(module: ModuleType) -> dict[str, object]:
    """What a module defines for others and what needs no file."""
    found = {name: inspect.unwrap(one) for name, one in vars(module).items() if callable(one)}
    return {
        name: one
        for name, one in found.items()
        if inspect.isfunction(one)
        and one.__module__ == module.__name__
        and not name.startswith("_")
        and not {"Path", Path} & set(one.__annotations__.values())
    }


def failures(module: ModuleType) -> list[str]:
    """What doctest prints about each example that fails."""
    told: list[str] = []
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(module):
        runner.run(test, out=told.append)
    return told


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:  # an extra, such as ray, that is not installed
        if str(error.name).split(".")[0] in ("backend", "labelme_plugin"):
            raise
        pytest.skip(f"needs {error.name}")
    told = failures(module)
    assert not told, "".join(told)


@pytest.mark.parametrize("name", METRICS_AND_CODECS)
def test_every_metric_and_codec_has_an_example(name: str) -> None:
    functions = public_functions(importlib.import_module(name))
    assert functions
    assert [one for one, found in functions.items() if ">>>" not in (found.__doc__ or "")] == []


def test_examples_are_found_and_checked() -> None:
    module = ModuleType("made_up")
    exec(
        'def half(x):\n    """Half.\n\n    >>> half(4)\n    3\n    """\n    return x / 2',
        vars(module),
    )
    assert list(public_functions(module)) == ["half"]
    assert "Expected:\n    3\nGot:\n    2.0" in "".join(failures(module))
