"""Checks of Label Studio as the backend meets it: address, token, its own settings, the project,
one real image.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backend.config.service import NO_STUDIO, ServiceSettings
from backend.doctor.checks import FAULT, NOTE, OK, REFUSED, Check
from backend.doctor.project import check_project
from backend.doctor.videos import check_video
from backend.errors import AuthError, LabelingError
from backend.files.images import decode_image
from backend.formats.label_studio.label_config import parse_label_config
from backend.formats.label_studio.pages import Pages
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task

# Nobody listens there, so nothing can come of asking Label Studio to connect it.
_PRIVATE = "http://127.0.0.1:1/"
_PLACES = 10
_BLOCKED = "reserved network address"
_TOKEN_HELP = (
    "make one in Label Studio under Account & Settings, "  # noqa: S105 - words for people
    "Personal Access Token, "
    "and set it as LABEL_STUDIO_API_KEY"
)


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def check_address(settings: ServiceSettings, fetcher: Fetcher) -> Iterator[Check]:
    """Whether Label Studio answers at all."""
    url = str(settings.label_studio_url)
    try:
        release = json.loads(fetcher.http.send("GET", "/api/version").body).get("release", "?")
        yield Check(OK, "label studio", f"{url} answers, version {release}")
    except (
        AuthError
    ) as error:  # a personal access token is exchanged before anything else can be asked
        yield Check(REFUSED, "token", str(error), _TOKEN_HELP)
    except (LabelingError, ValueError, AttributeError) as error:
        fix = "is Label Studio running, and is this its address?"
        if _in_container() and any(name in url for name in ("localhost", "127.0.0.1")):
            fix += (
                "\ninside a container, localhost is the container itself: use the service's name"
                " (http://label-studio:8080) or http://host.docker.internal:8080"
            )
        found = (
            str(error)
            if isinstance(error, LabelingError)
            else f"{url}: answers, but not as Label Studio does"
        )
        yield Check(FAULT, "label studio", found, fix)


def check_token(fetcher: Fetcher) -> Iterator[Check]:
    """Whose token it is, and of which kind."""
    kind = fetcher.http.tokens.kind
    if kind == "none":
        yield Check(
            FAULT,
            "token",
            "LABEL_STUDIO_API_KEY is not set, so images cannot be fetched",
            _TOKEN_HELP,
        )
        return
    try:
        reply = fetcher.http.send("GET", "/api/current-user/whoami")
    except AuthError as error:
        yield Check(REFUSED, "token", str(error), _TOKEN_HELP)
        return
    if reply.status == 200:
        yield Check(
            OK,
            "token",
            f"{kind} access token of {json.loads(reply.body).get('email', 'an unnamed user')}",
        )
    elif b"legacy token authentication has been disabled" in reply.body:
        fix = "switch legacy tokens on under Organization, API Tokens Settings, or " + _TOKEN_HELP
        yield Check(
            REFUSED,
            "token",
            "a legacy token, and this Label Studio has legacy tokens switched off",
            fix,
        )
    else:
        yield Check(
            REFUSED, "token", f"Label Studio answered {reply.status} to a {kind} token", _TOKEN_HELP
        )


def check_label_studio_settings(fetcher: Fetcher, backend_url: str | None) -> Iterator[Check]:
    """Whether Label Studio may talk to a private address; asked in a way that saves nothing."""
    url = backend_url or _PRIVATE
    # Without a project neither request can get as far as saving, whatever the settings are.
    probes = {
        "ML_BLOCK_LOCAL_IP": ("/api/ml", {"url": url}),
        "SSRF_PROTECTION_ENABLED": ("/api/webhooks/", {"url": url, "project": 999_999_999}),
    }
    for name, (path, body) in probes.items():
        reply = fetcher.http.send("POST", path, body)
        blocked = reply.status == 403 and _BLOCKED in reply.body.decode("utf-8", "replace")
        if blocked:
            fix = (
                "start Label Studio with ML_BLOCK_LOCAL_IP=false SSRF_PROTECTION_ENABLED=false"
                " (both), or give the backend a public address"
            )
            yield Check(
                FAULT,
                "ls settings",
                f"{name} is on: Label Studio refuses backends on private addresses such as {url}",
                fix,
            )
        else:
            yield Check(OK, "ls settings", f"{name} does not stand in the way")


def check_connection(fetcher: Fetcher, project: int) -> Iterator[Check]:
    """Which backends are connected, and how Label Studio sees them."""
    connections = fetcher.http.get_json(f"/api/ml?project={project}")
    if not connections:
        yield Check(
            NOTE,
            "connection",
            "no backend is connected to this project",
            "Settings, Model, Connect Model: the URL of `yolosam2 serve`",
        )
    for one in connections:
        where = one.get("url")
        state = one.get("state")
        if state == "CO":
            yield Check(
                OK,
                "connection",
                f"{where} is connected"
                + ("" if one.get("is_interactive") else ", without interactive preannotations"),
            )
            if not one.get("is_interactive"):
                yield Check(
                    NOTE,
                    "connection",
                    "clicks are off",
                    "Settings, Model, Edit: switch on 'Interactive preannotations'",
                )
        elif state == "DI":
            fix = (
                "if Label Studio's settings above are at fault, correct those first; else start"
                " it\n"
            )
            fix += (
                "if it runs: Label Studio's machine or container sees it at another address (not"
                " localhost across containers)"
            )
            yield Check(FAULT, "connection", f"Label Studio cannot reach {where}", fix)
        else:
            yield Check(
                FAULT,
                "connection",
                f"{where}: {one.get('error_message') or state}",
                "correct what it says, then open the page again",
            )


def check_image(fetcher: Fetcher, project: int) -> Iterator[Check]:
    """Fetch and decode an image the way the backend does, one for every place that the first
    hundred tasks' images come from.
    """
    content = fetcher.http.get_json(f"/api/tasks?project={project}&page_size=100&fields=task_only")
    tasks: list[dict[str, Any]] = content.get("tasks", []) if isinstance(content, dict) else []
    if not tasks:
        yield Check(NOTE, "image", "the project has no tasks")
        return
    config = parse_label_config(
        str(fetcher.http.get_json(f"/api/projects/{project}/").get("label_config") or "")
    )
    if config.videos and not config.tags:
        first = Task(int(tasks[0]["id"]), tasks[0]["data"])
        yield check_video(fetcher, first, config.videos[0], _TOKEN_HELP)
        return
    key, pages = next(((tag.data_key, tag.pages) for tag in config.tags), ("image", None))
    seen: set[str] = set()
    for one in tasks:  # one picture of every place they come from
        task = Task(int(one["id"]), one["data"])
        place = str(one["data"].get(key)).partition("?")[0].rpartition("/")[0].split("/")[:3]
        if str(place) not in seen and len(seen) < _PLACES:
            seen.add(str(place))
            yield _check_one(fetcher, task, key, pages)


def _check_one(fetcher: Fetcher, task: Task, key: str, pages: Pages | None) -> Check:
    try:
        uri = task.images(key, pages)[0]
        pixels = decode_image(fetcher.fetch(uri, task.id, time.monotonic() + 30), shown(uri))
        return Check(
            OK,
            "image",
            f"task {task.id}: {shown(uri)} is {pixels.shape[1]}x{pixels.shape[0]} pixels",
        )
    except AuthError as error:
        return Check(REFUSED, "image", f"task {task.id}: {error}", _TOKEN_HELP)
    except LabelingError as error:
        return Check(FAULT, "image", f"task {task.id}: {error}", _image_fix(str(error)))


def _image_fix(sentence: str) -> str:
    if "ALLOWED_HOSTS" in sentence:
        return "if these images are meant to be used, do as it says; doctor reads ALLOWED_HOSTS too"
    if "is not where Label Studio keeps images" in sentence:
        return "the address in the task is not one of Label Studio's image paths; import it again"
    if "local-files" in sentence:
        return (
            "start Label Studio with LOCAL_FILES_SERVING_ENABLED=true and"
            " LOCAL_FILES_DOCUMENT_ROOT, and add the folder as a Local Files storage"
        )
    return (
        "open the address in a browser that is logged in; if it fails there too, correct the task"
        " or its storage"
    )


def check_label_studio(
    settings: ServiceSettings,
    project: int | None,
    names: Mapping[str | None, Mapping[int, str]],
    threshold: float,
    backend_url: str | None = None,
) -> Iterator[Check]:
    """Everything above, in the order in which one depends on the other.

    Args:
        settings: address and token.
        project: its id, or None to leave the project out.
        names: classes of the detector under None, where it could be loaded.
        threshold: where the label config does not say.
        backend_url: as Label Studio would call it; an address on this machine if None.
    """
    if settings.label_studio_url is None:
        yield Check(
            NOTE,
            "label studio",
            "not checked",
            NO_STUDIO,
        )
        return
    fetcher = Fetcher(settings)
    steps = [
        ("address", check_address(settings, fetcher)),
        ("token", check_token(fetcher)),
        ("ls settings", check_label_studio_settings(fetcher, backend_url)),
    ]
    if project is not None:
        steps += [
            ("project", check_project(fetcher, project, names, threshold)),
            ("connection", check_connection(fetcher, project)),
        ]
        steps += [("image", check_image(fetcher, project))]
    for about, step in steps:
        try:
            for check in step:
                yield check
                if check.status in (FAULT, REFUSED) and about in ("address", "token"):
                    return  # nothing after it could work
        except LabelingError as error:
            fix = (
                f"is {project} the project's id, and may the token's user see it?"
                if about in ("project", "connection", "image")
                else "see the message"
            )
            yield Check(REFUSED if isinstance(error, AuthError) else FAULT, about, str(error), fix)
            if about == "project":
                return  # the rest would say the same
