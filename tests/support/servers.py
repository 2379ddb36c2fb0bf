"""Small HTTP servers on the loopback address for tests: one that answers as told, and one that
counts who calls.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Recorder:
    """A running server: where it is and what it was asked."""

    port: int
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def http_server(
    answer: Callable[
        [str, str, dict[str, str], bytes], Answer | Callable[[BaseHTTPRequestHandler], None]
    ],
) -> Iterator[Recorder]:
    """Serve ``answer(method, path, headers, body)``.

    A callable instead of an answer writes to the connection by itself.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = dict(self.headers.items())
            recorder.requests.append((self.command, self.path, headers, body))
            result = answer(self.command, self.path, headers, body)
            self.close_connection = True
            if callable(result):
                result(self)
                return
            status, more, content = result
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(content)),
                "Connection": "close",
                **more,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = do

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # callers that hang up are part of the tests

    server = Quiet(("127.0.0.1", 0), Handler)
    recorder = Recorder(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def listener() -> Iterator[tuple[int, list[object]]]:
    """A port that nobody must connect to, and the connections it saw."""
    seen: list[object] = []
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen(64)
        sock.settimeout(0.02)
        stop = threading.Event()

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, address = sock.accept()
                except OSError:
                    continue
                seen.append(address)
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield sock.getsockname()[1], seen
        finally:
            stop.set()
            thread.join()
