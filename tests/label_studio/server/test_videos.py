"""Tasks with videos, on the embedded models: what a batch finds, what becomes of drawn boxes."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import pytest

from backend.config.models import Settings
from backend.config.service import ServiceSettings
from backend.demo.dataset import write_film
from backend.demo.scenes.clips import Clip
from backend.demo.scenes.objects import CLASS_NAMES
from backend.errors import InputError, Unavailable
from backend.formats.label_studio.make_config import make_config, make_video_config
from backend.formats.tracks.video_rectangle import between, from_region
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.server import video_work
from backend.label_studio.server.requests import PredictRequest, SetupRequest, read_predict
from backend.label_studio.server.service import Service
from backend.label_studio.server.video_files import VideoFiles
from backend.labeling.cascade import Cascade
from backend.labeling.load import build_cascade
from tests.support.boxes import overlap, true_box

SEED = 3_000_004
N_FRAMES = 16
SIZE = (240, 320)
_BOX = {"x": 1, "y": 1, "width": 9, "height": 9}
CONFIG = make_video_config(list(CLASS_NAMES), 25.0)


class Disk(Fetcher):
    """Hands out files by their path."""

    def __init__(self) -> None:
        super().__init__(ServiceSettings())
        self.n_downloads = 0

    def setup_fault(self) -> str | None:
        return None

    def download(
        self, uri: str, task_id: int | None, deadline: float, file: BinaryIO, max_bytes: int
    ) -> None:
        self.n_downloads += 1
        try:
            with Path(uri).open("rb") as source:
                shutil.copyfileobj(source, file)
        except FileNotFoundError:
            raise InputError(f"{uri}: no such file") from None


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    settings = Settings(detector="demo", segmenter="demo", device="cpu")
    return build_cascade(settings, all_scores=True)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def service(cascade: Cascade, disk: Disk) -> Iterator[Service]:
    made = Service(lambda path: cascade, ServiceSettings(deadline_s=120), fetcher=disk, warm=False)
    made.start()
    assert made.inference.wait_loaded(30)
    yield made
    made.stop(10)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_film(path, SEED, N_FRAMES)
    return path


def ask(
    service: Service, film: Path | str, context: Any = None, config: str = CONFIG, task: int = 7
) -> list[dict[str, Any]]:
    body: dict[str, Any] = {
        "tasks": [{"id": task, "data": {"video": str(film)}}],
        "project": "1",
        "label_config": config,
    }
    if context is not None:
        body["params"] = {"context": {"result": context}}
    request: PredictRequest = read_predict(body)
    found: list[dict[str, Any]] = json.loads(service.predict(request).text)["results"]
    return found


def drawn(k: int, label: str | None, frames: dict[int, bool], **more: Any) -> dict[str, Any]:
    """A region as the editor sends it, around object k in some frames."""
    sequence = []
    for frame, enabled in frames.items():
        x0, y0, x1, y1 = true_box(SEED, frame, k) / np.array([320, 240, 320, 240]) * 100
        box = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
        sequence.append({**box, "frame": frame + 1, "enabled": enabled, "time": frame / 25})
    value: dict[str, Any] = {"sequence": sequence, "framesCount": N_FRAMES, "duration": 0.64}
    if label is not None:
        value["labels"] = [label]
    return {
        "id": "drawn1",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": value,
        **more,
    }


def test_a_batch_follows_what_is_found(service: Service, film: Path) -> None:
    assert service.setup(SetupRequest("1", CONFIG)).startswith("demo_yolov8+demo_sam2.1-")
    (answer,) = ask(service, film)
    clip = Clip(SEED)
    assert len(answer["result"]) >= 3
    assert 0 < answer["score"] <= 1
    best = []
    for k, class_id in enumerate(clip.class_ids, 1):
        seen = [f for f in range(N_FRAMES) if (clip.frame(f).objects == k).sum() > 300]
        ious = []
        for region in answer["result"]:
            boxes = between(from_region(region, SIZE, "r"), N_FRAMES)
            if region["value"]["labels"] == [CLASS_NAMES[class_id]]:
                own = [overlap(boxes[f], true_box(SEED, f, k)) for f in seen if f in boxes]
                ious.append(sum(own) / max(1, len(seen)))
        best.append(max(ious, default=0.0))
    assert sorted(best)[-2] > 0.7  # one box is turned, which the embedded detector does not know
    assert all(one["value"]["framesCount"] == N_FRAMES for one in answer["result"])


def test_what_is_not_done_in_time_goes_on_with_the_next_request(
    cascade: Cascade,
    disk: Disk,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = Service(lambda path: cascade, ServiceSettings(deadline_s=120), fetcher=disk, warm=False)
    whole.start()
    (expected,) = ask(whole, film)
    whole.stop(10)
    service = Service(
        lambda path: cascade, ServiceSettings(deadline_s=120), fetcher=disk, warm=False
    )
    service.start()
    # The clock of the frames says that the time is over at frame 9 of the first request.
    frames = video_work.VideoWork.frames

    def short(self: Any, task: Any, video: Any, deadline: float, *more: Any) -> Iterator[Any]:
        for number, image in enumerate(frames(self, task, video, deadline, *more)):
            if number == 9 and not is_second:
                raise video_work.Paused
            yield image

    monkeypatch.setattr(video_work.VideoWork, "frames", short)
    is_second = False
    (first,) = ask(service, film)
    assert "the time was over at frame 9 of 16; ask again to go on from there" in caplog.text
    assert max(r["value"]["sequence"][-1]["frame"] for r in first["result"]) <= 9
    is_second = True
    looked: list[int] = []
    infer = cascade.infer

    def counted(images: Any, *more: Any) -> Any:
        looked.append(len(images))
        return infer(images, *more)

    monkeypatch.setattr(cascade, "infer", counted)
    (second,) = ask(service, film)
    service.stop(10)
    assert len(looked) == 1  # frame 12; that of frame 0 is known
    assert second == expected


def test_a_drawn_box_is_followed(service: Service, film: Path, disk: Disk) -> None:
    region = drawn(2, "star", {2: True})
    (answer,) = ask(service, film, [region])
    (made,) = answer["result"]
    assert made["id"] == "drawn1"
    assert made["value"]["labels"] == ["star"]
    told = from_region(made, SIZE, "r")
    assert min(one.frame for one in told) == 2  # nothing before the person's first frame
    np.testing.assert_allclose(told[0].xyxy, true_box(SEED, 2, 2), atol=0.01)
    boxes = between(told, N_FRAMES)
    assert set(boxes) == set(range(2, N_FRAMES))
    assert np.mean([overlap(boxes[f], true_box(SEED, f, 2)) for f in boxes]) > 0.7
    ask(service, film, [region])
    assert disk.n_downloads == 1  # the file is at hand


def test_what_a_person_drew_stays(service: Service, film: Path) -> None:
    """Two key frames, and a third after which the object is gone."""
    region = drawn(2, "star", {0: True, 5: True, 9: False})
    ((made,),) = ([*one["result"]] for one in ask(service, film, [region]))
    told = {one.frame: one for one in from_region(made, SIZE, "r")}
    assert max(told) == 9
    assert not told[9].enabled
    for frame in (0, 5, 9):
        np.testing.assert_allclose(told[frame].xyxy, true_box(SEED, frame, 2), atol=0.01)
    boxes = between(list(told.values()), N_FRAMES)
    assert np.mean([overlap(boxes[f], true_box(SEED, f, 2)) for f in boxes]) > 0.7


def test_several_boxes_at_once(service: Service, film: Path) -> None:
    both = [drawn(1, "ball", {0: True}), drawn(2, "star", {3: True}, id="drawn2")]
    (answer,) = ask(service, film, both)
    assert [one["id"] for one in answer["result"]] == ["drawn1", "drawn2"]
    assert [one["value"]["labels"] for one in answer["result"]] == [["ball"], ["star"]]
    assert from_region(answer["result"][1], SIZE, "r")[0].frame == 3


def test_another_frame_rate_is_named_and_boxes_follow_the_tag(
    service: Service, film: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (answer,) = ask(service, film, config=make_video_config(list(CLASS_NAMES), 12.5))
    assert 'its tag says frameRate="12.5"' in caplog.text
    assert all(one["value"]["framesCount"] == N_FRAMES // 2 for one in answer["result"])
    found = [
        max(
            overlap(box, true_box(SEED, 2 * frame, k + 1))
            for k in range(len(Clip(SEED).class_ids))
            if (Clip(SEED).frame(2 * frame).objects == k + 1).any()
        )
        for region in answer["result"]
        for frame, box in between(from_region(region, SIZE, "r"), N_FRAMES // 2).items()
    ]
    assert np.mean(found) > 0.75


def test_a_newer_request_ends_an_older_one(service: Service, film: Path) -> None:
    answers: dict[str, Any] = {}
    first = threading.Thread(
        target=lambda: answers.update(first=ask(service, film, [drawn(1, "ball", {0: True})]))
    )
    first.start()
    while not service._boxes._newest:
        time.sleep(0.01)
    time.sleep(0.5)
    answers["second"] = ask(service, film, [drawn(2, "star", {0: True})])
    first.join(60)
    ((older,),) = ([*one["result"]] for one in answers["first"])
    ((newer,),) = ([*one["result"]] for one in answers["second"])
    assert newer["value"]["sequence"][-1]["frame"] > older["value"]["sequence"][-1]["frame"]


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"from_name": "other"}, 'has no tag "other" on a Video'),
        ({"value": {"sequence": []}}, "value.sequence: expected a list"),
        ({"value": {"sequence": [{"frame": 0}], "labels": ["ball"]}}, "expected numbers"),
        ({"value": {"sequence": [{**_BOX, "frame": 1, "x": 10**30}]}}, "expected numbers"),
        ({"value": {"sequence": [{**_BOX, "frame": 1}], "labels": ["\ud800"]}}, "is none of"),
        ({"value": {"sequence": [{**_BOX, "frame": 5_000_000}]}}, "expected 1 to 2,000,000"),
        ({"value": None}, 'the box of "box" has no label'),
    ],
)
def test_boxes_that_cannot_be(
    service: Service, film: Path, region: dict[str, Any], said: str
) -> None:
    bad = {**drawn(1, "ball", {0: True}), **region}
    if "labels" not in (bad["value"] or {"labels": ()}):
        bad["value"]["labels"] = ["ball"]
    with pytest.raises(InputError, match=said):
        # One good box names a tag of the video, so that the request is of it.
        ask(service, film, [drawn(1, "ball", {0: True}), bad])


def test_a_video_that_is_a_list_of_others_is_refused(service: Service, film: Path) -> None:
    """Such a file could name any file of this machine."""
    for name, text in (
        ("list.mp4", f"ffconcat version 1.0\nfile {film.name}\n"),
        ("list.m3u8", f"#EXTM3U\n#EXTINF:1,\nfile://{film}\n#EXT-X-ENDLIST\n"),
    ):
        path = film.with_name(name)
        path.write_text(text)
        (answer,) = ask(service, path)
        assert answer["result"] == []
        assert "is no video that FFmpeg can read" in answer["error"]
        path.unlink()


def test_a_person_s_key_frame_keeps_what_it_says(service: Service, film: Path) -> None:
    region = drawn(2, "star", {0: True})
    region["id"] = "half \ud800"
    region["value"]["sequence"][0] |= {"rotation": 12.5, "x": 33.3333333}
    (answer,) = ask(service, film, [region])
    (made,) = answer["result"]
    assert made["id"] == "track1"
    first = made["value"]["sequence"][0]
    assert (first["rotation"], first["x"]) == (12.5, 33.3333333)


def test_no_time_at_all_is_for_later(
    service: Service, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty prediction would be kept, and nobody would ask again."""

    def none(*more: Any) -> Iterator[Any]:
        raise video_work.Paused
        yield

    monkeypatch.setattr(video_work.VideoWork, "frames", none)
    with pytest.raises(Unavailable, match="no time was left for the video"):
        ask(service, film)


