"""Label Studio's API as a pre-labelling run needs it: tasks, predictions, the label config.

Only public endpoints are called. What may be tried again and what must be looked at first is
decided here, so that no prediction comes twice.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from backend.config.secret import Secret
from backend.errors import InputError, Unavailable, json_kind
from backend.label_studio.api.answers import Ambiguous, judge
from backend.label_studio.api.filters import after, among, with_version
from backend.label_studio.api.retry import Waits, patiently
from backend.label_studio.api.rows import ProjectInfo, StoredPrediction, TaskRow
from backend.label_studio.api.tokens import Tokens

PAGE = 100  # tasks that are listed at once
_FULL_PAGE = 20  # with everything that belongs to them
# Label Studio takes seconds for a large import; giving up early makes it unclear what came of it.
_TIMEOUT_S = 300.0
_CALL_PATIENCE_S = 20.0
PATIENCE_S = 600.0  # for a Label Studio that restarts


class Client:
    """Calls Label Studio; safe for several threads.

    Args:
        url: of Label Studio.
        key: legacy or personal access token.
        sleep: waits between tries; on ``stop`` if None.
        stop: when set, no further try is made.
        patience_s: how long Label Studio may be silent in all before a call gives up.
    """

    def __init__(
        self,
        url: str,
        key: Secret,
        *,
        sleep: Callable[[float], None] | None = None,
        stop: threading.Event | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        import httpx

        self._stop = stop or threading.Event()
        self._waits = Waits(patience_s=patience_s)
        self._sleep: Callable[[float], Any] = sleep or self._stop.wait
        self.n_requests = 0
        self._url = url.rstrip("/")
        # By a redirection what is sent would be sent twice, or lost.
        self._http = httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False)
        # What makes something goes over a new connection each time: one that is kept may just be
        # closed by the server, and then nobody knows whether the thing was made.
        self._making = httpx.Client(
            timeout=_TIMEOUT_S,
            follow_redirects=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._tokens = Tokens(key, self._exchange)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()
        self._making.close()

    def _send(self, method: str, path: str, **content: Any) -> Any:
        """One request without a look at its status.

        Raises:
            Unavailable: surely not carried out.
            Ambiguous: perhaps carried out.
        """
        import httpx

        self.n_requests += 1
        try:
            http = self._making if method == "POST" else self._http
            return http.request(method, f"{self._url}/{path}", **content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unavailable(f"Label Studio at {self._url} cannot be reached: {error}") from None
        except (httpx.HTTPError, OSError) as error:
            raise Ambiguous(f"{method} {path}: no answer: {type(error).__name__} {error}") from None

    def _exchange(self, personal: str, deadline: float) -> str:
        """An access token for a personal access token; see ``Tokens``."""
        path = "api/token/refresh/"
        try:
            reply = self._send("POST", path, json={"refresh": personal})
        except Ambiguous as error:  # asking again does no harm
            raise Unavailable(f"the access token could not be renewed: {error}") from None
        judge(reply, f"POST {path}")
        try:
            return str(reply.json()["access"])
        except (ValueError, KeyError, TypeError):  # as while Label Studio restarts behind a proxy
            raise Unavailable(
                f"the access token could not be renewed: {path} answered with something else"
            ) from None

    def _once(
        self, method: str, path: str, params: Mapping[str, Any] | None, content: bytes | None
    ) -> Any:
        """One request; the access token is renewed once where it was refused."""
        deadline = time.monotonic() + _TIMEOUT_S
        header = self._tokens.header(deadline) or ""
        headers = {} if content is None else {"content-type": "application/json"}
        for is_last in (False, True):
            reply = self._send(
                method,
                path,
                params=dict(params or {}),
                content=content,
                headers={**headers, "authorization": header},
            )
            if reply.status_code != 401 or is_last or self._tokens.kind != "personal":
                break
            header = self._tokens.renew(header, deadline)
        judge(reply, f"{method} {path}")
        return reply

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Try until there is an answer, for calls that may be repeated."""
        return patiently(call, self._waits, self._sleep, self._stop.is_set)

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        reply = self._patiently(lambda: self._once("GET", path, params, None))
        try:
            return reply.json()
        except ValueError:
            raise InputError(
                f"{path}: answered with something other than JSON; is this Label Studio?"
            ) from None

    def call(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """A call that is not worth a long wait; the JSON of its answer.

        What makes something (POST) is tried once, as it might be made twice.
        """
        content = None if body is None else json.dumps(body).encode()

        def once() -> Any:
            return self._once(method, path.lstrip("/"), params, content)

        reply = (
            once()
            if method == "POST"
            else patiently(
                once,
                Waits(patience_s=min(_CALL_PATIENCE_S, self._waits.patience_s)),
                self._sleep,
                self._stop.is_set,
            )
        )
        return reply.json() if reply.content else None

    def download(self, path: str, params: Mapping[str, Any], target: BinaryIO) -> None:
        """The body of an answer, written to a stream as it comes.

        Raises:
            Unavailable: it does not come, or not whole.
        """
        import httpx

        header = self._tokens.header(time.monotonic() + _TIMEOUT_S) or ""
        self.n_requests += 1
        try:
            with self._http.stream(
                "GET", f"{self._url}/{path}", params=params, headers={"authorization": header}
            ) as reply:
                if reply.status_code >= 300:
                    reply.read()
                judge(reply, f"GET {path}")
                for part in reply.iter_bytes():
                    target.write(part)
        except httpx.HTTPError as error:
            raise Unavailable(f"GET {path}: {type(error).__name__} {error}") from None

    def upload(self, path: str, files: Mapping[str, tuple[str, bytes]]) -> Any:
        """Send files as a form, one try.

        Args:
            path: of the API.
            files: field to the name and the content of a file.
        """
        header = self._tokens.header(time.monotonic() + _TIMEOUT_S) or ""
        reply = self._send("POST", path, files=dict(files), headers={"authorization": header})
        judge(reply, f"POST {path}")
        return reply.json()

    def project(self, project: int) -> ProjectInfo:
        """A project.

        Raises:
            InputError: there is none of this number.
            AuthError: refused.
            Unavailable: no answer.
        """
        found = self._get(f"api/projects/{project}/")
        if not isinstance(found, dict):
            raise InputError(f"project {project}: expected an object, got {json_kind(found)}")
        return ProjectInfo(
            project, str(found.get("title") or ""), str(found.get("label_config") or "")
        )

    def _page(
        self, project: int, filters: Sequence[Mapping[str, Any]], size: int, include: str | None
    ) -> tuple[list[dict[str, Any]], int]:
        query = {
            "filters": {"conjunction": "and", "items": list(filters)},
            "ordering": ["tasks:id"],
        }
        params = {
            "project": project,
            "page": 1,
            "page_size": size,
            "query": json.dumps(query),
            "fields": "all" if include is None else "task_only",
        }
        if include is not None:
            params["include"] = include
        found = self._get("api/tasks", params)
        if not isinstance(found, dict) or not isinstance(found.get("tasks"), list):
            raise InputError("api/tasks: expected a page of tasks; is this Label Studio?")
        return found["tasks"], int(found.get("total") or 0)

    def count(self, project: int, filters: Sequence[Mapping[str, Any]] = ()) -> int:
        """How many tasks pass the filters."""
        return self._page(project, filters, 1, "id")[1]

    def tasks(
        self, project: int, filters: Sequence[Mapping[str, Any]] = (), *, full: bool = False
    ) -> Iterator[TaskRow]:
        """The tasks that pass the filters, by their numbers.

        Whatever is added or deleted meanwhile, none is skipped and none comes twice.

        Args:
            project: its number.
            filters: all of which a task must pass.
            full: with annotations and predictions, which can be large.
        """
        last = 0
        while True:
            rows, _ = self._page(
                project,
                [after(last), *filters],
                _FULL_PAGE if full else PAGE,
                None if full else "id,data",
            )
            for row in rows:
                yield TaskRow(
                    int(row["id"]),
                    row.get("data") or {},
                    row.get("annotations") or (),
                    row.get("predictions") or (),
                )
            if not rows:
                return
            last = int(rows[-1]["id"])

    def having(self, project: int, tasks: Sequence[int], model_version: str) -> set[int]:
        """Which of these tasks have a prediction of this version."""
        found: set[int] = set()
        for start in range(0, len(tasks), PAGE):
            part = list(tasks[start : start + PAGE])
            rows, _ = self._page(
                project,
                [among(part), with_version(model_version)],
                len(part),
                "id",
            )
            found |= {int(row["id"]) for row in rows}
        return found

    def predictions(self, project: int, task: int) -> list[StoredPrediction]:
        """The predictions of a task, oldest first."""
        found = self._get("api/predictions", {"project": project, "task": task})
        if not isinstance(found, list):
            raise InputError(f"task {task}: predictions: expected a list, got {json_kind(found)}")
        return sorted(
            (
                StoredPrediction(int(one["id"]), task, str(one.get("model_version")))
                for one in found
            ),
            key=lambda one: one.id,
        )

    def send(self, project: int, texts: Sequence[str]) -> None:
        """Import predictions, all of them or none; one try.

        Args:
            project: its number.
            texts: one JSON object each, with ``task``, ``result``, ``score`` and ``model_version``.

        Raises:
            Ambiguous: they may be there or not.
            InputError: refused, none is there.
            AuthError: refused.
            Unavailable: surely not sent.
        """
        reply = self._once(
            "POST",
            f"api/projects/{project}/import/predictions",
            None,
            ("[" + ",".join(texts) + "]").encode(),
        )
        try:
            created = reply.json()["created"]
        except (ValueError, KeyError, TypeError):
            created = None
        if created != len(texts):
            raise Ambiguous(
                f"Label Studio answered {reply.status_code} to an import of {len(texts)}, but says"
                f" it made {created}"
            )

    def delete(self, prediction: int) -> None:
        """Delete a prediction; one that is gone already is no fault."""
        try:
            self._patiently(
                lambda: self._once("DELETE", f"api/predictions/{prediction}/", None, None)
            )
        except InputError as error:
            if "answered 404" not in str(error):
                raise

    def versions(self, project: int) -> dict[str, int]:
        """The versions of a project's predictions, and how many each has."""
        found = self._get(f"api/projects/{project}/model-versions/")
        return {str(k): int(n) for k, n in found.items()} if isinstance(found, dict) else {}

    def delete_version(self, project: int, version: str) -> int:
        """Delete all predictions of a version; how many there were."""
        path = f"api/projects/{project}/model-versions/"
        found = self.call("DELETE", path, body={"model_version": version})
        return int((found or {}).get("deleted_predictions", 0))

    def view(self, project: int, view: int) -> list[Mapping[str, Any]]:
        """The filters of a tab of the Data Manager.

        Raises:
            InputError: no such tab, of another project, or one whose filters are joined by or.
        """
        found = self._get(f"api/dm/views/{view}/", {"project": project})
        data = found.get("data") or {}
        if found.get("project") not in (None, project):
            raise InputError(f"view {view}: is of project {found.get('project')}")
        filters = data.get("filters") or {}
        items = list(filters.get("items") or ())
        if len(items) > 1 and filters.get("conjunction") == "or":
            raise InputError(
                f"view {view}: its filters are joined by or, which cannot be read in pages; make"
                " one with and, or name tasks with --ids"
            )
        return items
