"""Request bodies checked field by field.

What is not needed, such as logins and old predictions, is dropped on receipt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from backend.errors import InputError
from backend.formats.label_studio.context import context_of
from backend.label_studio.api.tasks import Task


@dataclass(frozen=True)
class PredictRequest:
    """What /predict is asked."""

    tasks: tuple[Task, ...]
    project: str
    label_config: str | None
    context: Mapping[str, Any] | None


@dataclass(frozen=True)
class SetupRequest:
    """What /setup is told.

    The host name and token that come with it are not kept: anyone who reaches the port can send
    them.
    """

    project: str
    label_config: str


class _TaskFields(msgspec.Struct):
    """What is read of a task; its old annotations and predictions are not even parsed."""

    id: Any = None
    data: Any = None


_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TASKS = msgspec.json.Decoder(list[_TaskFields])
_SMALL = 8 << 20  # bytes that may be parsed without knowing what is in them


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object: its fields, of its tasks only what is needed.

    Label Studio embeds all old predictions of every task, which nobody here reads; a hundred
    megabytes of them are skipped in a tenth of a second, and no memory is taken for them.

    Raises:
        InputError: anything else.
    """
    try:
        fields = _TOP.decode(body)
    except msgspec.ValidationError as error:
        raise InputError(f"body: expected an object: {error}") from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _loosely(body)
    return {
        name: _tasks(raw) if name == "tasks" else _value(raw, name) for name, raw in fields.items()
    }


def _tasks(raw: msgspec.Raw) -> Any:
    try:
        return [{"id": one.id, "data": one.data} for one in _TASKS.decode(raw)]
    except msgspec.ValidationError as error:
        if len(memoryview(raw)) > _SMALL:
            raise InputError(f"tasks: {error}") from None
        return _value(raw, "tasks")
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _value(raw, "tasks")


def _value(raw: msgspec.Raw, name: str) -> Any:
    text = bytes(raw)
    if len(text) > _SMALL:
        raise InputError(f"{name}: {len(text) >> 20} MiB, the limit is {_SMALL >> 20}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{name}: expected JSON") from None


def _loosely(body: bytes) -> dict[str, Any]:
    """What other programs take for JSON, such as NaN and half a character; small bodies only."""
    try:
        content = json.loads(body) if len(body) <= _SMALL else None
    except (ValueError, RecursionError):
        content = None
    if content is None:
        raise InputError("body: expected JSON")
    if not isinstance(content, dict):
        raise InputError(f"body: expected an object, got {type(content).__name__}")
    return content


def _project(content: Mapping[str, Any]) -> str:
    project = content.get("project")
    if project is None:
        return ""
    if isinstance(project, bool) or not isinstance(project, str | int | float):
        raise InputError(f"project: expected text, got {type(project).__name__}")
    return str(project).split(".")[0][:64]


def _config(content: Mapping[str, Any], field: str) -> str | None:
    text = content.get(field)
    if text is not None and not isinstance(text, str):
        raise InputError(
            f"{field}: expected the labeling config as text, got {type(text).__name__}"
        )
    return text or None


def read_setup(content: Mapping[str, Any]) -> SetupRequest:
    """The body of /setup.

    Raises:
        InputError: naming the field.
    """
    config = _config(content, "schema") or _config(content, "label_config")
    if config is None:
        raise InputError("schema: expected the labeling config")
    return SetupRequest(_project(content), config)


def _task(value: Any, where: str) -> Task:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, got {type(value).__name__}")
    task_id = value.get("id")
    data = value.get("data")
    if isinstance(task_id, str) and task_id.isascii() and task_id.isdigit() and len(task_id) < 19:
        task_id = int(task_id)
    if task_id is not None and (
        isinstance(task_id, bool) or not isinstance(task_id, int) or not 0 <= task_id < 1 << 63
    ):
        raise InputError(f"{where}.id: expected a number, got {type(task_id).__name__}")
    if not isinstance(data, dict):
        raise InputError(f"{where}.data: expected an object, got {type(data).__name__}")
    return Task(task_id, data)


def read_predict(content: Mapping[str, Any]) -> PredictRequest:
    """The body of /predict.

    Raises:
        InputError: naming the field.
    """
    tasks = content.get("tasks")
    params = content.get("params")
    if not isinstance(tasks, list):
        raise InputError(f"tasks: expected a list, got {type(tasks).__name__}")
    if params is not None and not isinstance(params, dict):
        raise InputError(f"params: expected an object, got {type(params).__name__}")
    context = context_of(params or {})
    if context is not None and len(tasks) != 1:
        raise InputError(
            f"tasks: with params.context exactly one task is expected, got {len(tasks)}"
        )
    return PredictRequest(
        tuple(_task(task, f"tasks[{k}]") for k, task in enumerate(tasks)),
        _project(content),
        _config(content, "label_config"),
        context,
    )
