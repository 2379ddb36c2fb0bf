"""The same backend for those who run ``label-studio-ml start``: a thin model class over our
service, for label-studio-ml 1.0.9 and 2.x.

``yolosam2 serve`` needs none of this and does more: readable errors, access control, a limit on
waiting requests. Settings come from the environment, as there. Put a ``model.py`` with this line
beside the ``_wsgi.py`` that label-studio-ml makes::

    from backend.label_studio.server.ml_backend import YoloSam2
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import flask
import label_studio_ml.model
from label_studio_ml.model import LabelStudioMLBase

from backend.config.models import load_settings
from backend.config.service import load_service_settings
from backend.errors import LabelingError
from backend.label_studio.server.requests import SetupRequest, read_predict
from backend.label_studio.server.serve import build_service, check_trainings
from backend.label_studio.server.service import Service
from backend.label_studio.server.training_routes import take_event

logger = logging.getLogger(__name__)
_lock = threading.Lock()
_services: list[Service] = []


def service() -> Service:
    """The one service of this process.

    Label-studio-ml makes a new model object for every request, so it cannot live in there.
    """
    with _lock:
        if not _services:
            service_settings = load_service_settings({}, os.environ)
            check_trainings(service_settings)
            made = build_service(load_settings({}, os.environ), service_settings)
            made.start()
            _services.append(made)
        return _services[0]


def _body() -> Mapping[str, Any]:
    """The body of the request in work; 1.x passes neither project nor label config on."""
    content = flask.request.get_json(silent=True) if flask.has_request_context() else None
    return content if isinstance(content, dict) else {}


def _version(project: str, label_config: str) -> str:
    return service().setup(SetupRequest(project, label_config))


class YoloSam2(LabelStudioMLBase):  # type: ignore[misc]
    """YOLO finds and names, SAM 2 outlines."""

    def setup(self) -> None:
        """Called by 2.x for every request: tell which version the predictions will carry."""
        try:
            self.set(
                "model_version", _version(str(self.project_id or ""), str(self.label_config or ""))
            )
        except LabelingError as error:
            logger.warning("set-up: %s", error)

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Predictions as plain dictionaries, which both versions pass on untouched.

        Args:
            tasks: as Label Studio sends them.
            context: what was drawn with a smart tool, or None.
            kwargs: logins and other things that are not needed.

        Returns:
            One dictionary per task; without ``result`` where it may work later.
        """
        label_config = _body().get("label_config") or self.label_config
        content = {
            "tasks": list(tasks),
            "label_config": label_config,
            "project": _body().get("project"),
            "params": {"context": context},
        }
        try:
            results = json.loads(service().predict(read_predict(content)).text)["results"]
        except LabelingError as error:
            logger.warning("predict: %s", error)
            return [{"score": 0.0, "error": str(error)} for _ in tasks]
        return list(results)

    def fit(self, event: Any, data: Any = None, **kwargs: Any) -> None:
        """Called by 2.x for events of Label Studio: *Start Training* trains, where TRAINING_DIR
        says where.

        Args:
            event: its name.
            data: its body.
            kwargs: what else is passed on, which is not needed.
        """
        _take(event, data)


def _take(event: Any, data: Any) -> None:
    """What follows from an event; label-studio-ml has no place for an answer."""
    content = {**(data if isinstance(data, dict) else {}), "action": event}
    try:
        take_event(service(), content)
    except LabelingError as error:
        logger.warning("%s: %s", event, error)


def _adapt_1x() -> None:
    """Give 1.0.9 a manager that knows several projects and the true version.

    Its own keeps one model for all projects, calls every version INITIAL, so that Label Studio asks
    for the same predictions again and again, and starts a process for every webhook.
    """
    import label_studio_ml.api as api

    class Manager(label_studio_ml.model.LabelStudioMLManager):  # type: ignore[misc]
        @classmethod
        def fetch(
            cls,
            project: str | None = None,
            label_config: str | None = None,
            force_reload: bool = False,
            **kwargs: Any,
        ) -> Any:
            version = (
                _version(str(project or "").split(".")[0], label_config) if label_config else ""
            )
            return label_studio_ml.model.ModelWrapper(
                model=cls.model_class(label_config=label_config), model_version=version
            )

        @classmethod
        def predict(
            cls,
            tasks: Any,
            project: Any = None,
            label_config: Any = None,
            force_reload: bool = False,
            try_fetch: bool = True,
            **kwargs: Any,
        ) -> Any:
            model = cls.model_class(label_config=label_config)
            results = model.predict(tasks, **kwargs)
            version = next(
                (item["model_version"] for item in results if "model_version" in item), ""
            )
            return results, label_studio_ml.model.ModelWrapper(model=model, model_version=version)

        @classmethod
        def webhook(cls, event: str, data: Any) -> dict[str, Any]:
            _take(event, data)
            return {}

    api._manager = Manager()
    api._server.add_url_rule(
        "/versions",
        "versions_get",
        lambda: flask.jsonify({"versions": list(service().versions)}),
        methods=["GET"],
    )


if hasattr(label_studio_ml.model, "LabelStudioMLManager"):
    _adapt_1x()
