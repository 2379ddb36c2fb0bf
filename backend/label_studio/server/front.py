"""The front of the server: one thread does all reading and writing, and only requests that are
there whole reach a worker thread, so that a slow, silent or unread connection holds none.

It is waitress in a worker of gunicorn: gunicorn keeps the process running and ends it in order,
waitress knows the reason phrases that Label Studio shows to its users, which ASGI has no place for.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import time
from types import FrameType
from typing import Any

import waitress.server
from gunicorn.workers.base import Worker
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import RequestEntityTooLarge

from backend.label_studio.server.access import OPEN_PATHS
from backend.label_studio.server.monitor import Monitor
from backend.label_studio.server.service import Service

logger = logging.getLogger(__name__)
HEADER_S = 10.0  # from the first byte of a request to the end of its headers
IDLE_S = 15.0  # of a connection that asks nothing
STALLED_S = 10.0  # without a byte of a body, or of an answer that is not read
_LOOK_S = 1  # between two looks at all connections
_MOST_CONNECTIONS = 4096
_OWN_FILES = 64  # that the process needs beside its connections
_HEADER_BYTES = 64 << 10
_IN_MEMORY = 1 << 20  # bytes of a body or an answer; the rest lies in a temporary file
_MOST_AT_ONCE = 8  # requests that a connection may send before it has read an answer
_FOR_PROBES = 3  # threads beside those that may be busy with requests
_COUNTED = ("/predict", "/setup", "/webhook")  # by their names in the metrics
_UNREAD = 1 << 30  # bytes of an answer that wait for their reader without holding a thread


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """A request as it arrives; one that is too large is answered in our words."""

    def received(self, data: bytes) -> int:
        taken: int = super().received(data)
        if isinstance(self.error, RequestEntityTooLarge):
            limit = self.adj.max_request_body_size / (1 << 20)
            self.error.reason = (
                f"body: larger than the limit of {limit:g} MiB; raise MAX_BODY_MB or select fewer"
                " tasks"
            )
        return taken


class _Refused(ErrorTask):  # type: ignore[misc]
    """The answer to a request that never reaches the application, which is told of it."""

    def execute(self) -> None:
        super().execute()
        self.channel.server.refused(self.request.path, self.request.error)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that knows since when it has been waiting, and for what."""

    parser_class = _Parser
    error_task_class = _Refused
    _asking_since: float | None = None  # when the first byte of the request in hand came

    def received(self, data: bytes) -> bool:
        more = bool(super().received(data))
        if len(self.requests) > _MOST_AT_ONCE:
            with self.requests_lock:
                del self.requests[1:]  # the first one may be in work
            self.will_close = True
        if self.request is None:
            self._asking_since = None
        elif self._asking_since is None:
            self._asking_since = time.time()
        return more

    def is_overdue(self, now: float) -> bool:
        """Whether it is to be closed: its peer is silent, slow, or does not read."""
        quiet = now - self.last_activity
        if self.total_outbufs_len:
            return bool(quiet > STALLED_S)
        if self.requests:
            return False
        request = self.request
        if request is None or self._asking_since is None:
            return bool(quiet > IDLE_S)
        if not request.headers_finished:
            return now - self._asking_since > HEADER_S
        return bool(quiet > STALLED_S or now - self._asking_since > self.adj.channel_timeout)


