"""The pages say what is true: commands run, names exist, tables are those of the code."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backend.cli.main import make_parser
from backend.config.fields import settings_of
from backend.config.models import Settings
from backend.config.service import ServiceSettings
from backend.demo.run import SAMPLES
from tests.docs.pages import (
    PAGES,
    README,
    ROOT,
    TABLES,
    anchors,
    between_markers,
    blocks,
    links,
    prose,
    spans,
    table_of,
)
from tests.test_layers import ROWS

PROMISES = ROOT / "docs" / "promises.md"
LANGUAGES = {"sh", "python", "json", "toml", "xml", "text"}
RUN = [
    page for page in PAGES if any(b.language == "sh" and not b.why_not_run for b in blocks(page))
]
# Options in the pages that belong to other programs than ours.
OTHER_OPTIONS = {"--train", "--validation", "--minutes", "--frames", "--film", "--init", "--more"}
WIDTH = 100
SECONDS = 240  # for one block; it takes a few on a free machine
_TEST = re.compile(r"^(tests/[\w/]+\.py)::(\w+)$")
_PATH = re.compile(r"^(backend|labelme_plugin|tests|docker|docs|\.ci)/[\w./-]*$")
_ROW = re.compile(r"test_([spiamxcld]\d\d)_")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def options_of() -> dict[str, set[str]]:
    """The options of each command of the program."""
    actions = make_parser()._actions
    commands = next(a for a in actions if isinstance(a, argparse._SubParsersAction)).choices
    return {
        name: {option for action in parser._actions for option in action.option_strings}
        for name, parser in commands.items()
    }


OPTIONS = options_of()


def test_the_readme_is_short_and_names_both_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    lines = [line for block in blocks(README) for line in block.commands]
    assert "make demo" in lines
    assert "make test" in lines


def test_the_readme_lists_every_command() -> None:
    listed = re.findall(r"^\| `yolosam2 ([a-z-]+)` \|", README.read_text(), flags=re.M)
    assert sorted(listed) == sorted(OPTIONS)


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_settings_are_generated(name: str) -> None:
    page = ROOT / "docs" / TABLES[name][0]
    found = between_markers(page.read_text(encoding="utf-8"), name)
    assert found is not None, f"{page}: has no markers for {name}"
    assert found.group() == table_of(name), "`python -m tests.docs.pages` writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), f"{page}: {target}"
        assert not anchor or anchor in anchors(there), f"{page}: {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(README.parent / target.partition("#")[0]).resolve() for target in links(README)}
    assert [name_of(page) for page in PAGES if page != README and page not in linked] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_are_wrapped(page: Path) -> None:
    for line in prose(page).splitlines():
        if not line.startswith(("|", "![")) and "::" not in line:
            assert len(line) <= WIDTH, line
        assert line.count("`") % 2 == 0, f"{line}: code goes on in the next line"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_tests_that_are_named_exist(page: Path) -> None:
    for span in spans(page):
        test = _TEST.match(span)
        if test is not None:
            names = {
                node.name
                for node in ast.parse((ROOT / test.group(1)).read_text(encoding="utf-8")).body
                if isinstance(node, ast.FunctionDef)
            }
            assert test.group(2) in names, f"{page}: {span}"
        elif _PATH.match(span):
            assert (ROOT / span).exists() or (ROOT / f"{span}.py").is_file(), f"{page}: {span}"


def test_every_promise_has_a_test_and_every_row_is_told() -> None:
    text = PROMISES.read_text(encoding="utf-8")
    promised, _, _ = text.partition("## Not promised")
    for item in promised.split("\n- ")[1:]:
        assert re.match(r"\*\*[A-Z]\d\d\*\* ", item), item
        assert re.search(r"^  `tests/.+::test_\w+`$", item, flags=re.M), item
    told = set(re.findall(r"\*\*([A-Z]\d\d)\*\*", text))
    tested = {
        row.upper()
        for path in (ROOT / "tests").rglob("test_*.py")
        for row in _ROW.findall(path.read_text(encoding="utf-8"))
    }
    assert sorted(tested - told) == []


def test_the_rows_of_rooms_are_those_of_the_layer_test() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \| (.+) \|$", text, flags=re.M)
    rooms = [tuple(room.replace("/", ".") for room in re.findall(r"`(.+?)`", row)) for row in rows]
    own = [tuple(room for room in row if room != "backend.__main__") for row in ROWS]
    assert rooms == [row for row in own if row]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_are_named_exist(page: Path) -> None:
    known = set.union(OTHER_OPTIONS, *OPTIONS.values())
    for span in spans(page):
        words = span.split()
        if words[0].startswith("-"):
            for word in words:
                assert not word.startswith("--") or word in known | {"--"}, f"{page}: {span}"
    for block in blocks(page):
        for line in block.commands if block.language == "sh" else ():
            check_command(line, f"{page}:{block.line}: {line}")


def check_command(line: str, where: str) -> None:
    """Our own commands in a line have the options that they are given."""
    words = shlex.split(line, comments=True)
    if "yolosam2" in words:
        command, *rest = words[words.index("yolosam2") + 1 :]
        assert command in OPTIONS, where
        own = rest[: rest.index("--")] if "--" in rest else rest
        unknown = [w for w in own if w.startswith("-") and w not in OPTIONS[command]]
        assert unknown == [], where
    if words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]) is not None, where


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_of_known_languages_and_python_can_be_imported(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page}:{block.line}"
        assert block.why_not_run is None or block.language == "sh", f"{page}:{block.line}"
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    check_import(node)


def check_import(node: ast.ImportFrom) -> None:
    """A module has the names that a line imports; looked up in its text, as it may need others."""
    path = ROOT / f"{str(node.module).replace('.', '/')}.py"
    names = {
        one.name
        for one in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(one, ast.FunctionDef | ast.ClassDef)
    }
    assert {alias.name for alias in node.names} <= names, node.module


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the program, three images in ``photos`` and a dataset in ``VOC``."""
    programs = tmp_path / "bin"
    programs.mkdir()
    start = f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)}"
    for name, more in (("yolosam2", "-m backend "), ("python", "")):
        path = programs / name
        path.write_text(f'{start} {more}"$@"\n', encoding="utf-8")
        path.chmod(0o755)
    work = tmp_path / "work"
    (work / "photos").mkdir(parents=True)
    for image in sorted((SAMPLES / "JPEGImages").iterdir())[:3]:
        shutil.copy(image, work / "photos")
    shutil.copytree(SAMPLES, work / "VOC")
    return tmp_path


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all pages, as a reader has one: models are converted for the CPU once."""
    return tmp_path_factory.mktemp("cache")


LONG = ("annotate.md", "scoring.md")  # more than half a minute each


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.name in LONG else [], id=name_of(page))
        for page in RUN
    ],
)
def test_commands_run(page: Path, place: Path, kept: Path) -> None:
    """Those that can run without a network, a window or files of the reader."""
    ours = {
        variable
        for cls in (Settings, ServiceSettings)
        for declared in settings_of(cls).values()
        for variable in declared.environment
    }
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(place),
        "XDG_CACHE_HOME": str(kept),
        "YOLO_CONFIG_DIR": str(place),
        "HF_HUB_OFFLINE": "1",
        "DEVICE": "cpu",
        # Points a side of automatic masks; more of them only take longer.
        "AUTOMATIC_POINTS_PER_SIDE": "8",
    }
    for block in blocks(page):
        if block.language != "sh" or block.why_not_run:
            continue
        done = subprocess.run(
            ["sh", "-e", "-c", block.text],
            cwd=place / "work",
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        told = f"{name_of(page)}:{block.line}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, told
