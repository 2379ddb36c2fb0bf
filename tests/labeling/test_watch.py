"""``annotate --watch``: pictures are labelled as they land, and nothing that a person made is
touched.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from backend.demo.scenes.compose import Scene
from backend.drawing.overlays import encode_picture
from backend.files import ownership
from backend.files.atomic import write_new
from backend.labeling.cascade import Cascade
from backend.labeling.picture_work import RunOptions
from backend.labeling.run_summary import RunSummary
from backend.labeling.watch import Watcher, _Watch, watch
from labelme_plugin.document import read_document, unchanged_version_of
from tests.conftest import PYTHON, ROOT
from tests.support.fakes import FakeDetector, FakeSegmenter

MINE = json.dumps({"shapes": [], "imagePath": "x.jpg", "imageData": None, "note": "by hand"})


def wait_for(test: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not test():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def watching(
    folder: Path, cascade: Cascade, out: Path | None = None
) -> Iterator[tuple[list[str], list[RunSummary]]]:
    """A watch on a thread; gives what it says, and at the end its summary."""
    stop = threading.Event()
    said = []
    summaries = []

    def run() -> None:
        summaries.append(
            watch(
                [folder],
                cascade,
                out,
                RunOptions(progress=False),
                said.append,
                interval_s=0.05,
                stop=stop,
            )
        )

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield said, summaries
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def picture(scenes: list[Scene]) -> bytes:
    return encode_picture(scenes[0].image)


def test_pictures_are_labelled_as_they_land(tmp_path: Path, fake: Cascade, picture: bytes) -> None:
    (tmp_path / "there.jpg").write_bytes(picture)
    with watching(tmp_path, fake) as (said, summaries):
        wait_for((tmp_path / "there.json").exists)
        (tmp_path / "sub ü").mkdir()
        (tmp_path / "sub ü/later.png").write_bytes(picture)
        wait_for((tmp_path / "sub ü/later.json").exists)
        wait_for(lambda: len(said) == 2)
        assert "there.jpg: 1 cat" in said[0]
        assert "sub ü/later.png: 1 cat" in said[1]
    assert unchanged_version_of(tmp_path / "there.json") == fake.model_version
    assert read_document(tmp_path / "sub ü/later.json")["imagePath"] == "later.png"
    assert (summaries[0].labelled, summaries[0].failed, summaries[0].stopped) == (2, [], None)


def test_what_a_person_made_is_never_touched(tmp_path: Path, fake: Cascade, picture: bytes) -> None:
    (tmp_path / "mine.json").write_text(MINE)
    (tmp_path / "mine.jpg").write_bytes(picture)
    with watching(tmp_path, fake) as (said, summaries):
        (tmp_path / "other.jpg").write_bytes(picture)
        wait_for((tmp_path / "other.json").exists)
        wait_for(lambda: said)
        changed = json.loads((tmp_path / "other.json").read_text())
        changed["shapes"] = []
        (tmp_path / "other.json").write_text(json.dumps(changed))
        os.utime(tmp_path / "other.jpg")  # as if it had landed again
        (tmp_path / "third.jpg").write_bytes(picture)
        wait_for((tmp_path / "third.json").exists)
    assert (tmp_path / "mine.json").read_text() == MINE
    assert json.loads((tmp_path / "other.json").read_text()) == changed
    assert summaries[0].hand_made == 2


def test_a_file_that_appears_while_its_picture_is_labelled_wins(
    tmp_path: Path, picture: bytes
) -> None:
    class Slow(FakeSegmenter):
        def segment(self, images: Sequence, boxes: Sequence) -> list:
            (tmp_path / "a.json").write_text(MINE)  # the annotator saves now
            return super().segment(images, boxes)

    (tmp_path / "a.jpg").write_bytes(picture)
    cascade = Cascade(FakeDetector(), Slow())
    with watching(tmp_path, cascade):
        wait_for((tmp_path / "a.json").exists)
        time.sleep(0.3)
    assert (tmp_path / "a.json").read_text() == MINE
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.jpg", "a.json"]


def test_the_last_moment_is_safe_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and writing: the link fails where a file is, and nothing is left behind."""
    path = tmp_path / "a.json"
    link = os.link

    def late(source: Path, target: Path) -> None:
        path.write_text(MINE)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert write_new(path, b"ours") is False
    assert path.read_text() == MINE
    monkeypatch.setattr(os, "link", link)
    assert write_new(tmp_path / "new/b.json", b"ours") is True
    assert (tmp_path / "new/b.json").read_bytes() == b"ours"

    def refuses(source: Path, target: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuses)
    assert write_new(path, b"ours") is False
    assert write_new(tmp_path / "c.json", b"ours") is True
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.json", "c.json", "new"]


