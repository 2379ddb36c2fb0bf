"""Tags with ``model_mode="automatic"``: masks of everything under the labels of a project, by the
server and by ``prelabel``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.config.models import Settings
from backend.config.service import ServiceSettings
from backend.demo.run import SAMPLES
from backend.errors import ConfigError
from backend.formats.label_studio.label_config import ModelChoice, parse_label_config
from backend.label_studio.prelabel.prepare import PrelabelOptions, prepare
from backend.label_studio.prelabel.run import Choice
from backend.label_studio.server.app import create_app
from backend.label_studio.server.cascade_loader import CascadeLoader
from backend.label_studio.server.serve import everything_loader
from backend.label_studio.server.service import Service
from tests.label_studio.prelabel.test_command import options
from tests.support.fake_studio import FakeStudio, serving
from tests.support.servers import Recorder

PICTURE = SAMPLES / "JPEGImages" / "3000002.jpg"
POINTS = 12  # a side; fewer than the embedded model asks for, which only costs time here
SETTINGS = Settings(
    detector="demo", segmenter="demo", device="cpu", min_part=0.02, points_per_side=POINTS
)


def project(labels: str, mode: str = "automatic", more: str = "") -> str:
    return (
        '<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="brush" toName="image" model_mode="{mode}">{labels}</BrushLabels>'
        f'<RectangleLabels name="box" toName="image" smart="true">{labels}</RectangleLabels>'
        f"{more}</View>"
    )


LABELS = "".join(
    f'<Label value="{name}"/>' for name in ("ball", "box", "star", "cup", "leaf", "ring")
)


class OnePicture:
    def setup_fault(self) -> str | None:
        return None

    def fetch(self, uri: str, task_id: int | None, deadline: float) -> bytes:
        return PICTURE.read_bytes()


@pytest.fixture(scope="module")
def client() -> SimpleNamespace:
    service = Service(
        CascadeLoader(SETTINGS),
        ServiceSettings(deadline_s=120.0),
        everything_loader(SETTINGS),
        fetcher=OnePicture(),  # type: ignore[arg-type]
        warm=False,
    )
    app = create_app(service)
    service.inference.wait_loaded(60)
    return SimpleNamespace(web=app.test_client(), predictors=service.predictors)


def answer(client: SimpleNamespace, config: str) -> dict:
    body = {"tasks": [{"id": 1, "data": {"image": "a"}}], "label_config": config}
    reply = client.web.post("/predict", json=body)
    assert reply.status_code == 200, reply.status
    return reply.json["results"][0]


def labels_of(item: dict) -> list[str]:
    return [region["value"]["brushlabels"][0] for region in item["result"]]


def test_the_server_names_masks_of_everything_with_the_projects_labels(
    client: SimpleNamespace,
) -> None:
    item = answer(client, project(LABELS))
    truth = (SAMPLES / "class_names.txt").read_text().split()
    assert labels_of(item)
    assert set(labels_of(item)) <= set(truth)
    assert "automatic" in item["model_version"]
    assert {region["from_name"] for region in item["result"]} == {"brush"}, "the tool stays empty"
    both = answer(client, project(LABELS, "both"))
    assert both["model_version"] != item["model_version"]
    detected = answer(client, project(LABELS, "cascade"))
    assert len(both["result"]) >= len(detected["result"]) >= 3


@pytest.mark.parametrize("path", ["", ' model_path="own.pt"'])
def test_clicks_need_no_namer(
    client: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    config = project('<Label value="ball"/><Label value="never asked for"/>')
    config = config.replace(" model_mode", f"{path} model_mode", 1)
    default = client.predictors.default()
    monkeypatch.setattr(client.predictors, "_allow_paths", True)
    monkeypatch.setitem(client.predictors._loaded, ModelChoice("own.pt"), default)
    mark = {
        "type": "rectanglelabels",
        "from_name": "box",
        "value": {"x": 10, "y": 10, "width": 40, "height": 40, "rectanglelabels": ["ball"]},
    }
    body = {
        "tasks": [{"id": 1, "data": {"image": "a"}}],
        "label_config": config,
        "params": {"context": {"result": [mark]}},
    }
    before = set(client.predictors._loaded)
    reply = client.web.post("/predict", json=body)
    assert reply.status_code == 200, reply.status
    assert reply.json["results"][0]["result"]
    assert set(client.predictors._loaded) == before


def test_a_namer_that_does_not_load_is_told_and_not_tried_at_once(
    monkeypatch: pytest.MonkeyPatch, client: SimpleNamespace
) -> None:
    tried = []

    def everything(outlines: object, choice: object) -> object:
        tried.append(choice)
        raise ConfigError("--namer: is not on disk")

    monkeypatch.setattr(client.predictors, "_everything", everything)
    config = project('<Label value="ball"/><Label value="of a missing namer"/>')
    body = {"project": "1", "schema": config}
    for _ in range(2):
        assert "--namer: is not on disk" in client.web.post("/setup", json=body).status
    assert len(tried) == 1


def test_a_label_may_say_what_to_look_for(client: SimpleNamespace) -> None:
    """Labels that no model knows, with a phrase or synonyms that the namer does."""
    said = project(
        '<Label value="A1" clip_prompt="ball"/><Label value="B2" predicted_values="box, carton"/>'
        '<Label value="other" clip_prompt="star | cup | leaf | ring"/>'
    )
    plain = labels_of(answer(client, project(LABELS)))
    renamed = {"ball": "A1", "box": "B2"}
    assert set(labels_of(answer(client, said))) == {renamed.get(name, "other") for name in plain}


def test_words_of_old_configs_are_forgotten(client: SimpleNamespace) -> None:
    for k in range(20):
        config = project(f'<Label value="ball"/><Label value="thing {k}"/>')
        reply = client.web.post("/setup", json={"project": "1", "schema": config})
        assert reply.status_code == 200
    named = [one for one in client.predictors._loaded if one.mode != "cascade"]
    assert len(named) == 16


def test_a_mode_that_cannot_be_is_told_when_the_backend_is_connected(
    client: SimpleNamespace,
) -> None:
    body = {"project": "1", "schema": project(LABELS, "all")}
    assert 'model_mode="all" is none of' in client.web.post("/setup", json=body).status


@pytest.fixture
def studio() -> FakeStudio:
    made = FakeStudio(project(LABELS), PICTURE.read_bytes())
    made.add(2)
    return made


@pytest.fixture
def server(studio: FakeStudio) -> Iterator[Recorder]:
    with serving(studio) as recorder:
        yield recorder


def test_prelabel_gives_what_the_server_gives(
    run_cli, client: SimpleNamespace, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    points = ("--points-per-side", POINTS)
    code, out, err = run_cli(*options(server, tmp_path, "--dry-run", *points))
    assert code == 0, err
    assert "brush: ball becomes ball from 0\n" in out
    code, _, err = run_cli(*options(server, tmp_path, *points))
    assert code == 0, err
    uploaded = studio.of(1)[0]
    assert labels_of(uploaded) == labels_of(answer(client, project(LABELS)))
    assert "automatic" in uploaded["model_version"]


def test_make_config_prints_such_a_project(run_cli) -> None:
    code, out, _ = run_cli("make-config", "--classes", "ball,cup", "--mode", "automatic")
    assert code == 0
    (brush,) = [tag for tag in parse_label_config(out).tags if tag.kind == "brushlabels"]
    assert brush.model.mode == "automatic"
    assert [one.name for one in brush.model.words] == ["ball", "cup"]
    assert [label.value for label in brush.labels] == ["ball", "cup", "unsure"]
    code, _, err = run_cli("make-config", "--classes", "a", "--mode", "both", "--video")
    assert (code, "--video: boxes on videos come from a detector" in err) == (2, True)


def test_prelabel_refuses_what_it_cannot_do() -> None:
    asked = PrelabelOptions(project=1, choice=Choice())
    other = '<BrushLabels name="b2" toName="image"><Label value="ball"/></BrushLabels>'
    with pytest.raises(ConfigError, match="ask for different models with model_mode"):
        prepare(SETTINGS, asked, project(LABELS, more=other))
    boxes = PrelabelOptions(project=1, choice=Choice(), from_boxes="annotations")
    with pytest.raises(ConfigError, match="takes no boxes"):
        prepare(SETTINGS, boxes, project(LABELS))
