"""Large JSON files, such as exports, as a stream of their items; they are never loaded whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from backend.errors import InputError

_PIECE = 4096  # bytes that are parsed at once, and so the most levels that can open unseen
_MOST_LEVELS = 500
_MOST_OF_ONE = 64 << 20  # bytes of a file that holds one task
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.S)


def read_tasks(stream: BinaryIO, path: Path) -> Iterator[Any]:
    """The items of the list in an export, one after the other.

    Args:
        stream: of the file, at its start; can seek.
        path: for messages.

    Raises:
        InputError: not JSON, not a list, or cut off; the items before that have been given by then.
    """
    first, at = _start_of(stream, path)
    if first == b"{" and (task := _one_task(stream, path, at)) is not None:
        yield task
        return
    if first != b"[":
        stream.seek(at)
        raise InputError(f"{path}: {_foreign(stream.read(400))}")
    yield from _items(stream, path, at, "item", "tasks")


def _one_task(stream: BinaryIO, path: Path, at: int) -> dict[str, Any] | None:
    """The task of a file that holds a single one; None for another object.

    Label Studio's target storages write a file for each annotation, with its task inside.
    """
    stream.seek(at)
    data = stream.read(_MOST_OF_ONE + 1)
    if len(data) > _MOST_OF_ONE:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and isinstance(found.get("task"), dict) and "result" in found:
        annotation = {key: value for key, value in found.items() if key != "task"}
        found = {**found["task"], "annotations": [annotation]}
    is_task = isinstance(found, dict) and isinstance(found.get("data"), dict)
    return found if is_task and {"annotations", "predictions", "completions"} & set(found) else None


def read_list(stream: BinaryIO, path: Path, name: str) -> Iterator[Any]:
    """The items of one list of a file that holds an object, one after the other.

    None where the object has no such list.

    Args:
        stream: of the file, at its start; can seek.
        path: for messages.
        name: of the list.

    Raises:
        InputError: not JSON, no object, or cut off; the items before that have been given by then.
    """
    first, at = _start_of(stream, path)
    if first != b"{":
        raise InputError(f"{path}: expected an object")
    yield from _items(stream, path, at, f"{name}.item", name)


def _start_of(stream: BinaryIO, path: Path) -> tuple[bytes, int]:
    start = stream.read(1)
    at = 0
    while (
        start and start in b" \t\r\n\xef\xbb\xbf"
    ):  # blanks, and the mark some editors put before everything
        start = stream.read(1)
        at = at + 1
    if not start:
        raise InputError(f"{path}: is empty")
    return start, at


def _items(stream: BinaryIO, path: Path, at: int, prefix: str, called: str) -> Iterator[Any]:
    import ijson

    n_items = 0
    for backend in (
        ijson,
        ijson.get_backend("python"),
    ):  # the second is slow, and knows numbers of any size
        stream.seek(at)
        try:
            for number, item in enumerate(
                backend.items(_Shallow(stream, path), prefix, use_float=True, buf_size=_PIECE)
            ):
                if number >= n_items:
                    yield item
                    n_items += 1
            return
        except UnicodeDecodeError:
            raise InputError(f"{path}: is not in UTF-8, after {n_items} {called}") from None
        except ijson.JSONError as error:
            told = error.args[0] if error.args else ""
            told = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
            reason = (told.splitlines() or ["incomplete"])[0].strip()[:100]
            if backend is not ijson or "overflow" not in reason:
                raise InputError(
                    f"{path}: is cut off or not JSON after {n_items} {called} ({reason})"
                ) from None


class _Shallow:
    """A stream that is refused where brackets nest deeper than any export does.

    Parsers take memory and stack for every level.

    Brackets within strings do not nest; a string may go on in the next piece.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._depth = 0
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        bare = _STRING.sub(b"", self._left + piece)
        start = bare.find(b'"')  # of a string that has not ended
        inside = bare[start:] if start >= 0 else b""
        # Of what is inside, only whether a backslash is open matters for where it ends.
        self._left = (
            b'"' + (b"\\" if len(inside) - len(inside.rstrip(b"\\")) & 1 else b"")
            if start >= 0
            else b""
        )
        bare = bare[:start] if start >= 0 else bare
        self._depth += bare.count(b"[") + bare.count(b"{") - bare.count(b"]") - bare.count(b"}")
        if self._depth > _MOST_LEVELS:
            raise InputError(
                f"{self._path}: is nested deeper than {_MOST_LEVELS} levels; this is no export"
            )
        return piece


def _foreign(head: bytes) -> str:
    """What a file that is no list of tasks seems to be, and what to do."""
    if head.startswith(b"PK"):
        return "is a zip archive; unpack it and name the JSON file in it, or export as JSON"
    text = " ".join(head.decode("utf-8", "replace").split())
    if text.startswith("{"):
        return (
            f"holds one object instead of a list of tasks: {text[:150]}; export as JSON, not COCO"
            " or another format"
        )
    if text.lower().startswith(("<!doctype", "<html")):
        return (
            "is a web page, perhaps a login page; download the export again with a token that works"
        )
    return (
        "expected a list of tasks, as Label Studio exports it as JSON; it begins with"
        f" {text[:40]!r}"
    )


def first_byte(path: Path) -> bytes:
    """The first byte of a file that is no blank.

    Empty where there is none, or it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    except OSError:
        return b""
