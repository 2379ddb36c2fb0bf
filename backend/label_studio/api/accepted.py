"""What was accepted in a project, as a folder: an export, and the pictures of its tasks.

The export says where in the folder each picture lies, so that every reader of exports finds it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backend.config.service import ServiceSettings, studio_of
from backend.errors import InputError, disk_error
from backend.files.addresses import looks_like_address, name_in
from backend.files.atomic import write_atomic
from backend.files.images import SUFFIXES
from backend.files.names import safe_name
from backend.files.picture_data import header_of
from backend.formats.json_stream import read_tasks
from backend.formats.label_studio.label_config import parse_label_config
from backend.formats.label_studio.people import person
from backend.label_studio.api.client import Client
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.retry import Waits, patiently
from backend.label_studio.api.snapshot import write_snapshot
from backend.label_studio.api.stored import StoredProject

logger = logging.getLogger(__name__)
EXPORT = "export.json"
IMAGES = "images"
_KNOWN = "fetched.json"  # which address each picture came from
_PICTURE_S = 120.0
_WAITS = Waits(first_s=0.5, tries=4)
_LOCAL = "/data/local-files/?d="


@dataclass(frozen=True)
class FetchedProject:
    """What was fetched.

    Attributes:
        export: the file.
        n_tasks: in it.
        faults: a sentence for each task whose picture could not be fetched.
    """

    export: Path
    n_tasks: int
    faults: tuple[str, ...]


def fetch_accepted(
    service: ServiceSettings,
    project: int,
    folder: Path,
    *,
    stop: threading.Event,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> FetchedProject:
    """Fetch the annotated tasks of a project and their pictures. What an earlier call fetched is
    not fetched again; what was annotated since then is added.

    Args:
        service: address and token of Label Studio.
        project: its number.
        folder: takes the export and the pictures; made if need be.
        stop: ends after the pictures in hand.
        tell: hears how many of how many tasks are done.

    Raises:
        ConfigError: no address of Label Studio is known.
        InputError: no such project.
        AuthError: refused.
        Unavailable: no answer, or the disk refuses.
    """
    url = studio_of(service)
    fetcher = Fetcher(service)
    stored = StoredProject(fetcher, project)
    folder.mkdir(parents=True, exist_ok=True)
    snapshot = folder / ".snapshot.json"
    try:
        with (
            closing(Client(url, service.label_studio_api_key, stop=stop)) as client,
            snapshot.open("wb") as target,
        ):
            fields = _picture_fields(client.project(project).label_config, project)
            write_snapshot(client, project, target, predictions=False)
        with snapshot.open("rb") as stream:
            tasks = [task for task in read_tasks(stream, snapshot) if isinstance(task, dict)]
    except OSError as error:
        raise disk_error(error, folder) from error
    finally:
        snapshot.unlink(missing_ok=True)
    pictures = _Pictures(folder, fetcher)
    people = stored.people()
    kept: list[Mapping[str, Any]] = []
    faults: list[str] = []
    with ThreadPoolExecutor(service.fetch_workers) as pool:
        made = pool.map(partial(_with_pictures, pictures, fields, stop), tasks)
        for number, (task, found) in enumerate(zip(tasks, made, strict=True)):
            if isinstance(found, str):
                faults.append(f"task {task.get('id')}: {found}")
            elif found is not None:
                kept.append(_with_people(found, people))
            tell(number + 1, len(tasks))
    pictures.save()
    export = folder / EXPORT
    write_atomic(export, json.dumps(kept, ensure_ascii=False).encode())
    return FetchedProject(export, len(kept), tuple(faults))


def _picture_fields(label_config: str, project: int) -> frozenset[str]:
    """The fields of a task's data that hold pictures which are annotated."""
    keys = {tag.data_key for tag in parse_label_config(label_config).tags}
    if not keys:
        raise InputError(f"project {project}: its labeling config has no tag that marks pictures")
    return frozenset(keys | {key.partition(".")[0] for key in keys})


def _with_pictures(
    pictures: _Pictures,
    fields: frozenset[str],
    stop: threading.Event,
    task: Mapping[str, Any],
) -> Mapping[str, Any] | str | None:
    """A task whose addresses lead into the folder; a sentence where a picture cannot be had."""
    data = task.get("data")
    if stop.is_set() or not isinstance(data, dict):
        return None
    try:
        return {
            **task,
            "data": {
                key: _moved(value, pictures, task.get("id")) if key in fields else value
                for key, value in data.items()
            },
        }
    except InputError as error:  # of this picture; an outage or a refusal is that of all
        return str(error)


def _moved(value: Any, pictures: _Pictures, task: int | None) -> Any:
    """A value of a task's data with all addresses of pictures replaced."""
    if isinstance(value, list):
        return [_moved(one, pictures, task) for one in value]
    if isinstance(value, dict):
        return {key: _moved(one, pictures, task) for key, one in value.items()}
    if not isinstance(value, str) or value.startswith("data:") or not looks_like_address(value):
        return value
    return f"{_LOCAL}{quote(f'{IMAGES}/{pictures.get(value, task)}')}"


def _with_people(task: Mapping[str, Any], people: Mapping[int, str]) -> Mapping[str, Any]:
    """A task whose annotations name their annotators, where only numbers were told."""
    found = task.get("annotations")
    annotations = [
        {**one, "completed_by": {"id": one["completed_by"], "email": person(one, people)}}
        if isinstance(one, dict) and isinstance(one.get("completed_by"), int)
        else one
        for one in (found if isinstance(found, list) else [])
    ]
    return {**task, "annotations": annotations}


class _Pictures:
    """The pictures in a folder, by the addresses they came from."""

    def __init__(self, folder: Path, fetcher: Fetcher) -> None:
        self._folder = folder
        self._fetcher = fetcher
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        try:
            found = json.loads((folder / _KNOWN).read_text(encoding="utf-8"))
            self._names = {str(address): str(name) for address, name in found.items()}
        except (OSError, ValueError, AttributeError):
            pass  # nothing was fetched yet, or it is fetched again
        # Some file systems take names for the same that differ in case alone.
        self._taken = {name.casefold() for name in self._names.values()}

    def get(self, address: str, task: int | None) -> str:
        """The name of a picture below the folder of pictures, fetched if need be."""
        known = self._names.get(address)
        if known is not None and (self._folder / IMAGES / known).is_file():
            return known
        data = patiently(
            lambda: self._fetcher.fetch(address, task, time.monotonic() + _PICTURE_S),
            _WAITS,
            time.sleep,
        )
        with self._lock:
            name = self._names.get(address) or self._free_name(address, data)
            self._names[address] = name
            self._taken.add(name.casefold())
        write_atomic(self._folder / IMAGES / name, data)
        return name

    def _free_name(self, address: str, data: bytes) -> str:
        """What a picture is to be called; pictures of one name get folders of their own."""
        digest = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        try:
            name = str(safe_name(name_in(address), "a task"))
        except InputError:
            name = digest
        if Path(name).suffix.lower() not in SUFFIXES:
            name += f".{header_of(data, 'a task').format.lower()}"
        return f"{digest}/{name}" if name.casefold() in self._taken else name

    def save(self) -> None:
        """Remember where all of them came from."""
        write_atomic(self._folder / _KNOWN, json.dumps(self._names, ensure_ascii=False).encode())
