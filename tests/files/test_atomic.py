"""Writing never loses anything; names never collide."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import ConfigError, Unavailable
from backend.files.atomic import (
    ensure_writable,
    set_aside,
    sweep_stale,
    temporary_beside,
    write_atomic,
    write_new,
)
from backend.files.find import PassedOver, find_files
from backend.files.names import unique_stems
from tests.conftest import PYTHON, ROOT


def test_write_replaces_and_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.json"
    write_atomic(path, b"old")
    path.chmod(0o640)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_d01_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(Unavailable, match=r"a\.json: cannot write: file too large"):
            write_atomic(path, b"x" * 5000)
        with pytest.raises(Unavailable, match=r"new\.json: cannot write: file too large"):
            write_new(tmp_path / "new.json", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_d02_stale_files_of_dead_runs_go_others_stay(tmp_path: Path) -> None:
    dead = subprocess.Popen([PYTHON, "-c", ""])
    dead.wait()
    mine = temporary_beside(tmp_path / "a")
    mine.write_text("x")
    killed = mine.name.replace(f".{os.getpid()}.", f".{dead.pid}.")
    (tmp_path / killed).write_text("x")
    elsewhere = tmp_path / killed.replace(killed.split(".")[2], "01234567")  # another machine's
    elsewhere.write_text("x")
    other = tmp_path / ".note.tmp"
    other.write_text("x")
    assert sweep_stale(tmp_path) == 1
    assert mine.exists()
    assert elsewhere.exists()
    assert other.exists()


def test_killed_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "from pathlib import Path; from backend.files.atomic import write_atomic\nwhile True:"
        f" write_atomic(Path({str(path)!r}), b'n' * 3_000_000)"
    )
    for delay in (0.5, 0.63, 0.77):
        process = subprocess.Popen([PYTHON, "-c", code], cwd=ROOT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.wait()
        assert path.read_bytes() in (b"old", b"n" * 3_000_000)
    sweep_stale(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_long_names_in_any_script_fit(tmp_path: Path) -> None:
    path = tmp_path / ("図" * 80 + ".json")
    write_atomic(path, b"x")
    assert path.read_bytes() == b"x"


def test_set_aside_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("one", "two", "three"):
        path.write_text(text)
        set_aside(path)
    assert sorted((p.name, p.read_text()) for p in tmp_path.glob("*.bak*")) == [
        ("a.json.bak", "one"),
        ("a.json.bak2", "two"),
        ("a.json.bak3", "three"),
    ]


def test_d04_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot write results there: not a directory"):
        ensure_writable(tmp_path / "file" / "out")
    ensure_writable(tmp_path / "new" / "deep")
    assert list((tmp_path / "new" / "deep").iterdir()) == []


def test_find_files_is_ordered_and_stays_inside(tmp_path: Path) -> None:
    for name in (
        "b.jpg",
        "a.JPG",
        ".hidden.jpg",
        "x/c.png",
        "x/notes.txt",
        ".git/d.jpg",
        "out/e.jpg",
    ):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("x")
    (tmp_path / "secret.jpg").write_text("x")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "x")
    passed = PassedOver()
    found = find_files(
        tmp_path / "in", (".jpg", ".png"), [tmp_path / "in" / "out"], passed_over=passed
    )
    assert [p.relative_to(tmp_path / "in").as_posix() for p in found] == [
        "a.JPG",
        "b.jpg",
        "x/c.png",
    ]
    assert {link.name for link in passed.links} == {"link.jpg", "linked"}
    assert passed.others == {".txt": 2}
    assert PassedOver().remarks(()) == []


def test_stems_by_hand() -> None:
    paths = [Path("a.jpg"), Path("a.png"), Path("b.jpg"), Path("s/a.jpg"), Path("A_jpg.png")]
    stems = unique_stems(paths)
    assert (stems[2], stems[3]) == ("b", "s/a")
    assert len({stem.casefold() for stem in stems}) == 5
    assert unique_stems([Path("a.jpg"), Path("a_2.jpg"), Path("a.jpg")]) == [
        "a_jpg",
        "a_2",
        "a_jpg_2",
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("aAbB"),
            st.sampled_from(["", "_jpg", "_png_2"]),
            st.sampled_from([".jpg", ".JPG", ".png"]),
        ),
    )
)
def test_stems_never_collide(parts: list[tuple[str, str, str]]) -> None:
    paths = [Path("".join(part)) for part in parts]
    stems = unique_stems(paths)
    assert len(stems) == len({stem.casefold() for stem in stems}) == len(paths)
