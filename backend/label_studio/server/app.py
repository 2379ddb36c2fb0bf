"""The HTTP side of the Label Studio ML backend: a Flask app over a service. Knows no models.

Protocol of Label Studio 1.23: it reads only the status and the reason phrase of an error, so the
sentence for the user goes there as well as into the body. Bodies, tokens and query strings are
never logged.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from backend.errors import AuthError, ConfigError, InputError, LabelingError
from backend.label_studio.server.access import foreign_host, is_allowed
from backend.label_studio.server.requests import read_json, read_predict, read_setup
from backend.label_studio.server.service import Service
from backend.label_studio.server.training_routes import add_training
from backend.label_studio.server.worker import STUCK, Busy, DeadlineExceeded

logger = logging.getLogger(__name__)
MODEL_CLASS = "YoloSam2"
# What a page of another site may send from a browser without being asked.
_FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
_PHRASE = 300  # longest reason phrase
_BODY_WAIT_S = 10.0  # for other bodies to be done with


class TooLarge(InputError):
    """The body is larger than allowed."""


def reason_phrase(status: int, sentence: str) -> str:
    """A status line whose reason is a sentence: ASCII, one line, not too long."""
    ascii_only = sentence.encode("ascii", "replace").decode("ascii")
    printable = re.sub(r"[^ -~]+", " ", ascii_only).strip()
    return (
        f"{status} {printable if len(printable) <= _PHRASE else printable[: _PHRASE - 3] + '...'}"
    )


def _reply(content: object, status: int = 200, sentence: str | None = None) -> Response:
    return Response(
        json.dumps(content),
        status=status if sentence is None else reason_phrase(status, sentence),
        mimetype="application/json",
    )


def _error(status: int, sentence: str, retry_after_s: int | None = None) -> Response:
    response = _reply({"error": sentence, "id": g.get("id", "")}, status, sentence)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def _status(error: LabelingError) -> int:
    if isinstance(error, TooLarge):
        return 413
    if isinstance(error, InputError | ConfigError):
        return 422 if request.path == "/setup" or g.get("checked") else 400
    if isinstance(error, AuthError):
        return 502
    return 504 if isinstance(error, DeadlineExceeded) else 503


@contextmanager
def _one_thread(service: Service) -> Iterator[None]:
    """One of the threads that may be busy with requests; a few are left to the health checks.

    Raises:
        Busy: all of them are.
    """
    if not service.posts.acquire(blocking=False):
        raise Busy("busy: all threads are in work, try again in a few seconds")
    try:
        yield
    finally:
        service.posts.release()


def _content(service: Service) -> dict[str, Any]:
    """The JSON object in a request's body; all bodies together are held within the limit of one.

    Raises:
        InputError: it is none, or too large.
        DeadlineExceeded: others took all the memory.
    """
    limit = service.settings.max_body_bytes
    end = time.monotonic() + _BODY_WAIT_S
    with service.bodies.spend(min(request.content_length or 0, limit), end):
        return read_json(_body(limit))


def _body(limit: int) -> bytes:
    """The request's body, chunked or not, up to a limit.

    Raises:
        TooLarge: beyond it.
    """
    if (request.content_length or 0) > limit:
        raise TooLarge(
            f"body: larger than the limit of {limit / (1 << 20):g} MiB; raise MAX_BODY_MB or select"
            " fewer tasks"
        )
    parts = []
    size = 0
    try:
        while piece := request.stream.read(min(1 << 20, limit + 1 - size)):
            size += len(piece)
            if size > limit:
                raise TooLarge(
                    f"body: larger than the limit of {limit / (1 << 20):g} MiB; raise MAX_BODY_MB"
                    " or select fewer tasks"
                )
            parts.append(piece)
    except TooLarge:
        raise
    # Cut off, too slow, or chunks that are none; the server below has error classes of its own for
    # each.
    except Exception:
        raise InputError("body: did not arrive") from None
    return b"".join(parts)


def _add_checks(app: Flask, service: Service) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        # 200 from the first moment: Label Studio takes anything else for "Disconnected" and stops
        # asking.
        return _reply(
            {"status": "UP", "model_class": MODEL_CLASS, "state": service.inference.state}
        )

    @app.get("/livez")
    def livez() -> Response:
        inference = service.inference
        is_alive = inference.state != STUCK and not inference.is_failing
        reason = (inference.fault or "model calls keep failing") if inference.is_failing else None
        return _reply({"state": inference.state, "reason": reason}, 200 if is_alive else 503)

    @app.get("/readyz")
    def readyz() -> Response:
        return _reply(
            {"state": service.inference.state, "reason": service.inference.fault},
            200 if service.ready else 503,
        )

    @app.get("/versions")
    def versions() -> Response:
        return _reply(
            {
                "versions": list(service.versions),
                "message": "model_version changes with weights, thresholds and labels",
            }
        )

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(service.monitor.text(), mimetype="text/plain; version=0.0.4")


def _add_protocol(app: Flask, service: Service) -> None:
    @app.post("/setup")
    def setup() -> Response:
        with _one_thread(service):
            return answer_setup()

    def answer_setup() -> Response:
        asked = read_setup(_content(service))
        g.note = f"project={asked.project}"
        return _reply({"model_version": service.setup(asked)})

    @app.post("/predict")
    def predict() -> Response:
        with _one_thread(service):
            return answer_predict()

    def answer_predict() -> Response:
        asked = read_predict(_content(service))
        g.checked = True
        kind = "click" if asked.context is not None else "batch"
        g.note = f"project={asked.project} {kind} tasks={len(asked.tasks)}"
        answer = service.predict(asked)
        ends = [item.outcome for item in answer.items]
        g.note += "".join(
            f" {name}={ends.count(name)}"
            for name in ("done", "failed", "later", "held out", "not learned")
            if name in ends
        )
        return Response(answer.text, mimetype="application/json")


_QUIET = (
    "health",
    "livez",
    "readyz",
    "metrics",
    "webhook",
    "training",
)  # that come every few seconds


def _tell(endpoint: str, status: int, took_s: float) -> None:
    """A line in the log about the request in hand."""
    logger.log(
        logging.DEBUG if status < 400 and endpoint in _QUIET else logging.INFO,
        "%s %s %d %.0f ms id=%s %s",
        request.method,
        request.path[:80],
        status,
        1000 * took_s,
        g.get("id"),
        g.get("note", ""),
        extra={
            "fields": {
                "id": g.get("id"),
                "method": request.method,
                "path": request.path[:80],
                "status": status,
                "milliseconds": round(1000 * took_s, 1),
            }
        },
    )


def _may_be_forged() -> bool:
    """Whether a page of another site can have made a browser send the request, with or without a
    type; Label Studio itself is no browser, and names no origin.
    """
    return request.mimetype in _FORMS or (
        request.mimetype != "application/json" and "Origin" in request.headers
    )


def _add_frame(app: Flask, service: Service) -> None:
    """Access, identification, counting and errors around every route."""

    @app.before_request
    def check_access() -> Response | None:
        g.id = uuid.uuid4().hex[:8]
        g.start = time.perf_counter()
        if foreign_host(service.settings, request.headers.get("Host", "")):
            return _error(421, "the request is for another server's name; SERVER_NAMES lists more")
        if request.method == "POST" and _may_be_forged():
            return _error(415, "expected application/json, as Label Studio sends it")
        if is_allowed(service.settings, request.path, request.headers.get("Authorization")):
            return None
        response = _error(401, "user name or password is missing or wrong")
        response.headers["WWW-Authenticate"] = 'Basic realm="yolosam2"'
        return response

    @app.after_request
    def account(response: Response) -> Response:
        endpoint = request.endpoint or "unknown"
        took = time.perf_counter() - g.get("start", time.perf_counter())
        service.monitor.requests.labels(endpoint, response.status_code).inc()
        service.monitor.latency.labels(endpoint).observe(took)
        _tell(endpoint, response.status_code, took)
        return response

    @app.errorhandler(LabelingError)
    def expected(error: LabelingError) -> Response:
        status = _status(error)
        logger.warning("id=%s: %s", g.get("id"), error)
        return _error(
            status, str(error), getattr(error, "retry_after_s", 5) if status in (503, 504) else None
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return _error(error.code or 500, f"{request.method} {request.path[:80]}: {error.name}")

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        logger.exception("id=%s: unexpected %s", g.get("id"), type(error).__name__)
        return _error(500, f"internal error {g.get('id')}; see the backend's log")


def create_app(service: Service, start: bool = True) -> Flask:
    """The app over a service.

    Args:
        service: does the work.
        start: begin to load the models; False where the caller does.
    """
    app = Flask("yolosam2", static_folder=None)
    app.extensions["service"] = service
    parts: tuple[Callable[[Flask, Service], None], ...] = (_add_frame, _add_checks, _add_protocol)
    for add in parts:
        add(app, service)
    add_training(app, service, partial(_body, service.settings.max_body_bytes), _reply)
    if start:
        service.start()
    return app
