"""The server under connections that send nothing, send slowly, or do not read their answers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import pytest
import requests

from tests.load.test_load import Running, inline, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
EACH = 100  # connections of every kind
LASTS_S = float(os.environ.get("BAD_CONNECTIONS_S", "15"))
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"


def silent(sock: socket.socket, turn: int) -> None:
    """Connects, and says nothing."""


def slow_head(sock: socket.socket, turn: int) -> None:
    """A byte of headers at a time."""
    text = HEAD + b"X: " + b"y" * 1000
    sock.sendall(text[turn : turn + 1])


def slow_body(sock: socket.socket, turn: int) -> None:
    """A byte of a body at a time."""
    sock.sendall(HEAD + b"Content-Length: 100000\r\n\r\n{" if turn == 0 else b" ")


def slow_chunks(sock: socket.socket, turn: int) -> None:
    """A chunk of one byte at a time."""
    sock.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" if turn == 0 else b"1\r\n \r\n")


def unread(sock: socket.socket, turn: int) -> None:
    """Asks and asks in one go, and never reads."""
    sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)


KINDS = (silent, slow_head, slow_body, slow_chunks, unread)


class Bad:
    """Many connections of one kind, made again when the server closes them."""

    def __init__(self, port: int, kind: Callable[[socket.socket, int], None]) -> None:
        self._port = port
        self._kind = kind
        self._open = {k: (self._connect(), 0) for k in range(EACH)}
        self.closed = 0  # by the server

    def _connect(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self._port))
        sock.setblocking(False)
        return sock

    def turn(self) -> None:
        """Go on with every connection."""
        for k, (sock, turn) in self._open.items():
            try:
                with contextlib.suppress(BlockingIOError):
                    self._kind(sock, turn)
                if self._kind is not unread:
                    with contextlib.suppress(BlockingIOError):
                        if not sock.recv(100):
                            raise ConnectionError("closed")
                self._open[k] = (sock, turn + 1)
            except OSError:
                self.closed += 1
                sock.close()
                self._open[k] = (self._connect(), 0)


def attack(port: int, seconds: float, closed: Connection) -> None:
    """All kinds at once, from a process of their own; tells how many the server closed."""
    kinds = [Bad(port, kind) for kind in KINDS]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for one in kinds:
            one.turn()
        time.sleep(0.5)
    closed.send([one.closed for one in kinds])


def test_five_hundred_bad_connections(tmp_path) -> None:
    """Health and good requests go on as before, memory stays, and bad connections are closed.

    What a busy machine takes, another server says, which nobody attacks.
    """
    with (
        serving(tmp_path / "log") as server,
        serving(tmp_path / "calm") as calm,
        requests.Session() as session,
    ):

        def ask(k: int) -> float:
            start = time.perf_counter()
            assert server.predict(inline(k), timeout=20).status_code == 200
            return time.perf_counter() - start

        idle = float(np.median([ask(k) for k in range(20)]))
        told, tells = multiprocessing.get_context("spawn").Pipe()
        port = int(server.url.rsplit(":", 1)[1])
        bad = multiprocessing.get_context("spawn").Process(
            target=attack, args=(port, LASTS_S + 5, tells)
        )
        bad.start()
        time.sleep(4)
        before = server.worker().memory_info().rss

        def health_of(one: Running) -> float:
            start = time.perf_counter()
            assert session.get(f"{one.url}/health", timeout=5).status_code == 200
            return time.perf_counter() - start

        health: list[float] = []
        control: list[float] = []
        good: list[float] = []
        end = time.monotonic() + LASTS_S
        while time.monotonic() < end:
            health.append(health_of(server))
            control.append(health_of(calm))
            good.append(ask(100 + len(good)))
            time.sleep(0.02)
        after = server.worker().memory_info().rss
        closed = told.recv()
        bad.join()
        figures = (
            f"health p99 {np.quantile(health, 0.99):.3f} s of {len(health)}, of a calm server"
            f" {np.quantile(control, 0.99):.3f} s;"
            f" good {np.median(good):.3f} s, idle {idle:.3f} s;"
            f" memory {before >> 20} to {after >> 20} MiB; closed {closed}"
        )
        sys.stderr.write(f"{figures}\n")
        assert np.quantile(health, 0.99) < 0.2 + np.quantile(control, 0.99), figures
        assert np.median(good) < 2 * idle + 0.02, figures
        assert after < 1.1 * before + (8 << 20), figures
        silent_closed, head_closed, _, _, unread_closed = closed  # bodies have until the deadline
        assert min(silent_closed, head_closed, unread_closed) > 0, figures
