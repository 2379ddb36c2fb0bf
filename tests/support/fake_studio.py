"""A stand-in for Label Studio's API, as recorded from 1.23.2, that can fail on command."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.servers import Answer, Recorder, http_server

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(kind: str, number: int) -> str:
    """A token in the shape of Label Studio's, which nobody verifies."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    head = {"alg": "HS256", "typ": "JWT"}
    body = {"token_type": kind, "exp": int(time.time()) + 3600, "jti": str(number)}
    return f"{part(head)}.{part(body)}.c2ln"


@dataclass
class FakeStudio:
    """One project with its tasks and predictions."""

    label_config: str
    picture: bytes
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    predictions: dict[int, dict[str, Any]] = field(default_factory=dict)
    personal: str = field(default_factory=lambda: jwt("refresh", 0))
    calls_per_access: int | None = None  # an access token is refused after so many calls
    fault: Callable[[str, str, int], str | None] = lambda method, path, number: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    n_requests: int = 0
    n_imports: int = 0
    about: dict[str, Any] = field(default_factory=lambda: {"model_version": ""})  # the project
    views: list[dict[str, Any]] = field(default_factory=list)
    snapshot: list[dict[str, Any]] = field(default_factory=list)  # what an export holds
    pictures: dict[str, bytes] = field(default_factory=dict)  # by path, where they are not alike
    people: list[dict[str, Any]] = field(default_factory=list)
    written: list[tuple[str, str]] = field(default_factory=list)  # everything but GET
    _access: dict[str, int] = field(default_factory=dict)
    _next: int = 1

    def add(self, count: int) -> None:
        """More tasks."""
        for _ in range(count):
            number = len(self.tasks) + 1
            self.tasks[number] = {
                "id": number,
                "data": {"image": f"/data/upload/1/0123abcd-{number}.jpg"},
                "total_annotations": 0,
            }

    def of(self, task: int, version: str | None = None) -> list[dict[str, Any]]:
        """The predictions of a task."""
        return [
            one
            for one in self.predictions.values()
            if one["task"] == task and version in (None, one["model_version"])
        ]

    def once(self, version: str) -> bool:
        """Whether every task has exactly one prediction of this version."""
        return all(len(self.of(task, version)) == 1 for task in self.tasks)

    def _passes(self, task: dict[str, Any], item: dict[str, Any]) -> bool:
        column = item["filter"].removeprefix("filter:tasks:")
        operator = item["operator"]
        value = item["value"]
        if column == "predictions_model_versions":
            has = any(
                version in str(one["model_version"])
                for one in self.of(task["id"])
                for version in value
            )
            return has if operator == "contains" else not has
        own = task[column]
        return {
            "greater": lambda: own > value,
            "equal": lambda: own == value,
            "in_list": lambda: own in value,
        }[operator]()

    def _versions(self, method: str, body: bytes) -> dict[str, int]:
        if method == "GET":
            return Counter(str(one["model_version"]) for one in self.predictions.values())
        wanted = json.loads(body)["model_version"]
        gone = [k for k, one in self.predictions.items() if one["model_version"] == wanted]
        for key in gone:
            del self.predictions[key]
        return {"deleted_predictions": len(gone)}

    def _list(self, query: dict[str, list[str]]) -> Any:
        items = json.loads(query["query"][0])["filters"]["items"] if "query" in query else []
        found = [
            task
            for _, task in sorted(self.tasks.items())
            if all(self._passes(task, item) for item in items)
        ]
        size = int(query["page_size"][0])
        full = query.get("fields") == ["all"]
        shown = [
            {**task, "predictions": self.of(task["id"])} if full else task for task in found[:size]
        ]
        return {"total": len(found), "tasks": shown}

    def _import(self, body: bytes) -> tuple[int, Any]:
        rows = json.loads(body)
        missing = [row["task"] for row in rows if row["task"] not in self.tasks]
        if missing:
            return 400, {
                "detail": "Validation error",
                "validation_errors": {
                    "non_field_errors": [f"task {missing[0]} not found in project"]
                },
            }
        for row in rows:
            self.predictions[self._next] = {"id": self._next, **row}
            self._next += 1
        self.n_imports += 1
        return 201, {"created": len(rows)}

    def _authorized(self, header: str) -> bool:
        kind, _, token = header.partition(" ")
        if kind == "Token":
            return token == LEGACY
        if kind != "Bearer" or token not in self._access:
            return False
        self._access[token] += 1
        return self.calls_per_access is None or self._access[token] <= self.calls_per_access

    def answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> Answer | Callable[[BaseHTTPRequestHandler], None]:
        """One request."""
        with self.lock:
            self.n_requests += 1
            return self._answer(
                method, target, {name.lower(): value for name, value in headers.items()}, body
            )

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Any:
        path = urlsplit(target).path
        if path == "/api/token/refresh/":
            if json.loads(body)["refresh"] != self.personal:
                return _json(401, {"detail": "Token is invalid"})
            token = jwt("access", self.n_requests)
            self._access[token] = 0
            return _json(200, {"access": token})
        if not self._authorized(headers.get("authorization", "")):
            return _json(401, {"detail": "Given token not valid for any token type"})
        fault = self.fault(method, path, self.n_requests)
        if fault == "drop":
            return _hang_up
        if fault == "slow down":
            return 429, {"Retry-After": "0", "Content-Type": "application/json"}, b"{}"
        if fault is not None and fault.isdigit():
            return _json(int(fault), {"detail": "as told"})
        if method != "GET":
            self.written.append((method, path))
        status, content = self._route(method, path, parse_qs(urlsplit(target).query), body)
        if fault == "lose answer":
            return _hang_up
        if fault == "bad gateway after":
            return _json(502, {})
        return (
            (200, {"Content-Type": "image/jpeg"}, content)
            if isinstance(content, bytes)
            else _json(status, content)
        )

    def _route(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, Any]:
        if path.startswith("/data/upload/"):
            if self.pictures and path not in self.pictures:
                return 404, {"detail": "Not found."}
            return 200, self.pictures.get(path, self.picture)
        if path == "/api/users/":
            return 200, self.people
        if path == "/api/projects/1/exports/":
            return 201, {"id": 5}
        if path == "/api/projects/1/exports/5":
            return (204, {}) if method == "DELETE" else (200, {"status": "completed"})
        if path == "/api/projects/1/exports/5/download":
            return 200, self.snapshot
        if path == "/api/projects/1/":
            if method == "PATCH":
                self.about |= json.loads(body)
            about = {**self.about, "label_config": self.label_config}
            return 200, {"id": 1, "title": "stand-in", **about}
        if path == "/api/ml":
            return 200, []
        if path == "/api/dm/views/":
            if method == "GET":
                return 200, self.views
            self.views.append({"id": len(self.views) + 1, **json.loads(body)})
            return 201, self.views[-1]
        if path == "/api/projects/1/model-versions/":
            return 200, self._versions(method, body)
        if path == "/api/tasks":
            return 200, self._list(query)
        if path == "/api/projects/1/import/predictions" and method == "POST":
            return self._import(body)
        if path == "/api/predictions":
            return 200, self.of(int(query["task"][0]))
        if (found := re.fullmatch(r"/api/predictions/(\d+)/", path)) and method == "DELETE":
            return (
                (204, {})
                if self.predictions.pop(int(found[1]), None)
                else (404, {"detail": "Not found."})
            )
        return 404, {"detail": f"no such path {path}"}


def _json(status: int, value: Any) -> Answer:
    return (
        status,
        {"Content-Type": "application/json"},
        b"" if status == 204 else json.dumps(value).encode(),
    )


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@contextmanager
def serving(studio: FakeStudio) -> Iterator[Recorder]:
    """The stand-in on a port of this machine."""
    with http_server(studio.answer) as recorder:
        yield recorder