class _Server(waitress.server.TcpWSGIServer):  # type: ignore[misc]
    channel_class = _Channel
    monitor: Monitor | None = None

    def refused(self, path: str, error: Any) -> None:
        """Count and tell what was refused before it was read."""
        logger.warning("refused %s: %d %s", path[:80] or "a request", error.code, error.reason)
        if self.monitor is not None:
            endpoint = path.strip("/") if path in _COUNTED else "other"
            self.monitor.requests.labels(endpoint, error.code).inc()

    def maintenance(self, now: float) -> None:
        """Close what is overdue; called about once a second."""
        for channel in list(self.active_channels.values()):
            if channel.is_overdue(now):
                channel.will_close = True


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Worker threads; that requests wait for one is no news worth a line each."""

    queue_logger = logging.getLogger("waitress.queue.quiet")

    def add_task(self, task: _Channel) -> None:
        """Health checks go first."""
        requests = task.requests
        if not requests or requests[0].path not in OPEN_PATHS:
            super().add_task(task)
            return
        with self.lock:
            self.queue.appendleft(task)
            self.queue_cv.notify()


logging.getLogger("waitress.queue.quiet").setLevel(logging.ERROR)


def _connections() -> int:
    """How many connections may be open, by the files the system lets the process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(8, min(_MOST_CONNECTIONS, soft - _OWN_FILES))


class FrontWorker(Worker):  # type: ignore[misc]
    """gunicorn's worker process with waitress in it."""

    _hurry = False  # whether requests in work are given up

    def run(self) -> None:
        """Serve until a signal comes; requests that are in then are finished."""
        service: Service = self.wsgi.extensions["service"]
        settings = service.settings
        adjustments = Adjustments(
            sockets=[listener.sock for listener in self.sockets],
            threads=settings.threads + _FOR_PROBES,
            connection_limit=_connections(),
            asyncore_use_poll=True,  # select() knows 1024 files
            asyncore_loop_timeout=_LOOK_S,
            cleanup_interval=_LOOK_S,
            channel_timeout=int(settings.deadline_s) + 1,
            max_request_header_size=_HEADER_BYTES,
            max_request_body_size=settings.max_body_bytes + 1,
            inbuf_overflow=_IN_MEMORY,
            outbuf_overflow=_IN_MEMORY,
            outbuf_high_watermark=_UNREAD,
            clear_untrusted_proxy_headers=True,
            ident=None,
        )
        dispatcher = _Dispatcher()
        dispatcher.set_thread_count(settings.threads + _FOR_PROBES)
        sockets: dict[int, Any] = {}
        for listener in self.sockets:
            sock = listener.sock
            info = (sock.family, sock.type, sock.proto, sock.getsockname())
            server = _Server(
                self.wsgi,
                sockets,
                True,
                sock,
                dispatcher=dispatcher,
                adj=adjustments,
                bind_socket=False,
                sockinfo=info,
            )
            server.monitor = service.monitor
        while self.alive:
            waitress.server.wasyncore.loop(timeout=_LOOK_S, use_poll=True, map=sockets, count=1)
        self._finish(service, sockets, dispatcher)

    def _finish(
        self, service: Service, sockets: dict[int, Any], dispatcher: ThreadedTaskDispatcher
    ) -> None:
        """Answer what was asked before the signal; who asks now is told to come back."""
        logger.info("stopping: what is in work is finished, new requests are refused")
        end = time.monotonic() + self.cfg.graceful_timeout
        while time.monotonic() < end and not self._hurry and _is_busy(sockets):
            waitress.server.wasyncore.loop(timeout=0.1, use_poll=True, map=sockets, count=1)
        waitress.server.wasyncore.close_all(sockets, ignore_all=True)
        # Its threads end with the process; that they still wait for work is no news.
        logging.getLogger("waitress").setLevel(logging.ERROR)
        dispatcher.shutdown(cancel_pending=True, timeout=0)
        service.stop(0)
        told = ", ".join(f"{n} tasks {name}" for name, n in service.monitor.outcomes().items())
        logger.info("stopped; since the start: %s", told)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: new requests are refused from now on."""
        self.wsgi.extensions["service"].inference.begin_drain()
        self.alive = False

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT, SIGQUIT, or a second SIGTERM, by which the master means now."""
        self._hurry = True
        self.alive = False


def _is_busy(sockets: dict[int, Any]) -> bool:
    """Whether a request is in work, or an answer on its way."""
    return any(
        isinstance(one, HTTPChannel) and (one.requests or one.total_outbufs_len)
        for one in sockets.values()
    )
