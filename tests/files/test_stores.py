"""Files in stores: found, read and written as those of a disk."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.errors import ConfigError, InputError, Unavailable
from backend.files import stores
from backend.files.atomic import ensure_writable, write_atomic, write_new
from backend.files.find import PassedOver, find_files
from backend.files.images import ImageLimits, read_image
from backend.files.ownership import state_of, write_together
from backend.files.stores import (
    find_stored,
    is_address,
    is_stored,
    place_of,
    read_stored,
    relative_to_store,
    write_stored,
)
from tests.support.store_server import s3

NAMES = ("b/x.jpg", "a.PNG", "b/.hidden.jpg", ".h/x.jpg", "out/q.jpg", "c/d/e f.jpeg", "c/ä.jpg")
OTHERS = ("c/n.txt", "readme")
SUFFIXES = (".jpg", ".png", ".jpeg")


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.timeout(60))])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of a store."""
    if request.param == "memory":
        yield place_of(f"memory://{secrets.token_hex(4)}")
        return
    with s3(monkeypatch) as bucket:
        yield place_of(f"{bucket}/{secrets.token_hex(4)}")


def test_a_path_stays_a_path() -> None:
    assert place_of("a/b.jpg") == Path("a/b.jpg")
    assert place_of("file:///a/b%20c.jpg") == Path("/a/b c.jpg")
    assert not is_stored(place_of("a"))
    assert is_stored(place_of("memory://a"))
    assert not is_address("a/b")


def test_an_address_that_nothing_reaches_is_told() -> None:
    with pytest.raises(ConfigError, match="s4://x/y: is not an address that fsspec knows"):
        place_of("s4://x/y")


@pytest.mark.parametrize("address", ["s3://me:secret@host/set", "https://host/set?token=secret"])
def test_a_password_is_neither_taken_nor_told(address: str) -> None:
    with pytest.raises(ConfigError, match="must not hold a password") as caught:
        place_of(address)
    assert "secret" not in str(caught.value)


def test_results_go_where_nothing_of_others_can_be_lost(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"results go into s3:// or gs://"):
        ensure_writable(place_of(f"local://{tmp_path}/out"))


def test_what_has_to_be_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "upath", None)
    with pytest.raises(ConfigError, match=r"not installed; pip install '\.\[s3\]'"):
        place_of("s3://bucket/set")


def test_a_store_gives_what_a_disk_gives(store: Path, tmp_path: Path) -> None:
    for name in (*NAMES, *OTHERS):
        write_stored(store / name, b"1")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    there = PassedOver()
    here = PassedOver()
    found = list(find_stored(store, SUFFIXES, [store / "out"], there))
    wanted = list(find_files(tmp_path, SUFFIXES, [tmp_path / "out"], passed_over=here))
    assert [one.relative_to(store).as_posix() for one in found] == [
        one.relative_to(tmp_path).as_posix() for one in wanted
    ]
    assert len(found) == 4
    assert there.others == here.others


def test_a_folder_that_is_not_there_is_told(store: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be listed"):
        list(find_stored(store / "nothing", SUFFIXES, (), PassedOver()))


def test_files_are_written_whole_or_only_where_there_is_none(store: Path) -> None:
    ensure_writable(store)
    assert write_new(store / "a/b.json", b"first")
    assert not write_new(store / "a/b.json", b"second")
    assert (store / "a/b.json").read_bytes() == b"first"
    write_atomic(store / "a/b.json", b"third")
    assert read_stored(store / "a/b.json", 5) == b"third"
    assert [path.name for path in (store / "a").iterdir()] == ["b.json"]


def test_what_is_no_picture_is_told(store: Path) -> None:
    write_stored(store / "a.jpg", b"nothing of a picture")
    with pytest.raises(InputError, match=r"a\.jpg: is not one of"):
        read_image(store / "a.jpg")
    with pytest.raises(InputError, match="larger than 5 bytes"):
        read_image(store / "a.jpg", ImageLimits(max_bytes=5))
    with pytest.raises(InputError, match="no such file"):
        read_image(store / "b.jpg")


def test_a_store_that_refuses_may_work_later(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("Access Denied\nmore")

    fs = stores._fs(store)
    for name in ("cat_file", "pipe_file", "info"):
        # Where it is: undone on a store that had none of its own, it would hide its kind's from
        # other tests.
        monkeypatch.setattr(fs if name in vars(fs) else type(fs), name, refuse)
    with pytest.raises(Unavailable, match="refuses"):  # and never: there is none
        write_together([(store / "a", b"")], lambda path: False, overwrite=False)
    with pytest.raises(Unavailable, match="refuses"):
        state_of([store / "a"], lambda path: False)
    with pytest.raises(Unavailable, match="refuses: PermissionError: Access Denied$"):
        read_stored(store / "a", 5)
    with pytest.raises(Unavailable, match="refuses"):
        write_stored(store / "a", b"")
    with pytest.raises(ConfigError, match="cannot write results there"):
        ensure_writable(store)


def test_a_file_names_another_of_its_store_by_the_way_to_it(store: Path, tmp_path: Path) -> None:
    picture = store / "set" / "a.jpg"
    assert relative_to_store(picture, store / "labels" / "b") == "../../set/a.jpg"
    assert relative_to_store(picture, tmp_path) == str(picture)
    assert relative_to_store(tmp_path / "a.jpg", store) == str((tmp_path / "a.jpg").resolve())
