"""A project's annotations with full predictions, as Label Studio exports them: a snapshot is made,
downloaded and deleted again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import BinaryIO

from backend.errors import InputError, LabelingError, Unavailable
from backend.label_studio.api.client import Client

_TITLE = "made by yolosam2"
_PATIENCE_S = 900.0
_LOOK_S = 1.0


def write_snapshot(
    client: Client, project: int, target: BinaryIO, *, predictions: bool = True
) -> None:
    """Write the annotated tasks of a project as JSON.

    Args:
        client: of Label Studio.
        project: its number.
        target: of the text.
        predictions: whether they are in it; else only their numbers.

    Raises:
        InputError: no such project, or Label Studio cannot export it.
        Unavailable: it takes too long.
    """
    body = {
        "title": _TITLE,
        "task_filter_options": {"annotated": "only"},
        "serialization_options": {"predictions": {"only_id": not predictions}},
    }
    path = f"api/projects/{project}/exports/"
    made = client.call("POST", path, body=body)
    number = int(made["id"])
    try:
        _wait(client, f"{path}{number}")
        client.download(f"{path}{number}/download", {"exportType": "JSON"}, target)
    finally:
        with suppress(LabelingError):
            client.call("DELETE", f"{path}{number}")


def _wait(client: Client, path: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        status = str(client.call("GET", path).get("status"))
        if status == "completed":
            return
        if status == "failed":
            raise InputError(f"{path}: Label Studio could not make the snapshot; see its log")
        time.sleep(_LOOK_S)
    raise Unavailable(f"{path}: the snapshot is not ready after {_PATIENCE_S:.0f} s")
