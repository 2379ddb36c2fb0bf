"""Runs on Ray and in stores: the same files as in one process on a disk, whatever dies."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from backend.cli.main import main
from backend.errors import ConfigError
from backend.files.find import PassedOver
from backend.files.stores import is_stored, place_of, write_stored
from backend.labeling import annotate_ray
from backend.labeling.annotate import annotate
from backend.labeling.annotate_ray import RayJob, annotate_on_ray
from backend.labeling.engine_ray import RayOptions
from backend.labeling.picture_work import Done, RunOptions
from backend.labeling.ray_workers import Failure, Loaded, Skipped
from backend.labeling.run_summary import RunSummary
from backend.labeling.sources import ImageItem, collect, stream
from tests.support.ray_program import cascade, dying
from tests.support.store_server import s3

FORMATS = ("labelme", "label-studio", "voc", "overlay")
OPTIONS = RunOptions(batch=4, progress=False)
RAY = RayOptions(batch=4, loaders=1)


on_ray = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def pictures(folder: Path, count: int) -> Path:
    """A folder with small pictures in three folders."""
    for k in range(count):
        picture = np.full((36, 48, 3), 40 + k % 100, np.uint8)
        place = folder / "abc"[k % 3] / f"{k:03}.jpg"
        data = bytes(cv2.imencode(".jpg", picture)[1])
        if is_stored(folder):
            write_stored(place, data)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """What is below a folder, by name."""
    if is_stored(folder):
        store = folder.fs  # type: ignore[attr-defined]
        paths = [folder / name[len(folder.path) :].lstrip("/") for name in store.find(folder.path)]
    else:
        paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if not path.name.startswith(".")  # what a folder remembers
    }


def here(source: Path, out: Path, options: RunOptions = OPTIONS) -> RunSummary:
    """A run in this process."""
    return annotate(collect([source], "val", out).items, cascade(), FORMATS, out, options)


def job_of(source: Path, out: Path, make: object = cascade) -> RayJob:
    made = cascade()
    return RayJob(
        make_labeler=make,
        names=list(made.names.values()),
        version=made.model_version,
        source=source,
        out=out,
        formats=FORMATS,
        options=OPTIONS,
    )


def there(
    source: Path, out: Path, make: object = cascade, stop: threading.Event | None = None
) -> RunSummary:
    """A run on Ray."""
    job = job_of(source, out, make)
    items = stream(source, out, PassedOver())
    return annotate_on_ray(items, job, RAY, stop or threading.Event())


@pytest.mark.parametrize("name", ["a.jpg", "b/a.jpg", "b/a.png", "b/c/d.jpg"])
def test_a_stream_lists_what_a_list_has(name: str, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 7)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
    (folder / "a" / "again.jpg").symlink_to(folder / "a" / "000.jpg")
    (folder / "a" / "000.png").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    passed = PassedOver()
    listed = collect([folder], "val", tmp_path / "out")
    found = list(stream(folder, tmp_path / "out", passed))
    assert sorted(found, key=str) == sorted(listed.items, key=str)
    assert "1 name of pictures that have another name too left out" in str(listed.remarks)
    assert passed.remarks([".txt"]) == list(listed.remarks)


def test_folders_that_differ_in_capitals_are_labelled_apart(tmp_path: Path) -> None:
    for folder in ("A", "a"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "x.jpg").write_bytes(b"")
    passed = PassedOver()
    found = list(stream(tmp_path, tmp_path / "out", passed))
    assert [str(one.relative) for one in found] == ["A/x.jpg"]
    assert "but for capitals" in passed.refused[0][1]


def test_a_store_gets_the_files_that_a_disk_gets(tmp_path: Path) -> None:
    store = place_of(f"memory://{secrets.token_hex(4)}")
    on_disk = here(pictures(tmp_path / "set", 9), tmp_path / "out")
    pictures(store / "set", 9)
    in_store = here(store / "set", store / "out")
    assert in_store.labelled == on_disk.labelled == 9
    wanted = files(tmp_path / "out")
    del wanted["label-studio/import.json"]  # of all tasks, which a store would be read for
    assert files(store / "out") == wanted
    again = here(store / "set", store / "out")
    assert (again.labelled, again.done, again.outdated) == (0, 9, 0)


def test_a_store_keeps_what_a_person_changed(tmp_path: Path) -> None:
    store = place_of(f"memory://{secrets.token_hex(4)}")
    pictures(store / "set", 3)
    here(store / "set", store / "out")
    changed = store / "out" / "a" / "000.json"
    changed.write_text(changed.read_text().replace("cat", "tiger"))
    kept = changed.read_bytes()
    again = here(store / "set", store / "out")
    assert (again.hand_made, again.behind) == (1, 1)
    assert changed.read_bytes() == kept
    replaced = here(store / "set", store / "out", replace(OPTIONS, overwrite=True))
    assert replaced.labelled == 3
    assert (store / "out" / "a" / "000.json.bak").read_bytes() == kept


def test_pictures_to_label_are_not_replaced(tmp_path: Path) -> None:
    job = job_of(tmp_path, tmp_path)
    job = replace(job, options=replace(OPTIONS, overwrite=True), formats=("overlay",))
    with pytest.raises(ConfigError, match="holds the pictures to label"):
        annotate_on_ray([], job, RAY, threading.Event())


def test_nothing_is_written_over_a_picture(tmp_path: Path) -> None:
    source = pictures(tmp_path / "set", 2)
    outputs = replace(job_of(source, source), formats=("overlay",)).outputs()
    with pytest.raises(ConfigError, match="is one of the pictures to label"):
        list(annotate_ray._checked(stream(source, source, PassedOver()), outputs))
    assert len(list(annotate_ray._checked(stream(source, source, PassedOver()), []))) == 2


def test_what_was_there_before_a_worker_died_is_not_made_anew(tmp_path: Path) -> None:
    """A picture that is loaded again is looked at as it was when it was loaded first."""
    source = pictures(tmp_path / "set", 1)
    out = tmp_path / "out"
    annotate(collect([source], "val", out).items, cascade(), ("labelme",), out, OPTIONS)
    before = files(out)
    job = job_of(source, out)
    load = annotate_ray._Loader(job, out)
    models = annotate_ray._Models(job, out)
    [item] = stream(source, out, PassedOver())
    first = load(item, None)
    assert isinstance(first, Loaded)
    assert first.found.wanted == (1, 2, 3)  # of FORMATS

    def finish(loaded: Loaded) -> Done:
        _, done = models.finish(item, loaded.item, models.infer([loaded.item])[0])
        assert isinstance(done, Done)
        return done

    assert finish(first).written == (True,) * 3
    (out / "a" / "000.json").write_bytes(before["a/000.json"] + b" ")  # would be seen if replaced
    again = load(item, first.found)
    assert isinstance(again, Loaded)
    assert again.found == first.found
    assert finish(again).written == (True,) * 3
    assert (out / "a" / "000.json").read_bytes() == before["a/000.json"] + b" "
    assert isinstance(load(item, None), Skipped)


def test_a_picture_that_cannot_be_read_tells_what_was_found(tmp_path: Path) -> None:
    source = pictures(tmp_path / "set", 1)
    (source / "a" / "000.jpg").write_bytes(b"no picture")
    [item] = stream(source, tmp_path, PassedOver())
    found = annotate_ray._Loader(job_of(source, tmp_path / "out"), source)(item, None)
    assert isinstance(found, Skipped)
    looked, failure = found.value
    assert looked.item == item
    assert isinstance(failure, Failure)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("other", "--engine", "ray"), "takes one folder, dataset or address"),
        (("--engine", "ray", "--actors", "0"), "expected a number above 0"),
        (("--engine", "ray", "--watch"), "looks at folders on a disk"),
    ],
)
def test_what_ray_cannot_is_told(
    more: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ("--detector", "demo", "--segmenter", "demo")
    out = ("--out", str(tmp_path / "o"))
    assert main(["annotate", str(tmp_path), *more, *out, *models]) == 2
    assert told in capsys.readouterr().err


def test_datasets_are_not_made_in_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", "memory://set", "--out", "memory://out", "--format", "coco"]) == 2
    assert "convert a copy of the store" in capsys.readouterr().err


def test_pictures_of_a_store_make_no_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", "memory://set", "--out", "out", "--format", "yolo"]) == 2
    assert "convert a copy of the store" in capsys.readouterr().err


def test_an_address_that_nothing_reaches_ends_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["annotate", "s4://bucket/set", "--out", "out"]) == 2
    assert "yolosam2: s4://bucket/set: is not an address" in capsys.readouterr().err


def test_results_may_lie_beside_the_pictures_of_a_store(tmp_path: Path) -> None:
    store = place_of(f"memory://{secrets.token_hex(4)}")
    pictures(store, 6)
    assert here(store, store).labelled == 6
    assert len(list(stream(store, store, PassedOver()))) == 6  # and no overlays
    assert here(store, store).done == 6


def test_a_store_that_fails_costs_the_pictures_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place_of(f"memory://{secrets.token_hex(4)}")
    pictures(store / "set", 3)
    here(store / "set", store / "out")
    kind = type(store.fs)  # type: ignore[attr-defined]
    asked = kind.info

    def refuse(self: object, path: str, **options: object) -> object:
        if path.endswith("out/a/000.json"):
            raise RuntimeError("slow down")
        return asked(self, path, **options)

    monkeypatch.setattr(kind, "info", refuse)
    done = here(store / "set", store / "out")
    assert done.done == 2
    ((name, reason),) = done.failed
    assert name.endswith("set/a/000.jpg")
    assert "slow down" in reason


class TestOnRay:
    """With workers; each test takes about ten seconds."""

    pytestmark = on_ray

    def test_the_same_files_when_a_worker_is_killed(self, tmp_path: Path) -> None:
        source = pictures(tmp_path / "set", 300)
        (source / "b" / "bad.jpg").write_bytes(b"no picture")
        one = here(source, tmp_path / "here")
        marker = tmp_path / "marker"
        two = there(source, tmp_path / "there", partial(dying, marker))
        assert marker.read_text() == "killed"
        assert files(tmp_path / "here") == files(tmp_path / "there")
        # What was written, but not told before the worker died, is done anew, and counted once.
        assert (two.labelled, two.done) == (one.labelled, one.done) == (300, 0)
        assert two.per_class == one.per_class
        assert two.failed == one.failed
        assert len(two.failed) == 1
        # And goes on where it ended, also where one process began.
        for k in range(2, 300, 6):
            (tmp_path / "here" / "c" / f"{k:03}.json").unlink()
        marker.unlink()
        again = there(source, tmp_path / "here", partial(dying, marker))
        assert marker.read_text() == "killed"
        assert (again.labelled, again.done) == (50, 250)
        assert files(tmp_path / "here") == files(tmp_path / "there")

    def test_a_picture_that_kills_its_workers_costs_itself(self, tmp_path: Path) -> None:
        source = pictures(tmp_path / "set", 12)
        white = np.full((36, 48, 3), 255, np.uint8)
        cv2.imwrite(str(source / "b" / "white.jpg"), white)
        done = there(source, tmp_path / "out", dying)
        assert done.labelled == 12
        ((name, reason),) = done.failed
        assert name.endswith("white.jpg")
        assert "that had it in hand died" in reason

    def test_a_stop_finishes_what_is_in_flight(self, tmp_path: Path) -> None:
        stop = threading.Event()
        source = pictures(tmp_path / "set", 60)

        def items() -> Iterator[ImageItem]:
            for k, one in enumerate(stream(source, tmp_path / "out", PassedOver())):
                if k == 20:
                    stop.set()
                yield one

        job = job_of(source, tmp_path / "out")
        done = annotate_on_ray(items(), job, RAY, stop)
        assert done.stopped == "interrupted"
        assert 20 <= done.labelled < 60
        rest = there(source, tmp_path / "out")
        assert rest.labelled + rest.done == 60

    def test_a_store_of_s3(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with s3(monkeypatch) as bucket:
            store = place_of(bucket)
            here(pictures(tmp_path / "set", 20), tmp_path / "out")
            pictures(store / "set", 20)
            done = there(store / "set", store / "out")
            assert (done.labelled, done.failed) == (20, [])
            wanted = files(tmp_path / "out")
            del wanted["label-studio/import.json"]
            assert files(store / "out") == wanted
            again = there(store / "set", store / "out")
            assert (again.labelled, again.done) == (0, 20)

    def test_models_that_do_not_load_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="not these weights"):
            there(pictures(tmp_path / "set", 3), tmp_path / "out", _fails)


def _fails() -> object:
    raise ConfigError("not these weights")
