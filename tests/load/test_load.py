"""The whole server under load and violence: gunicorn, threads and signals are real, the models are
stubs (C02, C03, C05, C07, C10, C11).
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import psutil
import pytest
import requests

from backend.demo.processes import free_port
from tests.conftest import ROOT
from tests.label_studio.server.test_app import CONFIG, png
from tests.support.servers import http_server

pytestmark = pytest.mark.timeout(240)


class Running:
    """The server program and a session to ask it."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def get(self, path: str, timeout: float = 5) -> requests.Response:
        return requests.get(self.url + path, timeout=timeout)

    def predict(self, *uris: str, timeout: float = 60) -> requests.Response:
        tasks = [{"id": k, "data": {"image": uri}} for k, uri in enumerate(uris)]
        return requests.post(
            f"{self.url}/predict",
            json={"tasks": tasks, "project": "1", "label_config": CONFIG},
            timeout=timeout,
        )

    def wait_ready(self, timeout_s: float = 30) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                if self.get("/readyz", 1).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def worker(self) -> psutil.Process:
        (worker,) = psutil.Process(self.process.pid).children()
        return worker


@contextmanager
def serving(log: Path, **environment: object) -> Iterator[Running]:
    port = free_port()
    variables = {
        **os.environ,
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "ALLOWED_HOSTS": "127.0.0.1",
        **{k: str(v) for k, v in environment.items()},
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stub_server"],
            cwd=ROOT,
            env=variables,
            stdout=stream,
            stderr=stream,
        )
    running = Running(process, f"http://127.0.0.1:{port}", log)
    try:
        running.wait_ready()
        yield running
    finally:
        for child in (
            psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        ):
            child.kill()
        process.kill()
        process.wait()


def inline(seed: int) -> str:
    return "data:image/png;base64," + base64.b64encode(png(seed)).decode()


def test_c02_c03_thirty_clients_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "log", STUB_SLEEP=0.4, PREDICT_DEADLINE=1.5) as server:
        statuses = []
        refused_after = []
        health = []
        done = threading.Event()

        def ask(k: int) -> None:
            start = time.perf_counter()
            reply = server.predict(inline(k))
            statuses.append(reply.status_code)
            if reply.status_code == 503:
                refused_after.append(time.perf_counter() - start)
                assert int(reply.headers["Retry-After"]) > 0

        def watch() -> None:
            with requests.Session() as session:
                while not done.is_set():
                    start = time.perf_counter()
                    assert session.get(f"{server.url}/health", timeout=5).status_code == 200
                    health.append(time.perf_counter() - start)

        watcher = threading.Thread(target=watch)
        watcher.start()
        threads = [threading.Thread(target=ask, args=(k,)) for k in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        watcher.join()
        assert set(statuses) <= {200, 503, 504}
        assert statuses.count(200) >= 2
        assert statuses.count(503) >= 20
        assert len(statuses) == 30
        assert np.quantile(health, 0.99) < 0.2
        assert server.predict(inline(99)).status_code == 200, "and it goes on as before"


def test_c10_work_in_flight_is_finished_on_sigterm(tmp_path: Path) -> None:
    with serving(tmp_path / "log", STUB_SLEEP=1.0) as server:
        replies: list[requests.Response] = []
        thread = threading.Thread(
            target=lambda: replies.append(server.predict(*(inline(k) for k in range(20))))
        )
        thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        thread.join()
        assert replies[0].status_code == 200
        assert sum("result" in item for item in replies[0].json()["results"]) == 20, (
            "three batches, two of them after the signal"
        )
        assert server.process.wait(10) == 0


def test_c10_a_second_signal_means_now(tmp_path: Path) -> None:
    with serving(tmp_path / "log", STUB_SLEEP=20) as server:

        def ask() -> None:
            with contextlib.suppress(requests.RequestException):
                server.predict(inline(1))

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(6) == 0
        thread.join()


def test_c05_a_stuck_inference_ends_the_process_and_a_new_one_serves(tmp_path: Path) -> None:
    red = io.BytesIO()
    PIL.Image.new("RGB", (40, 40), (255, 0, 0)).save(red, "PNG")
    with serving(tmp_path / "log", STUCK_AFTER=1, PREDICT_DEADLINE=30) as server:
        before = server.worker().pid
        with pytest.raises(requests.ConnectionError):
            server.predict("data:image/png;base64," + base64.b64encode(red.getvalue()).decode())
        server.wait_ready()
        assert server.worker().pid != before
        assert "stuck" in server.log.read_text()
        assert server.predict(inline(1)).status_code == 200


def test_c11_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path / "log", STUB_LOAD=0.5) as server:
        before = server.worker()
        before.kill()
        before.wait(5)
        start = time.monotonic()
        server.wait_ready()
        assert time.monotonic() - start < 5.5 + 5
        assert server.predict(inline(1)).status_code == 200


