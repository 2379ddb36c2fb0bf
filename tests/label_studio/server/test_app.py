"""The HTTP side on a stub predictor: the protocol, what is refused, and what is never said (rows A,
S11, X).
"""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from flask.testing import FlaskClient

from backend.config.secret import Secret
from backend.config.service import ServiceSettings
from backend.core.types import Embedding, Image, Masks, Prompts
from backend.errors import AuthError, InputError, Unavailable
from backend.formats.label_studio.pages import Place
from backend.label_studio.server.app import create_app, reason_phrase
from backend.label_studio.server.service import Service
from backend.labeling.cascade import Cascade
from tests.support.fakes import FakeDetector, FakeSegmenter

_LABELS = '<Label value="cat"/><Label value="dog"/>'
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush"'
    f' toName="image">{_LABELS}</BrushLabels><KeyPointLabels name="kp" toName="image"'
    f' smart="true">{_LABELS}</KeyPointLabels></View>'
)
CANARY = "canary-6c1f"


def png(seed: int = 0, size: tuple[int, int] = (40, 60)) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(
        np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    ).save(stream, "PNG")
    return stream.getvalue()


class Clicker(FakeSegmenter):
    """Also answers prompts: a mask around the first point whose size tells how many previous masks
    there were.
    """

    def __init__(self) -> None:
        self.embedded = 0
        self.previous = []

    def embed(self, image: Image) -> Embedding:
        self.embedded += 1
        return Embedding(image[0, 0].astype(int).tolist(), (image.shape[0], image.shape[1]), 1000)

    def refine(self, embedding: Embedding, prompts: list[Prompts]) -> Masks:
        self.previous.append([p.logits is not None for p in prompts])
        grid = np.full((len(prompts), 64, 64), -1.0, np.float32)
        for k, prompt in enumerate(prompts):
            x, y = prompt.points_xy[0] if len(prompt.points_xy) else prompt.xyxy[:2]
            grid[
                k,
                min(63, int(y * 64 / embedding.size_hw[0])),
                min(63, int(x * 64 / embedding.size_hw[1])),
            ] = 1
        return Masks(grid, np.full(len(prompts), 0.8, np.float32), embedding.size_hw)


