"""Calls over connections that Label Studio may close whenever it likes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backend.config.secret import Secret
from backend.label_studio.api.client import Client
from tests.support.fake_studio import LEGACY


@pytest.fixture
def forgetful() -> Iterator[tuple[str, list[str]]]:
    """Answers the first request of each connection and hangs up on the second, as a server whose
    time for idle connections is over; its address, and the methods it answered.
    """
    answered: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        n_seen = 0

        def do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.n_seen += 1
            if self.n_seen > 1:
                self.close_connection = True
                return
            answered.append(self.command)
            content = json.dumps({"n": len(answered)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", answered
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_makes_something_is_not_sent_over_a_connection_that_may_just_end(
    forgetful: tuple[str, list[str]],
) -> None:
    url, answered = forgetful
    client = Client(url, Secret(LEGACY), sleep=lambda _: None)
    try:
        client.call("GET", "/api/dm/views/")
        for _ in range(3):  # none is repeated: it might be made twice
            client.call("POST", "/api/dm/views/", body={})
        client.call("GET", "/api/dm/views/")
    finally:
        client.close()
    assert answered == ["GET", "POST", "POST", "POST", "GET"]
