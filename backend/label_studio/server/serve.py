"""From settings to a running server: the models are wired to the service, and gunicorn runs it in
one process with threads.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger as GunicornLogger

from backend.config.models import Settings
from backend.config.service import ServiceSettings, check_listening
from backend.core.protocols import InteractiveLabeler
from backend.errors import ConfigError, InputError, LabelingError, system_reason
from backend.files.images import ImageLimits
from backend.formats.label_studio.binding import listed
from backend.formats.label_studio.label_config import ModelChoice
from backend.label_studio.server.app import create_app
from backend.label_studio.server.cascade_loader import CascadeLoader
from backend.label_studio.server.front import FrontWorker
from backend.label_studio.server.job_process import JobProcess, command_of, environment_of
from backend.label_studio.server.jobs import JOBS, Jobs
from backend.label_studio.server.service import Service, Training
from backend.labeling.cascade import Cascade
from backend.models.devices import whole_batch
from backend.models.registry import check_names, conf_of
from backend.models.tuned import is_tuned

logger = logging.getLogger(__name__)
EXIT_STUCK = 70  # of sysexits.h: internal software error


def everything_loader(
    settings: Settings,
) -> Callable[[InteractiveLabeler, ModelChoice], InteractiveLabeler]:
    """What makes a server outline everything; the namer is loaded once, when the first project
    asks.

    Args:
        settings: of the models.
    """
    from backend.labeling.load import EverythingLoader

    loader = EverythingLoader(settings)

    def load(outlines: InteractiveLabeler, choice: ModelChoice) -> InteractiveLabeler:
        if not isinstance(outlines, Cascade):
            raise InputError(f'model_mode="{choice.mode}" needs a detector and a segmenter')
        labeler = loader(outlines, choice.words, detect=choice.mode == "both")
        logger.info(
            "names masks of everything with %s: %s",
            labeler.model_version,
            listed(labeler.names.values()),
        )
        return labeler

    return load


def with_tuned(settings: Settings, run: Path) -> Settings:
    """Settings with the models that a run offers, in the place of those it began with."""
    if is_tuned(run, "detector"):  # which knows the labels of its project, and no others
        settings = replace(settings, detector=str(run), classes=None, names=None)
    if is_tuned(run, "segmenter"):
        settings = replace(settings, segmenter=str(run), segmenter_config=None)
    return settings


def build_service(
    settings: Settings,
    service_settings: ServiceSettings,
    on_stuck: Callable[[], None] | None = None,
) -> Service:
    """A service over the models that the settings name; nothing is loaded until it is started."""

    base = CascadeLoader(settings)

    def tuned(run: Path) -> CascadeLoader:
        return CascadeLoader(with_tuned(settings, run), base)

    def start(project: str, run: Path) -> JobProcess:
        command = command_of(project, run, settings, service_settings.train_options)
        return JobProcess.start(command, run, environment_of(service_settings))

    return Service(
        base,
        service_settings,
        everything_loader(settings),
        training=Training(start, tuned, lambda run: conf_of(with_tuned(settings, run))),
        threshold=conf_of(settings),
        batch=whole_batch(settings.batch, settings.device),
        limits=ImageLimits(max_pixels=settings.max_pixels),
        on_stuck=on_stuck,
    )


def _exit_stuck() -> None:
    os._exit(
        EXIT_STUCK
    )  # a thread that hangs in native code cannot be ended otherwise; gunicorn starts a new worker


class _Logger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's lines go where ours go, in the same form."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master, for which a second SIGTERM means now."""

    _told = False

    def signal(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self._told:
            sig = signal.SIGQUIT
        self._told = self._told or sig == signal.SIGTERM
        super().signal(sig, frame)


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn around an app that is made in the worker, after the fork, because neither CUDA nor
    threads survive one.

    Args:
        make: makes the service in the worker.
        settings: where to listen.
    """

    def __init__(self, make: Callable[[], Service], settings: ServiceSettings) -> None:
        self._make = make
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings; one process, because the models and what they remember are in it."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        options: dict[str, Any] = {
            "bind": f"{host}:{self._settings.port}",
            "workers": 1,
            "worker_class": FrontWorker,
            # A heartbeat; the inference thread has its own watchdog.
            "timeout": 0,
            "graceful_timeout": int(self._settings.deadline_s) + 5,
            "preload_app": False,
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": _Logger,
        }
        for name, value in options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def run(self) -> None:
        """Run until a signal comes."""
        _Master(self).run()

    def load(self) -> Flask:
        """Called by gunicorn in the worker."""
        return create_app(self._make())


def check_trainings(settings: ServiceSettings) -> None:
    """Refuse a folder of trainings that is of another Label Studio.

    Raises:
        ConfigError: it is.
        Unavailable: the disk refuses.
    """
    if settings.training is not None and settings.label_studio_url is not None:
        with closing(Jobs(settings.training / JOBS)) as jobs:
            jobs.belong_to(settings.label_studio_url)


def _check_free(settings: ServiceSettings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        raise ConfigError(
            f"{settings.host}:{settings.port}: cannot listen there:"
            f" {system_reason(error)}; name another --port"
        ) from None


def serve(settings: Settings, service_settings: ServiceSettings) -> None:
    """Listen until a signal comes.

    Raises:
        ConfigError: the address is open to others and has no password, or cannot be listened on.
    """
    check_listening(service_settings)
    if settings.prompts is not None:
        raise ConfigError("--prompts: a server needs a detector")
    check_names(settings)
    check_trainings(service_settings)
    _check_free(service_settings)
    where = f"http://{service_settings.host}:{service_settings.port}"
    logger.info(
        "listening on %s; connect this address in Label Studio under Settings, Model", where
    )
    if not service_settings.label_studio_url:
        logger.warning(
            "LABEL_STUDIO_URL is not set, so no image can be fetched: start with"
            " LABEL_STUDIO_URL=http://... LABEL_STUDIO_API_KEY=..."
        )
    elif not service_settings.label_studio_api_key:
        logger.warning(
            "LABEL_STUDIO_API_KEY is not set, so Label Studio will refuse to hand out images: make"
            " a token under Account & Settings"
        )

    def make() -> Service:
        service = build_service(settings, service_settings, _exit_stuck)
        threading.Thread(target=_try_token, args=(service,), name="token", daemon=True).start()
        return service

    Server(make, service_settings).run()


def _try_token(service: Service) -> None:
    """Say at once what would otherwise only show at the first image."""
    if not service.settings.label_studio_url or not service.settings.label_studio_api_key:
        return
    try:
        status = service.fetcher.http.send("GET", "/api/current-user/whoami").status
        if status == 200:
            logger.info("Label Studio accepts the token")
        else:
            logger.warning(
                "Label Studio answered %d to LABEL_STUDIO_API_KEY; `yolosam2 doctor` tells more",
                status,
            )
    except LabelingError as error:
        logger.warning("Label Studio cannot be asked yet: %s", error)
