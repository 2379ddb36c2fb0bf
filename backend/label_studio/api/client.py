"""Label Studio's API as a pre-labelling run needs it, on label-studio-sdk: tasks, predictions, the
label config.

The SDK's transport is used, which knows both kinds of token, and not its typed models, which would
look at every number of every mask. What may be tried again and what must be looked at first is
decided here, because the SDK cannot know that a prediction must not come twice.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.config.secret import Secret
from backend.errors import AuthError, ConfigError, InputError, Unavailable, json_kind

logger = logging.getLogger(__name__)

PAGE = 100  # tasks that are listed at once
_FULL_PAGE = 20  # with everything that belongs to them
# Label Studio takes seconds for a large import; giving up early makes it unclear what came of it.
_TIMEOUT_S = 300.0
_FIRST_WAIT_S = 1.0
_MOST_WAIT_S = 60.0
PATIENCE_S = 600.0  # for a Label Studio that restarts
_MODEL_VERSIONS = "filter:tasks:predictions_model_versions"


class Ambiguous(Unavailable):
    """A request may have been carried out or not; look before it is repeated."""


@dataclass(frozen=True)
class TaskRow:
    """One task of a project."""

    id: int
    data: Mapping[str, Any]
    annotations: Sequence[Any] = ()  # where they were asked for
    predictions: Sequence[Any] = ()


@dataclass(frozen=True)
class ProjectInfo:
    """What a run needs to know about a project."""

    id: int
    title: str
    label_config: str


@dataclass(frozen=True)
class StoredPrediction:
    """One prediction that Label Studio has."""

    id: int
    task: int
    model_version: str


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
        from label_studio_sdk import LabelStudio
        from label_studio_sdk.core.api_error import ApiError

        self._stop = stop or threading.Event()
        self._patience_s = patience_s
        self._sleep: Callable[[float], Any] = sleep or self._stop.wait
        self.n_requests = 0
        try:
            self._wrapper = LabelStudio(
                base_url=url.rstrip("/"), api_key=key.reveal(), timeout=_TIMEOUT_S
            )._client_wrapper
            self._wrapper._tokens_client._base_url = (
                url.rstrip("/") + "/"
            )  # without the slash it would lose a path such as /studio
            self._wrapper.httpx_client.httpx_client.follow_redirects = (
                False  # what is sent would be sent twice, or lost
            )
        except ApiError as error:  # a personal access token that has ended is seen by its looks
            raise AuthError(f"{url}: {_detail(error.body)}") from None

    def close(self) -> None:
        """Close its connections."""
        self._wrapper.httpx_client.httpx_client.close()

    def _once(
        self, method: str, path: str, params: Mapping[str, Any] | None, content: bytes | None
    ) -> Any:
        """One request; the access token is renewed once where it was refused."""
        import httpx
        from label_studio_sdk.core.api_error import ApiError

        headers = None if content is None else {"content-type": "application/json"}
        for attempt in (1, 2):
            self.n_requests += 1
            try:
                reply = self._wrapper.httpx_client.request(
                    path,
                    method=method,
                    params=dict(params or {}),
                    content=content,
                    headers=headers,
                    request_options={"max_retries": 0},
                )
            except httpx.ConnectError as error:
                raise Unavailable(f"Label Studio cannot be reached: {error}") from None
            except (httpx.HTTPError, OSError) as error:
                raise Ambiguous(
                    f"{method} {path}: no answer: {type(error).__name__} {error}"
                ) from None
            # The answer to an exchange of tokens is no JSON, as while Label Studio restarts behind
            # a proxy.
            except ValueError as error:
                raise Unavailable(
                    f"{method} {path}: the access token could not be renewed: {str(error)[:100]}"
                ) from None
            except ApiError as error:  # the exchange of a personal access token
                self._judge(
                    error.status_code or 500,
                    error.headers or {},
                    _detail(error.body),
                    f"{method} {path}",
                )
                raise Unavailable(
                    f"the access token could not be renewed: {_detail(error.body)}"
                ) from None
            tokens = self._wrapper._tokens_client
            if reply.status_code == 401 and attempt == 1 and not tokens._use_legacy_token:
                tokens._access_token = (
                    None  # the SDK goes by the time in the token; Label Studio has the last word
                )
                continue
            if 300 <= reply.status_code < 400:
                where = str(reply.headers.get("location", ""))
                raise ConfigError(
                    f"Label Studio redirects {method} {path} to {where[:200]}; give the address"
                    " that this leads to as --url"
                )
            self._judge(reply.status_code, reply.headers, reply.text[:300], f"{method} {path}")
            return reply
        raise AuthError("not reached")

    def _judge(self, status: int, headers: Mapping[str, str], text: str, what: str) -> None:
        """Raise what a status means."""
        if status < 400:
            return
        if status in (401, 403):
            raise AuthError(
                f"Label Studio answered {status} to {what}: {text}; check the token and that its"
                " user may see the project"
            )
        if status == 429:
            raise _Slower(
                f"Label Studio asks to slow down ({what})", _seconds(headers.get("retry-after"))
            )
        if status >= 500 or status in (408, 425):
            raise Ambiguous(f"Label Studio answered {status} to {what}")
        raise InputError(f"Label Studio answered {status} to {what}: {text}")

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Try until there is an answer, for calls that may be repeated."""
        waited = 0.0
        wait = _FIRST_WAIT_S
        while True:
            try:
                return call()
            except Unavailable as error:
                pause = max(wait, getattr(error, "after_s", 0.0)) * random.uniform(0.8, 1.2)  # noqa: S311
                if waited + pause > self._patience_s or self._stop.is_set():
                    raise
                logger.info("%s; trying again in %.1f s", error, pause)
                self._sleep(pause)
                waited = waited + pause
                wait = min(2 * wait, _MOST_WAIT_S)

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        reply = self._patiently(lambda: self._once("GET", path, params, None))
        try:
            return reply.json()
        except ValueError:
            raise InputError(
                f"{path}: answered with something other than JSON; is this Label Studio?"
            ) from None

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
                [_number("id", "greater", last), *filters],
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
                [_number("id", "in_list", part), with_version(model_version)],
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


class _Slower(Unavailable):
    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


def _seconds(text: str | None) -> float:
    try:
        return min(max(0.0, float(text or 0)), _MOST_WAIT_S)
    except ValueError:
        return 0.0


def _detail(body: Any) -> str:
    return str(body.get("detail") if isinstance(body, dict) else body)[:300]


def _number(column: str, operator: str, value: Any) -> dict[str, Any]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": "Number",
        "value": value,
    }


def with_version(model_version: str) -> dict[str, Any]:
    """A filter for tasks that have a prediction of this version."""
    return {
        "filter": _MODEL_VERSIONS,
        "operator": "contains",
        "type": "List",
        "value": [model_version],
    }


def without_version(model_version: str) -> dict[str, Any]:
    """A filter for tasks that have none."""
    return {
        "filter": _MODEL_VERSIONS,
        "operator": "not_contains",
        "type": "List",
        "value": [model_version],
    }


def among(ids: Sequence[int]) -> dict[str, Any]:
    """A filter for tasks by their numbers."""
    return _number("id", "in_list", list(ids))


def unlabelled() -> dict[str, Any]:
    """A filter for tasks that nobody annotated."""
    return _number("total_annotations", "equal", 0)
