"""What Label Studio keeps that exports leave out: predictions of a task, pictures, the label
config.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from backend.errors import InputError, LabelingError, json_kind
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.retry import Waits, patiently

_WAITS = Waits(first_s=0.5, tries=4)
_IMAGE_S = 30.0


class StoredProject:
    """Reads from a project; nothing is ever changed.

    Args:
        fetcher: knows address and token.
        project: its number.
        sleep: waits between tries.
    """

    def __init__(
        self, fetcher: Fetcher, project: int, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._fetcher = fetcher
        self._project = project
        self._sleep = sleep

    def _json(self, path: str) -> Any:
        return patiently(lambda: self._fetcher.http.get_json(path), _WAITS, self._sleep)

    def predictions(self, task: int) -> Sequence[Any]:
        """All predictions of a task, in full.

        Raises:
            AuthError: refused.
            Unavailable: no answer after several tries.
            InputError: no such task, or an answer that is not a list.
        """
        found = self._json(f"/api/predictions?project={self._project}&task={task}")
        if not isinstance(found, list):
            raise InputError(
                f"task {task}: predictions: expected a list from Label Studio, got"
                f" {json_kind(found)}"
            )
        return found

    def people(self) -> dict[int, str]:
        """The e-mail addresses of users by their numbers; of none where Label Studio won't say."""
        try:
            found = self._fetcher.http.get_json("/api/users/")
        except LabelingError:
            return {}
        return {
            one["id"]: str(one["email"])
            for one in (found if isinstance(found, list) else [])
            if isinstance(one, dict) and isinstance(one.get("id"), int) and one.get("email")
        }

    def image(self, uri: str, task: int | None) -> bytes:
        """The bytes of a task's picture; see ``Fetcher.fetch``."""
        return self._fetcher.fetch(uri, task, time.monotonic() + _IMAGE_S)