def test_half_a_picture_is_waited_for(tmp_path: Path, fake: Cascade, picture: bytes) -> None:
    with watching(tmp_path, fake) as (said, _):
        with (tmp_path / "slow.jpg").open("wb") as stream:
            for k in range(0, len(picture), len(picture) // 8):  # as a slow copy writes it
                stream.write(picture[k : k + len(picture) // 8])
                stream.flush()
                time.sleep(0.03)
        wait_for((tmp_path / "slow.json").exists)
        (tmp_path / "broken.jpg").write_bytes(picture[: len(picture) // 2])
        wait_for(lambda: any("broken.jpg" in line for line in said))
        assert len([line for line in said if "broken.jpg" in line]) == 1
        (tmp_path / "broken.jpg").write_bytes(picture)
        wait_for((tmp_path / "broken.json").exists)
    assert not any("slow.jpg" in line and "failed" in line for line in said)


def test_looks_only_give_what_is_new_and_complete(tmp_path: Path, picture: bytes) -> None:
    watcher = Watcher([tmp_path], [tmp_path / "out"])
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "a.jpg", tmp_path / "out/b.jpg"):
        path.write_bytes(picture)
    (tmp_path / "empty.jpg").touch()
    assert watcher.look() == []
    assert watcher.look() == [tmp_path / "a.jpg"]
    assert watcher.take(tmp_path / "a.jpg") is False
    assert watcher.look() == []
    (tmp_path / "a.jpg").write_bytes(picture + b"\0")
    assert watcher.look() == []
    assert watcher.look() == [tmp_path / "a.jpg"]
    (tmp_path / "a.jpg").unlink()
    assert watcher.look() == []


def test_what_cannot_be_watched(run_cli, tmp_path: Path, picture: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(picture)
    demo = ("--detector", "demo", "--segmenter", "demo", "--device", "cpu")
    for arguments, sentence in (
        ((tmp_path / "a.jpg",), "--watch needs a folder"),
        ((tmp_path, "--overwrite"), "--watch: never replaces anything"),
        ((tmp_path, "--format", "voc"), "--watch: writes labelme JSON, not voc"),
        (
            (tmp_path, tmp_path, "--out", tmp_path / "o"),
            "--watch: several folders cannot share one --out",
        ),
        ((tmp_path, "--interval", "0"), "--interval: expected more than 0"),
    ):
        code, _, err = run_cli("annotate", "--watch", *arguments, *demo)
        assert (code, sentence in err) == (2, True), err
    code, _, err = run_cli("annotate", tmp_path, *demo)
    assert (code, "--out DIR is missing" in err) == (2, True)


@pytest.mark.slow
def test_the_program_watches_until_it_is_told_to_stop(tmp_path: Path, scenes: list[Scene]) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_picture(scenes[0].image))
    command = [
        PYTHON,
        "-m",
        "backend",
        "annotate",
        "--watch",
        str(tmp_path),
        "--detector",
        "demo",
        "--segmenter",
        "demo",
        "--device",
        "cpu",
        "--interval",
        "0.1",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for((tmp_path / "a.json").exists)
    (tmp_path / "b.jpg").write_bytes(encode_picture(scenes[1].image))
    wait_for((tmp_path / "b.json").exists)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "labelled 2 images" in out
    assert "watching" in err
    assert "a.jpg: " in err
    assert unchanged_version_of(tmp_path / "a.json")


def test_a_replaced_picture_gets_new_labels_unless_a_person_changed_the_old_ones(
    tmp_path: Path, fake: Cascade, scenes: list[Scene]
) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(encode_picture(scenes[0].image[:60, :80]))
    with watching(tmp_path, fake) as (said, summaries):
        wait_for(lambda: (tmp_path / "a.json").exists() and (tmp_path / "b.json").exists() and said)
        changed = {**read_document(tmp_path / "b.json"), "note": "mine"}
        (tmp_path / "b.json").write_text(json.dumps(changed))
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).write_bytes(encode_picture(scenes[0].image[:70, :90]))
        wait_for(lambda: read_document(tmp_path / "a.json")["imageHeight"] == 70)
    assert json.loads((tmp_path / "b.json").read_text()) == changed
    assert summaries[0].hand_made == 1


def test_passing_problems_pass(
    tmp_path: Path, fake: Cascade, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that fails, a folder that cannot be written for a while, a link to itself: said,
    and got over.
    """
    from backend.errors import ConfigError
    from backend.labeling import watch as module

    monkeypatch.setattr(module, "_RETRY_S", (0.1, 0.1, 0.1))
    refuse = [True]
    annotate = module.annotate

    def unwritable(*arguments: object, **options: object) -> RunSummary:
        if refuse:
            raise ConfigError(f"{tmp_path}: cannot write results there")
        return annotate(*arguments, **options)

    monkeypatch.setattr(module, "annotate", unwritable)
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "a.jpg").write_bytes(picture)
    with watching(tmp_path, fake) as (said, summaries):
        wait_for(lambda: said)
        refuse.clear()
        wait_for((tmp_path / "a.json").exists)
        wait_for(lambda: len(said) == 2)
    assert "failed: " in said[0]
    assert "a.jpg: 1 cat" in said[1]
    assert (summaries[0].failed, summaries[0].labelled) == ([], 1)


def test_a_picture_that_never_works_is_tried_a_few_times_and_said_once(
    tmp_path: Path, fake: Cascade, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend.labeling import watch as module

    monkeypatch.setattr(module, "_RETRY_S", (0.02, 0.02, 0.02))
    (tmp_path / "broken.jpg").write_bytes(picture[:3000])
    with watching(tmp_path, fake) as (said, summaries):
        wait_for(lambda: said)
        time.sleep(1)
    assert len(said) == 1
    ((name, _),) = summaries[0].failed
    assert name == str(tmp_path / "broken.jpg")


def test_only_what_was_written_is_told(tmp_path: Path, fake: Cascade, picture: bytes) -> None:
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(picture)
    with watching(tmp_path, fake):
        wait_for(lambda: len(list(tmp_path.glob("*.json"))) == 3)
    (tmp_path / "z.jpg").write_bytes(picture)
    with watching(tmp_path, fake) as (said, summaries):
        wait_for(lambda: said)
    assert "z.jpg: 1 cat" in said[0]
    assert "0.jpg" not in said[0]
    assert (summaries[0].labelled, summaries[0].done) == (1, 3)


def test_more_pictures_than_a_round_takes(tmp_path: Path, fake: Cascade, picture: bytes) -> None:
    for k in range(70):
        (tmp_path / f"{k:02}.jpg").write_bytes(picture)
    with watching(tmp_path, fake) as (said, summaries):
        wait_for(lambda: len(list(tmp_path.glob("*.json"))) == 70)
    assert summaries[0].labelled == 70
    assert len(said) == 3


def test_a_dataset_folder_is_a_folder(tmp_path: Path, fake: Cascade, picture: bytes) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("other\n")
    (tmp_path / "JPEGImages/a.jpg").write_bytes(picture)
    with watching(tmp_path, fake):
        wait_for((tmp_path / "JPEGImages/a.json").exists)


def test_a_replaced_picture_is_stale_until_it_was_labelled_again(
    tmp_path: Path, fake: Cascade, picture: bytes
) -> None:
    """It is damaged first, then gone, then there in another size: the labels of the picture before
    must not stay.
    """
    path = tmp_path / "a.png"
    watcher = Watcher([tmp_path])
    run = _Watch(
        fake, None, RunOptions(progress=False), lambda text: None, watcher, threading.Event()
    )
    path.write_bytes(picture)
    before = None
    for content in (None, picture[:200], b"", encode_picture(np.zeros((90, 70, 3), np.uint8))):
        if content == b"":
            path.unlink()
        elif content is not None:
            path.write_bytes(content)
        watcher.look()
        run.round(watcher.look())
        for failed in list(run._failed):
            watcher.give_back(failed)
        before = before or (tmp_path / "a.json").read_bytes()
    after = (tmp_path / "a.json").read_bytes()
    assert after != before
    assert json.loads(after)["imageHeight"] == 90
    assert not run.total.failed


def test_a_second_picture_of_a_name_changes_nothing_for_the_first(
    tmp_path: Path, fake: Cascade, picture: bytes
) -> None:
    for first, second in (("a.png", "a.jpg"), ("b.jpg", "b.png")):
        (tmp_path / first).write_bytes(picture)
        with watching(tmp_path, fake) as (said, _):
            wait_for(lambda said=said: said)
        (tmp_path / second).write_bytes(picture)
    for _ in range(2):  # each watch is a restart
        with watching(tmp_path, fake):
            wait_for(lambda: len(list(tmp_path.glob("*.json"))) >= 4)
            time.sleep(0.3)
    named = {path.name: read_document(path)["imagePath"] for path in tmp_path.glob("*.json")}
    assert named == {
        "a.json": "a.png",
        "a_jpg.json": "a.jpg",
        "b.json": "b.jpg",
        "b_png.json": "b.png",
    }


def test_a_picture_that_failed_and_was_removed_is_forgotten(
    tmp_path: Path, fake: Cascade, picture: bytes
) -> None:
    (tmp_path / "a.jpg").write_bytes(picture[:500])
    with watching(tmp_path, fake) as (said, summaries):
        wait_for(lambda: any("failed" in line for line in said))
        (tmp_path / "a.jpg").unlink()
        time.sleep(0.3)
    assert summaries[0].failed == []


def test_what_is_saved_while_it_is_replaced_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text("ours")
    plain = ownership.write_atomic

    def a_person_saves_first(target: Path, data: bytes) -> None:
        target.write_text("theirs")  # in place, as labelme does
        plain(target, data)

    monkeypatch.setattr(ownership, "write_atomic", a_person_saves_first)
    written = ownership.write_together(
        [(path, b"new")], lambda one: one.read_text() in ("ours", "new"), overwrite=False
    )
    assert not written
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]
