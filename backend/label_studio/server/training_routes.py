"""What Label Studio says of trainings, and what people ask of them, over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response

from backend.errors import InputError, json_kind
from backend.label_studio.server.requests import read_json
from backend.label_studio.server.service import Service
from backend.label_studio.server.trainer import Trainer

logger = logging.getLogger(__name__)
START_TRAINING = "START_TRAINING"
_ANNOTATED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
_ACTIONS = ("start", "cancel")
_OFF = "start the backend with --training DIR to train from Label Studio"


def add_training(
    app: Flask,
    service: Service,
    body: Callable[[], bytes],
    reply: Callable[[object, int], Response],
) -> None:
    """Add the routes.

    Args:
        app: takes them.
        service: whose trainer it is.
        body: the body of the request in hand.
        reply: JSON and a status to an answer.
    """

    @app.post("/webhook")
    def webhook() -> Response:
        # Label Studio waits for the answer inside the annotator's own request.
        data = body()
        if service.trainer is None and START_TRAINING.encode() not in data[:200]:
            return reply({}, 201)
        return reply(take_event(service, read_json(data)), 201)

    @app.get("/training")
    def training() -> Response:
        found = {"folder": None, "jobs": []} if service.trainer is None else service.trainer.state()
        return reply(found, 200)

    @app.post("/training")
    def change_training() -> Response:
        asked = read_json(body())
        action = asked.get("action")
        if action not in _ACTIONS:
            raise InputError(f"action: expected one of {', '.join(_ACTIONS)}")
        trainer = _trainer(service)
        do = trainer.ask if action == "start" else trainer.cancel
        return reply({"job": do(_project(asked)).as_dict()}, 200)


def take_event(service: Service, event: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from an event of Label Studio.

    Args:
        service: whose trainer it is.
        event: its ``action`` and ``project``.

    Returns:
        The training, where one was asked for.

    Raises:
        InputError: a training was asked for and the backend was started without, or there is no
            telling of which project.
        Unavailable: the disk refuses.
    """
    action = event.get("action")
    if action == START_TRAINING:
        return {"job": _trainer(service).ask(_project(event)).as_dict()}
    if service.trainer is not None and action in _ANNOTATED:
        project = _project(event)
        if service.knows(project):
            service.trainer.annotated(project)
    return {}


def _trainer(service: Service) -> Trainer:
    """The trainer.

    Raises:
        InputError: the backend was started without.
    """
    if service.trainer is None:
        logger.warning("a training was asked for: %s", _OFF)
        raise InputError(_OFF)
    return service.trainer


def _project(content: Mapping[str, Any]) -> str:
    """The number of the project that a request is about."""
    project = content.get("project")
    if isinstance(project, dict):
        project = project.get("id")
    if isinstance(project, bool) or not isinstance(project, int | str):
        raise InputError(f"project: expected its number, got {json_kind(project)}")
    return str(project)