def test_a_box_outside_the_picture_is_as_it_was(service: Service, film: Path) -> None:
    region = drawn(1, "ball", {0: True})
    region["value"]["sequence"][0] |= {"x": 150.0, "y": 150.0}
    (answer,) = ask(service, film, [region])
    assert len(answer["result"]) <= 1


@pytest.mark.parametrize(
    "uri",
    ["/a/../../etc/passwd", "/data/a.mp4/..", "/x.\0b", "/a.m/p4", "data:video/mp4;base64,AA"],
)
def test_p04_nothing_of_an_address_becomes_a_path(tmp_path: Path, uri: str) -> None:
    asked: list[Path] = []

    def save(uri: str, task_id: int | None, deadline: float, file: BinaryIO) -> None:
        asked.append(Path(file.name))

    files = VideoFiles(save)
    with files.open(uri, 1, time.monotonic() + 5) as path:
        assert path.parent == files.place()
        assert re.fullmatch(r"[0-9a-f]{32}(\.\w{1,7})?", path.name)
    files.close()
    assert asked
    assert not asked[0].exists()


def test_files_are_fetched_once_and_the_oldest_go() -> None:
    n_saved = 0

    def save(uri: str, task_id: int | None, deadline: float, file: BinaryIO) -> None:
        nonlocal n_saved
        n_saved += 1
        if uri == "/bad.mp4":
            raise InputError("no such file")

    files = VideoFiles(save, most=2)
    soon = time.monotonic() + 5
    with files.open("/0.mp4", 1, soon) as first:
        for k in (1, 2, 3):
            with files.open(f"/{k}.mp4", 1, soon):
                pass
        assert first.exists()  # somebody uses it
        with files.open("/0.mp4", 1, soon) as again:
            assert again == first
    assert n_saved == 4
    assert len(list(files.place().iterdir())) == 2
    with pytest.raises(InputError), files.open("/bad.mp4", 1, soon):
        pass
    assert len(list(files.place().iterdir())) == 2
    files.close()


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"no video at all", "is no video that FFmpeg can read"), (None, "no such file")],
)
def test_a_task_that_never_works_says_why(
    service: Service, tmp_path: Path, data: bytes | None, said: str
) -> None:
    path = tmp_path / "bad.mp4"
    if data is not None:
        path.write_bytes(data)
    (answer,) = ask(service, path)
    assert answer["result"] == []
    assert said in answer["error"]


def test_sound_alone_is_told(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    (answer,) = ask(service, path)
    assert "has no pictures, only audio" in answer["error"]


def test_a_config_of_pictures_and_videos_says_what_is_filled(service: Service) -> None:
    pictures = make_config(list(CLASS_NAMES)).strip()
    inner = pictures.removeprefix(pictures.split(">", 1)[0] + ">").removesuffix("</View>")
    both = f"<View>{inner}{CONFIG}</View>"
    project = service.predictors.project(both, service.inference, 1, time.monotonic() + 5)
    assert project.binding.groups
    assert not project.binding.videos
    assert "only the pictures get predictions" in " ".join(project.binding.notes)
