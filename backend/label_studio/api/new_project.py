"""A new project with everything an annotator needs: labeling config, pictures, instructions, tabs
and, if there is one, the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import InputError, LabelingError
from backend.label_studio.api.client import Client
from backend.label_studio.api.instructions import write_instructions
from backend.label_studio.api.presentation import make_hardest_first

_MOST_FILES = 50  # of one request
_MOST_BYTES = 32 << 20
_LOCAL_FILTER = r".*\.(jpe?g|jfif|png|webp|bmp|tiff?|gif|avif|JPE?G|PNG)$"


@dataclass(frozen=True, kw_only=True)
class NewProject:
    """What to make.

    Attributes:
        title: shown in the list of projects.
        label_config: XML.
        pictures: files to upload.
        storage: a folder as Label Studio's machine has it, served by it; None for none.
        backend_url: of our server, as Label Studio reaches it; None for none.
        backend_auth: user and password of it.
    """

    title: str
    label_config: str
    pictures: Sequence[Path] = ()
    storage: str | None = None
    backend_url: str | None = None
    backend_auth: tuple[str, str] | None = None


@dataclass(frozen=True)
class MadeProject:
    """What was made.

    Attributes:
        id: of the project.
        n_tasks: in it.
        tab: with the hardest tasks first.
        failed: what could not be uploaded or connected, and why.
    """

    id: int
    n_tasks: int
    tab: int
    failed: tuple[str, ...]


def create_project(
    client: Client, wanted: NewProject, on_uploaded: Callable[[int], object] = lambda n: None
) -> MadeProject:
    """Make a project.

    A picture that Label Studio refuses costs itself.

    Args:
        client: of Label Studio.
        wanted: what to make.
        on_uploaded: called with the number of pictures of each request.

    Raises:
        InputError: Label Studio refuses the project or its storage.
        AuthError: it refuses the token.
    """
    body: dict[str, Any] = {"title": wanted.title, "label_config": wanted.label_config}
    project = int(client.call("POST", "api/projects/", body=body)["id"])
    failed = list(_upload(client, project, wanted.pictures, on_uploaded))
    if wanted.storage is not None:
        _add_storage(client, project, wanted.storage)
    if wanted.backend_url is not None:
        failed += _connect(client, project, wanted)
    write_instructions(client, project)
    tab = make_hardest_first(client, project)
    return MadeProject(project, client.count(project), tab, tuple(failed))


def _batches(pictures: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    held = 0
    for path in pictures:
        size = path.stat().st_size
        if batch and (len(batch) >= _MOST_FILES or held + size > _MOST_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(path)
        held += size
    if batch:
        yield batch


def _upload(
    client: Client, project: int, pictures: Sequence[Path], on_uploaded: Callable[[int], object]
) -> Iterator[str]:
    """Upload in requests of some pictures; gives what was refused."""
    path = f"api/projects/{project}/import"
    for batch in _batches(pictures):
        files = {f"file{k}": (one.name, one.read_bytes()) for k, one in enumerate(batch)}
        try:
            client.upload(path, files)
        except InputError as error:
            if len(batch) == 1:
                yield f"{batch[0]}: {error}"
            for one in batch if len(batch) > 1 else []:  # a request is taken whole or not at all
                yield from _upload(client, project, [one], lambda n: None)
        on_uploaded(len(batch))


def _add_storage(client: Client, project: int, folder: str) -> None:
    body = {
        "project": project,
        "title": "pictures",
        "path": folder,
        "regex_filter": _LOCAL_FILTER,
        "use_blob_urls": True,
        "recursive_scan": True,
    }
    made = client.call("POST", "api/storages/localfiles", body=body)
    client.call("POST", f"api/storages/localfiles/{made['id']}/sync")


def _connect(client: Client, project: int, wanted: NewProject) -> list[str]:
    body: dict[str, Any] = {
        "project": project,
        "url": wanted.backend_url,
        "title": "YOLO-SAM2",
        "is_interactive": True,
    }
    if wanted.backend_auth is not None:
        user, password = wanted.backend_auth
        body |= {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": user,
            "basic_auth_pass": password,
        }
    try:
        client.call("POST", "api/ml", body=body)
    except LabelingError as error:
        return [f"{wanted.backend_url}: not connected: {error}"]
    return []