@pytest.mark.slow
def test_half_sent_requests_do_not_starve_health(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as server:
        host = "127.0.0.1"
        port = int(server.url.rsplit(":", 1)[1])
        sockets = [socket.create_connection((host, port)) for _ in range(16)]
        for k, sock in enumerate(sockets):
            sock.sendall(
                b"GET /health HTTP/1.1\r\nHost: x\r\n"
                if k % 2
                else b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
            )
        time.sleep(0.3)
        assert server.get("/health", timeout=14).status_code == 200, (
            "their threads are free again after ten seconds of silence"
        )
        for sock in sockets:
            sock.close()
        assert server.predict(inline(1)).status_code == 200


def test_a_chunk_that_is_none_is_no_500(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "log") as server,
        socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as sock,
    ):
        sock.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 400")


def test_what_is_refused_unread_is_counted_and_told(tmp_path: Path) -> None:
    with serving(tmp_path / "log", MAX_BODY_MB=1, LOG_FORMAT="json") as server:
        reply = requests.post(f"{server.url}/predict", data=b"x" * (2 << 20), timeout=10)
        assert reply.status_code == 413
        line = 'yolosam2_requests_total{endpoint="predict",status="413"} 1.0'
        assert line in server.get("/metrics").text
        assert "process_resident_memory_bytes" in server.get("/metrics").text
        server.worker().kill()
        server.wait_ready()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert any("refused /predict: 413" in one["message"] for one in lines)
    assert any("SIGKILL" in one["message"] for one in lines)


def test_large_old_predictions_do_not_hold_health_up(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as server, requests.Session() as session:
        old = {"result": [{"value": {"rle": list(range(256)) * 2000}} for _ in range(25)]}
        tasks = [{"id": 1, "data": {"image": inline(1)}, "predictions": [old]}]
        body = json.dumps({"tasks": tasks, "label_config": CONFIG}).encode()
        assert len(body) > 50 << 20
        statuses: list[int] = []
        thread = threading.Thread(
            target=lambda: statuses.append(
                requests.post(f"{server.url}/predict", data=body, timeout=60).status_code
            )
        )
        thread.start()
        slowest = 0.0
        while thread.is_alive():
            start = time.perf_counter()
            session.get(f"{server.url}/health", timeout=5)
            slowest = max(slowest, time.perf_counter() - start)
        thread.join()
        assert statuses == [200]
        assert slowest < 0.8, "Label Studio takes a second for a disconnected backend"


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "backend", "serve", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
        )
    assert done.returncode == 2
    assert "cannot listen there" in done.stderr


@pytest.mark.slow
def test_twelve_hundred_tasks_in_one_request(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(np.mgrid[0:480, 0:640].sum(0).astype(np.uint8)).convert("RGB").save(
        stream, "JPEG"
    )

    def answer(method: str, path: str, headers: dict[str, str], body: bytes):
        return (
            200,
            {},
            stream.getvalue() + path.encode(),
        )  # what follows the end of a JPEG is ignored, but makes the bytes differ

    with (
        http_server(answer) as images,
        serving(tmp_path / "log", LABEL_STUDIO_URL=images.url) as server,
    ):
        server.predict("/data/upload/1/im-0")
        before = server.worker().memory_info().rss
        peak = [0]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak[0] = max(peak[0], server.worker().memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.monotonic()
        reply = server.predict(*(f"/data/upload/1/im-{k}" for k in range(1200)))
        took = time.monotonic() - start
        done.set()
        watcher.join()
        results = reply.json()["results"]
        assert len(results) == 1200
        assert all(item["result"] for item in results)
        assert took < 10
        assert peak[0] - before < 150 << 20


@pytest.mark.slow
def test_c07_memory_is_flat_over_five_thousand_calls(tmp_path: Path) -> None:
    with serving(tmp_path / "log", RESULT_CACHE_MB=0.5) as server, requests.Session() as session:

        def call(seed: int) -> None:
            tasks = [{"id": 1, "data": {"image": uris[seed % len(uris)]}}]
            config = CONFIG.replace(
                '"cat"/>', f'"cat" model_score_threshold="{(seed % 997) / 1000}"/>', 1
            )
            assert (
                session.post(
                    f"{server.url}/predict", json={"tasks": tasks, "label_config": config}
                ).status_code
                == 200
            )

        uris = [inline(k) for k in range(50)]
        for k in range(700):
            call(k)
        before = server.worker().memory_info().rss
        for k in range(5000):
            call(700 + k)
        assert server.worker().memory_info().rss < 1.05 * before


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LISTEN_HOST": "0.0.0.0"}, "BASIC_AUTH_USER"),
        ({"PORT": "x"}, "PORT: expected an integer"),
        ({"BASIC_AUTH_USER": "a"}, "both or neither"),
        ({"SEGMENTER": "sam2.1_hiera_tyny"}, "unknown model 'sam2.1_hiera_tyny'"),
        ({"DETECTOR": "lost.pt"}, "no such file: lost.pt"),
    ],
)
def test_c08_a01_what_cannot_be_served_is_refused_before_anything_loads(
    environment: dict[str, str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backend", "serve"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
