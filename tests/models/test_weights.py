"""Weights from the hub: what arrives is what was published; no network is told at once."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from backend.errors import ConfigError
from backend.models.weights import fetch_from_hub, fetched_weights

CONTENT = b"weights" * 1000


@contextmanager
def hub(published: str) -> Iterator[str]:
    """A hub that has one file and says that its sum is ``published``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header("ETag", f'"{published}"')
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(CONTENT)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_m04_a_download_is_checked_against_the_published_sum(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with hub(sha256(CONTENT).hexdigest()) as url:
        fetch_from_hub("owner/model", path, url)
    assert path.read_bytes() == CONTENT


def test_m04_another_file_than_the_published_one_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with hub("0" * 64) as url, pytest.raises(ConfigError, match="not what it publishes"):
        fetch_from_hub("owner/model", path, url)
    assert not path.exists()


def test_a_hub_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(ConfigError, match="put a.pt into .*the download failed"):
        fetched_weights(
            tmp_path / "a.pt",
            "a",
            lambda path: fetch_from_hub("owner/model", path, "http://127.0.0.1:9"),
        )
    assert time.monotonic() - begin < 10, "its client alone tries for 26 s"
