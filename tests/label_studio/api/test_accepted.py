"""What was accepted in a project, fetched as a folder that the readers of exports understand."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from backend.config.secret import Secret
from backend.config.service import ServiceSettings
from backend.errors import AuthError, ConfigError, InputError
from backend.formats.label_studio.make_config import make_config
from backend.label_studio.api.accepted import FetchedProject, fetch_accepted
from backend.label_studio.api.fetch import Fetcher
from backend.training.accepted import read_accepted
from tests.support.exports import NAMES, SIZE, disc, regions, task
from tests.support.fake_studio import FakeStudio, serving

CAR = regions(("car", disc(30, 30, 12), 1.0))
DOG = regions(("dog", disc(50, 30, 9), 1.0))


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def by(who: Any, one: dict[str, Any]) -> dict[str, Any]:
    one["annotations"][0]["completed_by"] = who
    return one


def named(name: str, one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "data": {**one["data"], "image": name}}


@pytest.fixture
def studio() -> FakeStudio:
    made = FakeStudio(make_config(NAMES), picture(0))
    made.people = [{"id": 1, "email": "anna@example.com"}, {"id": 2, "email": "ben@example.com"}]
    made.snapshot = [
        task(1, CAR, None),
        by(2, named("/data/upload/1/89abcdef-1.jpg", task(2, DOG, None))),  # another of that name
        named("/data/upload/1/gone.jpg", task(3, CAR, None)),
    ]
    made.snapshot[0]["data"] |= {"page": "https://example.com/about", "weight": 3}
    made.pictures = {
        "/data/upload/1/0123abcd-1.jpg": picture(1),
        "/data/upload/1/89abcdef-1.jpg": picture(2),
    }
    return made


def fetched(studio: FakeStudio, folder: Path, **options: Any) -> FetchedProject:
    with serving(studio) as server:
        service = ServiceSettings(
            label_studio_url=server.url, label_studio_api_key=Secret(studio.personal)
        )
        return fetch_accepted(service, 1, folder, stop=threading.Event(), **options)


def test_each_task_finds_its_own_picture(studio: FakeStudio, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = fetched(studio, tmp_path, tell=lambda done, total: told.append((done, total)))
    assert found.n_tasks == 2
    assert "task 3" in found.faults[0]
    assert told[-1] == (3, 3)
    accepted = read_accepted(found.export)
    assert [one.labels for one in accepted.pictures] == [["car"], ["dog"]]
    for one, data in zip(accepted.pictures, studio.pictures.values(), strict=True):
        assert isinstance(one.picture, Path)
        assert one.picture.read_bytes() == data
    assert not accepted.faults
    assert ("DELETE", "/api/projects/1/exports/5") in studio.written


def test_what_is_there_is_not_fetched_again(studio: FakeStudio, tmp_path: Path) -> None:
    fetched(studio, tmp_path)
    del studio.pictures["/data/upload/1/0123abcd-1.jpg"]
    studio.pictures["/data/upload/1/0123abcd-4.jpg"] = picture(4)
    studio.snapshot.append(task(4, DOG, None))
    found = fetched(studio, tmp_path)
    assert found.n_tasks == 3
    accepted = read_accepted(found.export)
    assert [one.labels for one in accepted.pictures] == [["car"], ["dog"], ["dog"]]


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/1/../../../../evil.png",
        "/data/local-files/?d=../../evil.png",
        "/data/local-files/?d=/etc/evil.png",
        "/data/upload/1/%2e%2e%2f%2e%2e%2fevil.png",
    ],
)
def test_no_address_leads_out_of_the_folder(
    studio: FakeStudio, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fetcher, "fetch", lambda self, uri, task, deadline: picture(9))
    studio.snapshot = [named(address, task(1, CAR, None))]
    inner = tmp_path / "a" / "b"
    found = fetched(studio, inner)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and inner not in path.parents]
    assert outside == []
    [one] = read_accepted(found.export).pictures
    assert one.labels == ["car"]


def test_a_picture_is_found_where_it_was_put(studio: FakeStudio, tmp_path: Path) -> None:
    """Not where one of another folder has its name."""
    local = "/data/local-files/?d=images/1.jpg"
    studio.snapshot = [task(1, CAR, None), named(local, task(2, DOG, None))]
    with pytest.MonkeyPatch.context() as patch:
        found_at = {local: picture(2), "/data/upload/1/0123abcd-1.jpg": picture(1)}
        patch.setattr(Fetcher, "fetch", lambda self, uri, number, deadline: found_at[uri])
        found = fetched(studio, tmp_path)
    accepted = read_accepted(found.export).pictures
    data = [one.picture.read_bytes() for one in accepted if isinstance(one.picture, Path)]
    assert data == [picture(1), picture(2)]


def test_an_outage_ends_the_fetching(studio: FakeStudio, tmp_path: Path) -> None:
    """Nothing is trained on a part of the pictures that happened to come."""

    def fails(self: Any, uri: str, number: int, deadline: float) -> bytes:
        raise AuthError("the token was taken back")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fetcher, "fetch", fails)
        with pytest.raises(AuthError):
            fetched(studio, tmp_path)


@pytest.mark.parametrize("who", ["ben@example.com", "2"])
def test_annotators_are_chosen(studio: FakeStudio, tmp_path: Path, who: str) -> None:
    """By address, where it is known, and by number in exports that hold only these."""
    if who == "2":
        studio.people = []
    found = fetched(studio, tmp_path)
    accepted = read_accepted(found.export, annotators=[who])
    assert [one.labels for one in accepted.pictures] == [["dog"]]
    with pytest.raises(ConfigError, match="annotations of nobody@example.com"):
        read_accepted(found.export, annotators=["nobody@example.com"])


def test_only_exports_tell_annotators(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"shapes": [], "imagePath": "a.png", "imageData": null}')
    with pytest.raises(ConfigError, match="--annotator: .* does not tell who annotated"):
        read_accepted(tmp_path, annotators=["anna@example.com"])


def test_a_project_without_pictures_is_refused(studio: FakeStudio, tmp_path: Path) -> None:
    studio.label_config = (
        '<View><Text name="text" value="$text"/><Labels name="label" toName="text">'
        '<Label value="car"/></Labels></View>'
    )
    with pytest.raises(InputError, match="no tag that marks pictures"):
        fetched(studio, tmp_path)


def test_without_an_address_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --url and --api-key"):
        fetch_accepted(ServiceSettings(), 1, tmp_path, stop=threading.Event())