class Images:
    """Stands in for the fetcher: addresses to bytes, or to an error."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Exception | Callable[[], bytes]] = {}
        self.asked: list[str] = []
        self.fault: str | None = None

    def setup_fault(self) -> str | None:
        return self.fault

    def fetch(self, uri: str, task_id: int | None, deadline: float) -> bytes:
        self.asked.append(uri)
        answer = self.answers.get(uri, png())
        if callable(answer):
            return answer()
        if isinstance(answer, Exception):
            raise answer
        return answer


def start(load=None, images: Images | None = None, **settings) -> SimpleNamespace:
    detector = FakeDetector()
    segmenter = Clicker()
    images = images or Images()
    settings.setdefault("deadline_s", 10.0)
    service = Service(
        load or (lambda path: Cascade(detector, segmenter)),
        ServiceSettings(**settings),
        fetcher=images,
        warm=False,
    )
    app = create_app(service)
    service.inference.wait_loaded(5)
    return SimpleNamespace(
        client=app.test_client(),
        service=service,
        detector=detector,
        segmenter=segmenter,
        images=images,
        app=app,
    )


@pytest.fixture
def server() -> SimpleNamespace:
    return start()


def predict(client: FlaskClient, *uris: str, **more):
    tasks = [{"id": k + 1, "data": {"image": uri}} for k, uri in enumerate(uris)]
    return client.post(
        "/predict",
        json={
            "tasks": tasks,
            "project": "1.2",
            "label_config": CONFIG,
            "params": {"context": None},
            **more,
        },
    )


def click(client: FlaskClient, uri: str, *points: tuple[float, float], label: str = "cat"):
    marks = [
        {
            "type": "keypointlabels",
            "from_name": "kp",
            "is_positive": True,
            "value": {"x": x, "y": y, "width": 1, "keypointlabels": [label]},
        }
        for x, y in points
    ]
    return predict(client, uri, params={"context": {"result": marks}})


def test_the_calls_label_studio_makes(server: SimpleNamespace) -> None:
    client = server.client
    assert client.get("/health").json["status"] == "UP"
    assert client.get("/").json["model_class"] == "YoloSam2"
    body = {
        "project": "1.1795224012",
        "schema": CONFIG,
        "hostname": "http://127.0.0.1:1",
        "access_token": CANARY,
        "extra_params": None,
    }
    version = client.post("/setup", json=body).json["model_version"]
    assert client.post("/setup", json=body).json["model_version"] == version
    reply = predict(client, "a", "b").json["results"]
    assert [item["model_version"] for item in reply] == [version] * 2
    assert reply[0]["result"][0]["type"] == "brushlabels"
    assert reply[0]["result"][0]["original_width"] == 60
    assert 0 < reply[0]["score"] <= 1
    assert client.get("/versions").json["versions"] == [version]
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 201
    metrics = client.get("/metrics").text
    assert 'yolosam2_tasks_total{outcome="done"} 2.0' in metrics
    assert "yolosam2_images_total 1.0" in metrics, "equal bytes are looked at once"
    assert "yolosam2_queue_length 0.0" in metrics


def test_unknown_paths_and_methods_are_json(server: SimpleNamespace) -> None:
    for method, path, status in (
        ("get", "/validate", 404),
        ("post", "/train", 404),
        ("get", "/predict", 405),
    ):
        reply = getattr(server.client, method)(path)
        assert reply.status_code == status
        assert "error" in reply.json


def test_predict_uses_the_config_of_setup_where_it_brings_none(server: SimpleNamespace) -> None:
    assert predict(server.client, "a", label_config=None).status_code == 422
    server.client.post("/setup", json={"project": "1", "schema": CONFIG})
    assert predict(server.client, "a", label_config=None).status_code == 200


def test_x06_nothing_maps_is_said_in_the_reason_phrase(server: SimpleNamespace) -> None:
    reply = server.client.post(
        "/setup",
        json={"project": "1", "schema": CONFIG.replace("cat", "x\u00e9bra").replace("dog", "yak")},
    )
    assert reply.status.startswith(
        "422 No label is a class of the model. Labels: x?bra, yak. Classes: cat, dog."
    )
    assert "x\u00e9bra" in reply.json["error"]


def test_a_backend_that_cannot_fetch_says_so_when_connected() -> None:
    images = Images()
    images.fault = "Start the backend with LABEL_STUDIO_URL"
    reply = start(images=images).client.post("/setup", json={"project": "1", "schema": CONFIG})
    assert reply.status == "422 Start the backend with LABEL_STUDIO_URL"


def test_reason_phrases_are_one_ascii_line() -> None:
    assert reason_phrase(422, "a\r\nSet-Cookie: x\tb \u00e9") == "422 a Set-Cookie: x b ?"
    assert len(reason_phrase(500, "x" * 1000)) < 320


def test_x04_x05_as_many_results_as_tasks_whatever_happens(server: SimpleNamespace) -> None:
    server.images.answers = {
        "bad": b"<html>",
        "gone": InputError("gone: answered 404"),
        "later": Unavailable("later: answered 503"),
        "denied": AuthError("no"),
    }
    for seed in range(5):
        server.images.answers[f"ok{seed}"] = png(seed)
    picks = np.random.default_rng(0)
    for _ in range(20):
        uris = [str(u) for u in picks.choice([*server.images.answers], picks.integers(2, 12))] + [
            "ok0"
        ]
        results = predict(server.client, *uris).json["results"]
        assert len(results) == len(uris)
        for uri, item in zip(uris, results, strict=True):
            if uri.startswith("ok"):
                assert item["result"]
            elif uri in ("bad", "gone"):
                assert item["result"] == []
                assert item["score"] == 0
                assert item["model_version"] == results[-1]["model_version"], (
                    "so that it is not asked for again"
                )
                assert item["error"]
            else:
                assert "result" not in item


def test_x05_all_for_later_is_503_with_retry_after(server: SimpleNamespace) -> None:
    server.images.answers = {"later": Unavailable("http://ls/x: answered 503")}
    reply = predict(server.client, "later", "later")
    assert reply.status == "503 http://ls/x: answered 503"
    assert int(reply.headers["Retry-After"]) > 0


def test_no_tasks_no_results(server: SimpleNamespace) -> None:
    assert predict(server.client).json == {"results": []}


def test_s11_results_are_kept_by_bytes_and_version(server: SimpleNamespace) -> None:
    server.images.answers = {"a": png(1), "b": png(1)}
    first = predict(server.client, "a").json
    assert predict(server.client, "b").json["results"][0]["result"] == first["results"][0]["result"]
    assert server.detector.calls == 1
    server.images.answers["a"] = png(2)
    predict(server.client, "a")
    assert server.detector.calls == 2, "other bytes behind one address"
    predict(
        server.client,
        "a",
        label_config=CONFIG.replace('"cat"/>', '"cat" model_score_threshold="0.1"/>'),
    )
    assert server.detector.calls == 3, "another version"


def test_c12_a_second_call_finishes_the_rest() -> None:
    images = Images()
    uris = [str(k) for k in range(30)]
    images.answers = {uri: png(int(uri)) for uri in uris}

    class Slow(FakeDetector):
        def detect(self, batch):
            time.sleep(0.05 * len(batch))
            return super().detect(batch)

    server = start(lambda path: Cascade(Slow(), Clicker()), images, deadline_s=0.7)
    outcomes = []
    for _ in range(8):
        reply = predict(server.client, *uris)
        assert reply.status_code in (200, 504)
        if reply.status_code == 200:
            outcomes.append(sum("result" in item for item in reply.json["results"]))
            if outcomes[-1] == len(uris):
                break
    assert outcomes[-1] == len(uris)
    assert 0 < outcomes[0] < len(uris), "what was done in time is returned at once"
    assert outcomes == sorted(outcomes)


def test_a_model_that_fails_on_one_image_does_not_take_the_others(server: SimpleNamespace) -> None:
    class Picky(FakeDetector):
        def detect(self, batch):
            if any(image.shape[0] == 50 for image in batch):
                raise RuntimeError(f"{CANARY} in a traceback")
            return super().detect(batch)

    server = start(lambda path: Cascade(Picky(), Clicker()))
    server.images.answers = {"a": png(1), "b": png(2, (50, 60)), "c": png(3)}
    results = predict(server.client, "a", "b", "c").json["results"]
    assert ["result" in item for item in results] == [True, False, True]
    assert "unexpected RuntimeError" in results[1]["error"]
    assert CANARY not in json.dumps(results)


def test_several_tags_and_images_are_all_filled(server: SimpleNamespace) -> None:
    config = """<View><Image name="l" value="$image"/><Image name="r" value="$other"/>
      <BrushLabels name="b" toName="l"><Label value="cat"/><Label value="dog"/></BrushLabels>
      <PolygonLabels name="p" toName="l"><Label value="cat"/></PolygonLabels>
      <BitmaskLabels name="m" toName="r"><Label value="cat"/></BitmaskLabels>
      <RectangleLabels name="x" toName="r">
        <Label value="dog" predicted_values="cat"/>
      </RectangleLabels></View>"""
    tasks = [{"id": 1, "data": {"image": "a", "other": "b"}}]
    (item,) = server.client.post(
        "/predict", json={"tasks": tasks, "project": "1", "label_config": config}
    ).json["results"]
    assert [(r["from_name"], r["to_name"], r["type"]) for r in item["result"]] == [
        ("b", "l", "brushlabels"),
        ("p", "l", "polygonlabels"),
        ("m", "r", "bitmasklabels"),
        ("x", "r", "rectanglelabels"),
    ]
    assert item["result"][3]["value"]["rectanglelabels"] == ["dog"]
    assert len({r["id"] for r in item["result"]}) == 4


def test_a_task_without_its_image_fails_alone(server: SimpleNamespace) -> None:
    tasks = [
        {"id": 1, "data": {"image": "a"}},
        {"id": 2, "data": {"photo": "a"}},
        {"id": 3, "data": {"image": None}},
    ]
    results = server.client.post("/predict", json={"tasks": tasks, "label_config": CONFIG}).json[
        "results"
    ]
    assert [len(item["result"]) > 0 for item in results] == [True, False, False]
    assert "task 2: data.image" in results[1]["error"]


def test_model_path_needs_permission() -> None:
    config = CONFIG.replace('name="brush"', 'name="brush" model_path="other.pt"')
    body = {"project": "1", "schema": config}
    assert "ALLOW_CUSTOM_MODEL_PATH" in start().client.post("/setup", json=body).status
    loaded = []

    def load(path: str | None) -> Cascade:
        loaded.append(path)
        detector = FakeDetector()
        detector.version = f"fake-{path}"
        return Cascade(detector, Clicker())

    server = start(load, allow_custom_model_path=True)
    assert server.client.post("/setup", json=body).status_code == 200
    assert server.client.post("/setup", json=body).status_code == 200
    assert loaded == [None, "other.pt"]
    assert predict(server.client, "a", label_config=config).json["results"][0]["result"]


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "a" * 300, "../x.pt", "sub/../../x.pt", "a\0.pt", "missing.pt", "link.pt", ""],
)
def test_m02_model_files_stay_inside_model_root(tmp_path, path: str) -> None:
    from backend.label_studio.server.cascade_loader import model_file

    root = tmp_path / "models"
    root.mkdir()
    (tmp_path / "x.pt").write_bytes(b"")
    (root / "good.pt").write_bytes(b"")
    (root / "link.pt").symlink_to(tmp_path / "x.pt")
    with pytest.raises(InputError, match="no such file in MODEL_ROOT"):
        model_file(path, root)
    assert model_file("good.pt", root) == root / "good.pt"


def test_setup_while_loading_waits_a_little_then_says_so() -> None:
    release = threading.Event()

    def load(path):
        release.wait()
        return Cascade(FakeDetector(), Clicker())

    service = Service(load, ServiceSettings(deadline_s=5), fetcher=Images(), warm=False)
    client = create_app(service).test_client()
    begin = time.monotonic()
    reply = client.post("/setup", json={"project": "1", "schema": CONFIG})
    assert reply.status == "503 The models are still loading; try again in a few seconds"
    assert reply.headers["Retry-After"] == "5"
    assert time.monotonic() - begin < 2.8, "Label Studio gives up after three seconds"
    assert client.get("/health").status_code == 200, "anything else would show as Disconnected"
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200
    threading.Timer(0.3, release.set).start()
    assert predict(client, "a").status_code == 200, "a prediction waits for the models"
    assert client.get("/readyz").status_code == 200


def test_models_that_do_not_load_are_said_so() -> None:
    def load(path):
        raise InputError("weights of another model")

    server = start(load)
    assert server.client.get("/readyz").json == {
        "state": "FAILED",
        "reason": "weights of another model",
    }
    assert server.client.post("/setup", json={"project": "1", "schema": CONFIG}).status.startswith(
        "503 weights of another model"
    )


def test_a_click_gives_a_mask_and_the_next_refines_it(server: SimpleNamespace) -> None:
    (item,) = click(server.client, "a", (50, 50), label="dog").json["results"]
    (region,) = item["result"]
    assert (region["from_name"], region["value"]["brushlabels"], region["score"]) == (
        "brush",
        ["dog"],
        0.8,
    )
    click(server.client, "a", (50, 50), (60, 60), label="dog")
    click(server.client, "a", (10, 10), (60, 60))
    assert server.segmenter.previous == [
        [False],
        [True],
        [False],
    ], "only the mask of the same earlier clicks is refined"
    assert server.segmenter.embedded == 1
    assert server.images.asked == ["a"], "not even fetched again"


def test_every_answer_to_a_click_has_a_new_region_id(server: SimpleNamespace) -> None:
    ids = {
        click(server.client, "a", (50, 50)).json["results"][0]["result"][0]["id"] for _ in range(3)
    }
    assert len(ids) == 3


def test_what_cannot_prompt_is_said_in_the_reason_phrase(server: SimpleNamespace) -> None:
    marks = [{"type": "ellipselabels", "from_name": "kp", "value": {}}]
    reply = predict(server.client, "a", params={"context": {"result": marks}})
    assert reply.status_code == 422
    assert "supported are keypointlabels and rectanglelabels" in reply.status


def test_embeddings_are_forgotten_by_bytes() -> None:
    server = start(embed_cache_bytes=2500)
    for name in "abc":
        server.images.answers[name] = png(ord(name))
        click(server.client, name, (50, 50))
    click(server.client, "c", (50, 50))
    assert server.segmenter.embedded == 3
    click(server.client, "a", (50, 50))
    assert server.segmenter.embedded == 4, "the least recently used one is encoded again"


def test_c01_ten_thousand_clicks_of_eight_people_are_never_swapped() -> None:
    server = start(queue_size=16)
    uris = [f"image-{k}" for k in range(8)]
    server.images.answers = {uri: png(k, (64, 64)) for k, uri in enumerate(uris)}
    swaps: list[object] = []
    service = server.service
    project = service.predictors.project(CONFIG, service.inference, 5, time.monotonic() + 5)
    expected = {}
    from backend.label_studio.api.tasks import Task

    def ask(person: int, calls: int) -> None:
        for call in range(calls):
            x = 1.5625 * (2 * (person * 4 + call % 4) + 1) % 100
            y = 1.5625 * (2 * (call % 30) + 1)
            mark = {
                "type": "keypointlabels",
                "from_name": "kp",
                "value": {"x": x, "y": y, "width": 1, "keypointlabels": ["cat"]},
            }
            text = server.service._interactive.predict(
                Task(person, {"image": uris[person]}),
                {"result": [mark]},
                project,
                time.monotonic() + 60,
            )
            region = json.loads(text.text)["result"][0]
            key = (round(x, 3), round(y, 3))
            if expected.setdefault(key, region["value"]["rle"]) != region["value"]["rle"]:
                swaps.append((person, call))

    threads = [threading.Thread(target=ask, args=(k, 1250)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert swaps == []
    assert len({json.dumps(v) for v in expected.values()}) == len(expected), (
        "the answers do tell prompts apart"
    )
    assert server.segmenter.embedded == 8


AUTH = {"basic_auth_user": "ann", "basic_auth_pass": Secret(CANARY)}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "path", ["/", "/versions", "/metrics", "/setup", "/predict", "/webhook", "/nowhere"]
)
def test_a01_every_route_but_the_health_checks_is_guarded(path: str) -> None:
    client = start(**AUTH).client
    for header in (None, basic("ann", "wrong"), basic("bob", CANARY)):
        for call in (client.get, client.post):
            reply = call(path, headers={"Authorization": header} if header else {})
            assert reply.status_code == 401
            assert reply.headers["WWW-Authenticate"].startswith("Basic")
    assert client.get(path, headers={"Authorization": basic("ann", CANARY)}).status_code != 401
    for open_path in ("/health", "/livez", "/readyz"):
        assert client.get(open_path).status_code == 200


MALFORMED = [
    "",
    "Basic",
    "Basic ",
    "Basic !!!",
    "Basic Og==",
    "Bearer x",
    "Bearer",
    "Basic " + "A" * 5000,
    "basic \xe9",
    "Digest username=x",
    "Basic YW5u",
]
MALFORMED += [
    "Basic YW5uOg==",
    f"Bearer {CANARY}",
    f"Token {CANARY}",
    "Basic YW5uOmNhbmFyeQ==",
    "\xff\xfe",
    "Basic =",
    "Basic a",
    "Basic\tYQ==",
    "BASIC YTpi",
]


@pytest.mark.parametrize("header", MALFORMED)
def test_a02_malformed_credentials_are_401(header: str) -> None:
    reply = start(**AUTH).client.get("/", headers={"Authorization": header})
    assert reply.status_code == 401
    assert CANARY not in reply.text


def test_a01_an_open_address_needs_a_password() -> None:
    from backend.config.service import check_listening, load_service_settings
    from backend.errors import ConfigError

    for host in ("0.0.0.0", "192.168.1.5", "::", "example.com"):
        with pytest.raises(ConfigError, match="BASIC_AUTH_USER"):
            check_listening(ServiceSettings(host=host))
        check_listening(ServiceSettings(host=host, **AUTH))
        check_listening(ServiceSettings(host=host, insecure=True))
    for host in ("127.0.0.1", "localhost", "::1"):
        check_listening(ServiceSettings(host=host))
    with pytest.raises(ConfigError, match="both or neither"):
        load_service_settings({}, {"BASIC_AUTH_USER": "ann"})
    with pytest.raises(ConfigError, match="THREADS: 4"):
        load_service_settings({"threads": "4"}, {})


def test_a03_secrets_are_in_no_log_and_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = start(label_studio_api_key=Secret(CANARY), **AUTH)
    server.images.answers = {f"http://h/x?token={CANARY}": b"not an image", "boom": lambda: 1 / 0}
    header = {"Authorization": basic("ann", CANARY)}
    texts = []
    body = {
        "project": "1",
        "schema": CONFIG,
        "hostname": f"http://{CANARY}",
        "access_token": CANARY,
    }
    texts.append(server.client.post("/setup", json=body, headers=header).text)
    for uri in (f"http://h/x?token={CANARY}", "boom", "ok"):
        tasks = [{"id": 1, "data": {"image": uri, "note": CANARY}}]
        params = {"login": CANARY, "password": CANARY, "context": None}
        texts.append(
            server.client.post(
                f"/predict?{CANARY}",
                json={"tasks": tasks, "label_config": CONFIG, "params": params},
                headers=header,
            ).text
        )
    texts.append(
        server.client.post("/webhook", json={"project": {"token": CANARY}}, headers=header).text
    )
    texts.append(repr(server.service.settings))
    assert CANARY not in "".join(texts)
    assert CANARY not in caplog.text
    assert "/predict 200" in caplog.text


def test_a04_a_bug_is_an_id_to_the_caller_and_a_trace_in_the_log(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr(server.service, "predict", fail)
    reply = predict(server.client, "a")
    assert reply.status_code == 500
    assert CANARY not in reply.text + reply.status
    assert "Traceback" not in reply.text
    assert reply.json["id"] in caplog.text
    assert "ValueError" in caplog.text


def test_a05_host_and_token_of_setup_are_never_used() -> None:
    from tests.support.servers import http_server, listener

    with listener() as (port, seen), http_server(lambda *_: (200, {}, png())) as real:
        settings = ServiceSettings(label_studio_url=real.url, label_studio_api_key=Secret("mine"))
        service = Service(lambda path: Cascade(FakeDetector(), Clicker()), settings, warm=False)
        client = create_app(service).test_client()
        service.inference.wait_loaded(5)
        body = {
            "project": "1",
            "schema": CONFIG,
            "hostname": f"http://127.0.0.1:{port}",
            "access_token": CANARY,
        }
        assert client.post("/setup", json=body).status_code == 200
        assert predict(client, "/data/upload/1/a.png").status_code == 200
        assert seen == []
        assert [headers["Authorization"] for _, _, headers, _ in real.requests] == ["Token mine"]


def test_x02_large_and_deep_bodies() -> None:
    client = start(max_body_bytes=100_000).client
    big = b"[" + b"1," * 100_000 + b"1]"
    for path in ("/predict", "/setup", "/webhook"):
        assert client.post(path, data=big).status_code == 413
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert (
        client.post("/predict", input_stream=io.BytesIO(big), environ_overrides=chunked).status_code
        == 413
    )
    deep = b'{"tasks":' + b"[" * 40_000 + b"]" * 40_000 + b"}"
    assert client.post("/predict", data=deep).status_code == 400


WRONG = [
    None,
    True,
    -1,
    10**30,
    10**400,
    1.5,
    float("inf"),
    "",
    "x" * 10_000,
    [],
    [[]],
    {},
    {"a": {"b": [1]}},
]
_MARK = "params.context.result.0"
FIELDS = [
    "tasks",
    "tasks.0",
    "tasks.0.id",
    "tasks.0.data",
    "tasks.0.data.image",
    "tasks.0.predictions",
    "tasks.0.annotations",
    "project",
    "label_config",
]
FIELDS += [
    "model_version",
    "params",
    "params.context",
    "params.context.result",
    _MARK,
    f"{_MARK}.type",
    f"{_MARK}.from_name",
    f"{_MARK}.is_positive",
]
FIELDS += [f"{_MARK}.value", f"{_MARK}.value.x", f"{_MARK}.value.keypointlabels"]


def mutated(body: dict, field: str, value: object) -> dict:
    copy = json.loads(json.dumps(body))
    at, (*way, last) = copy, field.split(".")
    for step in way:
        at = at[int(step) if step.isdigit() else step]
    at[int(last) if last.isdigit() else last] = value
    return copy


def test_x03_no_mutated_body_is_a_500(server: SimpleNamespace) -> None:
    mark = {
        "type": "keypointlabels",
        "from_name": "kp",
        "is_positive": True,
        "value": {"x": 5, "y": 5, "width": 1, "keypointlabels": ["cat"]},
    }
    task = {"id": 1, "data": {"image": "a"}, "predictions": [], "annotations": []}
    clicked = {
        "tasks": [task],
        "project": "1.2",
        "label_config": CONFIG,
        "params": {"context": {"result": [mark]}},
        "model_version": "x",
    }
    batch = {**clicked, "params": {"context": None}}
    statuses = set()
    for body in (clicked, batch):
        for field in FIELDS:
            if body is batch and field.startswith("params.context."):
                continue
            for value in WRONG:
                reply = server.client.post("/predict", json=mutated(body, field, value))
                statuses.add(reply.status_code)
                assert reply.status_code in (200, 400, 422), (field, value, reply.status)
                if (
                    reply.status_code == 200
                    and isinstance(value, list | dict | str | type(None))
                    and field == "tasks"
                ):
                    assert reply.json == {"results": []}
    setup = {
        "project": "1",
        "schema": CONFIG,
        "hostname": "h",
        "access_token": "t",
        "extra_params": None,
    }
    for field in setup:
        for value in WRONG:
            assert server.client.post("/setup", json={**setup, field: value}).status_code in (
                200,
                400,
                422,
            ), (field, value)
    for data in (b"", b"\xff\xfe", b"null", b"[]", b'{"tasks"', b"NaN", b'{"tasks": NaN}'):
        assert server.client.post("/predict", data=data).status_code == 400
        assert server.client.post("/setup", data=data).status_code in (400, 422)
        assert server.client.post("/webhook", data=data).status_code == 201
    assert statuses >= {200, 400, 422}


def test_x03_surrogates_and_deep_text_are_no_500(server: SimpleNamespace) -> None:
    mark = {
        "type": "keypointlabels",
        "from_name": "\ud800",
        "is_positive": True,
        "value": {"x": 5, "y": 5, "width": 1, "keypointlabels": ["cat"]},
    }
    assert predict(server.client, "a", params={"context": {"result": [mark]}}).status_code == 422
    assert predict(server.client, "a", params={"context": "[" * 100_000}).status_code == 400
    (item,) = predict(server.client, "/data/\ud800.png").json["results"]
    assert item["result"] == []
    assert click(server.client, "data:image/png,\ud800", (5, 5)).status_code == 422


def test_old_results_are_not_parsed() -> None:
    from backend.label_studio.server.requests import read_json

    rng = np.random.default_rng(0)
    old = [{"result": [{"value": {"rle": rng.integers(0, 255, 50).tolist()}}], "id": 7}]
    task = {"id": 3, "data": {"image": "a", "rle": [1, 2]}, "predictions": old, "annotations": old}
    context = {"result": [{"value": {"rle": [1, 2]}}]}
    body = {"tasks": [task, {"x": 1}], "project": "1.5", "params": {"context": context}}
    assert read_json(json.dumps(body).encode()) == {
        "tasks": [{"id": 3, "data": {"image": "a", "rle": [1, 2]}}, {"id": None, "data": None}],
        "project": "1.5",
        "params": {"context": context},
    }


@pytest.mark.parametrize(
    "body",
    [
        {"tasks": ["text", 7, None, [1]]},
        {"tasks": {"a": 1}},
        {"tasks": [{"id": 10**30, "data": {"x": float("nan"), "y": "\ud800"}}]},
        {"project": [1], "label_config": 5, "params": "x"},
        {},
    ],
)
def test_odd_bodies_are_read_as_json_reads_them(body: dict) -> None:
    from backend.label_studio.server.requests import read_json

    text = json.dumps(body)
    assert repr(read_json(text.encode())) == repr(json.loads(text))


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"nonsense", b"[" * 100_000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    from backend.label_studio.server.requests import read_json

    with pytest.raises(InputError, match="^body: expected"):
        read_json(body)


def test_a_host_that_is_not_allowed_is_asked_again_later() -> None:
    from backend.label_studio.api.fetch import Fetcher

    settings = ServiceSettings(label_studio_url="http://127.0.0.1:1")
    service = Service(
        lambda path: Cascade(FakeDetector(), Clicker()),
        settings,
        fetcher=Fetcher(settings),
        warm=False,
    )
    client = create_app(service).test_client()
    reply = predict(
        client,
        "https://images.example.com/a.png",
        "data:image/png;base64," + base64.b64encode(png()).decode(),
    )
    assert "result" not in reply.json["results"][0], (
        "an empty result would mark the task as done, and the operator may still allow the host"
    )
    assert reply.json["results"][1]["result"]


def test_large_pictures_are_not_all_decoded_ahead() -> None:
    from backend.files.images import ImageLimits
    from backend.label_studio.api.tasks import Task
    from backend.label_studio.server.prefetch import HELD_BYTES, Ahead, Unit

    stream = io.BytesIO()
    PIL.Image.new("RGB", (6000, 5000)).save(stream, "PNG")
    asked: list[str] = []

    def fetch(uri: str, task_id: int | None, deadline: float) -> bytes:
        asked.append(uri)
        return stream.getvalue()

    ahead: Ahead[int] = Ahead(fetch, 8, 16, ImageLimits())
    tasks = [Task(k, {"image": str(k)}) for k in range(24)]
    units = ahead(
        tasks,
        [Unit(k, 0, str(k), Place()) for k in range(24)],
        lambda digest, unit: None,
        time.monotonic() + 60,
    )
    next(units)
    time.sleep(1.5)
    assert len(asked) * 90e6 < HELD_BYTES + 3 * 90e6
    assert sum(1 for _ in units) == 23
    ahead.close()


def test_what_the_lane_finishes_late_is_kept() -> None:
    release = threading.Event()

    class Slow(FakeDetector):
        def detect(self, batch):
            assert release.wait(10)
            return super().detect(batch)

    server = start(lambda path: Cascade(Slow(), Clicker()), deadline_s=0.2)
    assert predict(server.client, "a").status_code == 504
    release.set()
    server.service.inference.run(lambda: None, time.monotonic() + 10)  # what came before it is done
    assert predict(server.client, "a").json["results"][0]["result"], (
        "although every single image takes longer than the deadline"
    )


def test_batches_shrink_to_what_the_lane_can_do_in_time() -> None:
    sizes = []

    class Slow(FakeDetector):
        def detect(self, batch):
            sizes.append(len(batch))
            time.sleep(0.9 * len(batch))
            return super().detect(batch)

    server = start(lambda path: Cascade(Slow(), Clicker()), deadline_s=20)
    server.images.answers = {str(k): png(k) for k in range(12)}
    predict(server.client, "0")
    predict(server.client, *(str(k) for k in range(1, 6)))
    assert max(sizes) == 2, "a click must not wait longer than about two seconds"


def test_a_failure_while_encoding_costs_one_task(server: SimpleNamespace) -> None:
    class Picky(Cascade):
        def finish(self, raw):
            if raw.size_hw[0] == 50:
                raise MemoryError
            return super().finish(raw)

    server = start(lambda path: Picky(FakeDetector(), Clicker()))
    server.images.answers = {"a": png(1), "b": png(2, (50, 60)), "c": png(3)}
    assert ["result" in item for item in predict(server.client, "a", "b", "c").json["results"]] == [
        True,
        False,
        True,
    ]


def test_tags_that_change_places_do_not_change_results(server: SimpleNamespace) -> None:
    images = '<Image name="l" value="$image"/><Image name="r" value="$other"/>'
    tags = [
        f'<BrushLabels name="b-{side}" toName="{side}"><Label value="cat"/></BrushLabels>'
        for side in "lr"
    ]
    server.images.answers = {"p": png(1, (40, 60)), "q": png(2, (60, 40))}
    for order in (tags, tags[::-1]):
        for left, right in (("p", "q"), ("q", "p")):
            body = {
                "tasks": [{"id": 1, "data": {"image": left, "other": right}}],
                "label_config": f"<View>{images}{''.join(order)}</View>",
            }
            for region in server.client.post("/predict", json=body).json["results"][0]["result"]:
                source = left if region["to_name"] == "l" else right
                assert (region["original_height"], region["original_width"]) == (
                    (40, 60) if source == "p" else (60, 40)
                )


def test_clicks_have_places_of_their_own() -> None:
    release = threading.Event()
    running = threading.Event()

    class Blocked(FakeDetector):
        def detect(self, batch):
            running.set()
            assert release.wait(10)
            return super().detect(batch)

    server = start(lambda path: Cascade(Blocked(), Clicker()), queue_size=0)
    thread = threading.Thread(target=lambda: predict(server.client, "a"))
    thread.start()
    assert running.wait(10)
    assert predict(server.client, "b").status_code == 503
    replies: list[int] = []
    clicker = threading.Thread(
        target=lambda: replies.append(click(server.app.test_client(), "c", (50, 50)).status_code)
    )
    clicker.start()
    end = time.monotonic() + 10
    while server.service.inference.waiting < 2 and time.monotonic() < end:
        time.sleep(0.001)
    release.set()
    thread.join()
    clicker.join()
    assert replies == [200]


def test_log_lines_cannot_be_forged(server: SimpleNamespace) -> None:
    from backend.config.process import OneLine

    record = logging.LogRecord(
        "x", logging.INFO, "", 0, "path %s", ("/x\nCRITICAL forged\x1b[31m",), None
    )
    assert OneLine("%(message)s").format(record) == "path /x\\nCRITICAL forged\\x1b[31m"


def test_a_password_in_either_encoding() -> None:
    client = start(basic_auth_user="u", basic_auth_pass=Secret("pässwort")).client
    for encoding in ("utf-8", "latin-1"):
        header = "Basic " + base64.b64encode("u:pässwort".encode(encoding)).decode()
        assert client.get("/", headers={"Authorization": header}).status_code == 200


def test_x07_sizes_are_those_of_the_upright_picture_whatever_the_request_says(
    server: SimpleNamespace,
) -> None:
    from label_studio_sdk.converter.brush import decode_rle

    stream = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (61, 37)).save(stream, "JPEG", exif=exif)
    server.images.answers["turned"] = stream.getvalue()
    mark = {
        "type": "keypointlabels",
        "from_name": "kp",
        "original_width": 999,
        "original_height": 3,
        "value": {"x": 50, "y": 50, "keypointlabels": ["cat"]},
    }
    for reply in (
        predict(server.client, "turned"),
        predict(server.client, "turned", params={"context": {"result": [mark]}}),
    ):
        for region in reply.json["results"][0]["result"]:
            assert (
                region["original_width"],
                region["original_height"],
                region["image_rotation"],
            ) == (37, 61, 0)
            assert len(decode_rle(region["value"]["rle"])) == 37 * 61 * 4


def test_p04_p06_nothing_from_a_task_becomes_a_path_and_no_archive_is_unpacked() -> None:
    from tests.conftest import ROOT

    for path in (ROOT / "backend").rglob("*.py"):
        text = path.read_text()
        assert not any(
            name in text for name in ("extractall", "unpack_archive", "zipfile", "tarfile")
        ), path
    server = ROOT / "backend" / "label_studio" / "server"
    writers = {
        "video_files.py",  # videos, into a folder of its own, whose names are digests
        "job_process.py",  # what a training prints, into a folder named by a project's number
        # Of the training's process, below its folder: tests/label_studio/api/test_accepted.py.
        "accepted.py",
    }
    calls = ("write_atomic", ".write_bytes(", ".write_text(", '"wb"', '"w"')
    for path in [*server.rglob("*.py"), *(server.parent / "api").rglob("*.py")]:
        writes = any(call in path.read_text() for call in calls)
        assert path.name in writers or not writes, f"{path}: the backend writes no files"


def test_x08_regions_are_finite_and_inside(server: SimpleNamespace) -> None:
    boxes = [
        [-50, -50, 20, 20],
        [10, 10, 10.2, 10.1],
        [30, 30, 500, 500],
        [np.nan, 0, 5, 5],
        [20, 20, 5, 5],
        [1, 1, 59, 39],
    ]

    class Odd(FakeDetector):
        def detect(self, batch):
            found = super().detect(batch)
            found[0].scores[-1] = np.nan
            return found

    more = (
        f'<PolygonLabels name="p" toName="image">{_LABELS}</PolygonLabels><RectangleLabels name="x"'
        f' toName="image">{_LABELS}</RectangleLabels></View>'
    )
    config = CONFIG.replace("</View>", more)
    server = start(
        lambda path: Cascade(Odd([b for b in boxes if not np.isnan(b).any()]), Clicker())
    )
    (item,) = predict(server.client, "a", label_config=config).json["results"]
    assert item["result"]
    for region in item["result"]:
        assert 0 <= region["score"] <= 1
        value = region["value"]
        numbers = [n for p in value.get("points", []) for n in p] + [
            value[k] for k in ("x", "y", "width", "height") if k in value
        ]
        assert all(0 <= n <= 100 for n in numbers)
        if "width" in value:
            assert value["x"] + value["width"] <= 100.0001


def test_metrics_tell_models_phases_and_caches(server: SimpleNamespace) -> None:
    predict(server.client, "a")
    click(server.client, "a", (30, 20))
    text = server.client.get("/metrics").text
    version = server.service.predictors.default().model_version
    assert f'yolosam2_model{{model_version="{version}"}} 1.0' in text
    for phase in ("fetch", "decode", "models", "write"):
        assert f'yolosam2_phase_seconds_count{{phase="{phase}"}} 1.0' in text
    assert 'yolosam2_cache_bytes{cache="clicks"} 1000.0' in text
    assert "yolosam2_device_memory_bytes 0.0" in text
    assert server.service.monitor.outcomes() == {"done": 1, "failed": 0, "later": 0}


def test_metrics_while_torch_is_being_imported(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    reply = server.client.get("/metrics")
    assert reply.status_code == 200
    assert "yolosam2_device_memory_bytes 0.0" in reply.text


def test_a_request_for_another_servers_name_is_refused() -> None:
    """A page of another site can have its own name lead to this machine (DNS rebinding)."""
    from backend.label_studio.server.access import foreign_host

    local = ServiceSettings(server_names=("label.example.com",))
    for host in ("127.0.0.1:9090", "localhost", "[::1]:9090", "label.example.com", ""):
        assert not foreign_host(local, host), host
    for host in ("evil.example.com", "evil.example.com:9090", "10.0.0.1", "localhost.evil.com"):
        assert foreign_host(local, host), host
    assert not foreign_host(ServiceSettings(host="0.0.0.0", insecure=True), "any.example.com")
    client = create_app(
        Service(lambda path: Cascade(FakeDetector(), Clicker()), ServiceSettings(), warm=False)
    ).test_client()
    assert client.get("/health", headers={"Host": "evil.example.com"}).status_code == 421
    assert client.get("/health").status_code == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.post("/predict", data="{}", content_type=kind).status_code == 415
    other = {"Origin": "https://example.com"}  # a page can leave the type out
    assert client.post("/predict", data="{}", headers=other).status_code == 415


def test_failures_of_a_kind_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    from backend.label_studio.api.tasks import Task
    from backend.label_studio.server.batch import TaskAnswer, _tell

    tasks = [Task(k, {}) for k in range(1000)]
    answers = [TaskAnswer(None, "failed", f"/data/{k}.jpg: answered 404") for k in range(1000)]
    _tell(tasks, answers)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "task 0: /data/0.jpg: answered 404 (and 999 more tasks alike)"


def progressive(n_scans: int) -> bytes:
    """A JPEG whose last scan comes again and again."""
    stream = io.BytesIO()
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * n_scans + data[-2:]


@pytest.mark.usefixtures("without_collector")
def test_a_jpeg_of_many_scans_is_refused_at_once() -> None:
    from backend.files.images import decode_image, jpeg_scans

    assert decode_image(progressive(1)).shape == (64, 64, 3)
    start = time.process_time()
    with pytest.raises(InputError, match="is a JPEG of 2.... scans, the limit is 500"):
        decode_image(progressive(20_000), "bomb.jpg")
    assert time.process_time() - start < 0.5
    assert jpeg_scans(progressive(3)) > 3


def test_a_picture_that_takes_too_long_is_given_up() -> None:
    """It costs itself; the next one is decoded."""
    from backend.files.images import ImageLimits
    from backend.label_studio.server.decoding import Decoder

    slow = io.BytesIO()
    PIL.Image.new("RGB", (3000, 3000), "grey").save(slow, "JPEG", progressive=True)
    data = slow.getvalue()
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 480 + data[-2:]  # 65 kB that take many seconds to decode
    decoder = Decoder(ImageLimits(), workers=1, most_s=2)
    try:
        start = time.monotonic()
        with pytest.raises(InputError, match=r"bomb\.jpg: takes more than 2 s to decode"):
            decoder(bomb, "bomb.jpg", time.monotonic() + 60)
        assert time.monotonic() - start < 20
        again = decoder(progressive(1), "a.jpg", time.monotonic() + 10)
        assert again.shape == (64, 64, 3)
    finally:
        decoder.close()


def test_pictures_are_decoded_within_a_budget() -> None:
    from backend.label_studio.server.decoding import Budget
    from backend.label_studio.server.worker import DeadlineExceeded

    budget = Budget(100)
    with budget.spend(80, time.monotonic() + 1):
        with pytest.raises(DeadlineExceeded), budget.spend(30, time.monotonic()):
            pass
        with budget.spend(20, time.monotonic()):
            pass
    with budget.spend(1000, time.monotonic()):
        pass
