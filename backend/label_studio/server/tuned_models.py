"""The models of projects that have ones of their own, learned from what was accepted in them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from backend.errors import LabelingError
from backend.label_studio.server.projects import Predictors, StillLoading

logger = logging.getLogger(__name__)
_MOST = 4  # projects whose models are kept loaded
_REFUSED_S = 60.0  # before what did not load is tried once more

Make = Callable[[], Predictors]  # models of a project, not loaded yet


class TunedModels:
    """Models by project; where there are none, those of the settings. Safe for many threads.

    They are loaded when a request asks for them, and those of the projects that nobody asked for
    lately are put away. What is exchanged is only the answer to ``of``: requests under way keep the
    models that they began with, and these go when the last of them ends.

    Args:
        default: the models of the settings.
        known: projects that have models of their own from before.
        most: projects whose models are kept loaded.
    """

    def __init__(
        self, default: Predictors, known: Mapping[str, Make] | None = None, most: int = _MOST
    ) -> None:
        self._default = default
        self._most = most
        self._lock = threading.Lock()
        self._makes: dict[str, Make] = dict(known or {})
        self._loaded: dict[str, Predictors] = {}  # the one asked for last comes last
        self._loading: dict[str, Future[Predictors | None]] = {}
        self._refused: dict[str, float] = {}
        self._one_at_a_time = threading.Lock()  # for memory's sake
        self.n_swaps = 0

    def of(self, project: str, wait_s: float) -> Predictors:
        """The models of a project. Where its own do not load, those of the settings answer.

        Args:
            project: its number.
            wait_s: how long to wait for models that are not loaded.

        Raises:
            StillLoading: they take longer.
        """
        with self._lock:
            make = self._makes.get(project)
            refused = self._refused.get(project)
            if make is None or (refused is not None and time.monotonic() - refused < _REFUSED_S):
                return self._default
            known = self._loaded.get(project)
            if known is not None:
                self._keep(project, known)
                return known
            job = self._loading.get(project)
            if job is None:
                job = self._loading[project] = Future()
                # Not one of a pool, for which the end of the process would wait.
                threading.Thread(
                    target=self._load, args=(project, make, job), name="tuned", daemon=True
                ).start()
        until = time.monotonic() + wait_s
        try:
            found = job.result(max(0.0, wait_s))
            with self._lock:
                is_old = self._makes.get(project) is not make
            # Others were taken meanwhile.
            return self.of(project, until - time.monotonic()) if is_old else found or self._default
        except FutureTimeout:
            raise StillLoading(
                "The models of this project are still loading; try again in a few seconds"
            ) from None

    def take(self, project: str, make: Make | None) -> bool:
        """Load models, and let new requests have them. Where they do not load, all stays as it is.

        Args:
            project: its number.
            make: models of its own; None for those of the settings.

        Returns:
            Whether they are taken.
        """
        made = None if make is None else _loaded(project, make)
        if make is not None and made is None:
            return False
        with self._lock:
            self._refused.pop(project, None)
            if make is None or made is None:
                self._put_away(project)
                if self._makes.pop(project, None) is None:
                    return True
            else:
                self._makes[project] = make
                self._put_away(project)
                self._keep(project, made)
            self.n_swaps += 1
        version = (made or self._default).default().model_version
        logger.info("project %s: new requests are answered by %s", project, version)
        return True

    def _load(self, project: str, make: Make, job: Future[Predictors | None]) -> None:
        with self._one_at_a_time:
            made = _loaded(project, make)
        with self._lock:
            self._loading.pop(project, None)
            if self._makes.get(project) is make:  # else others came meanwhile
                if made is None:
                    self._refused[project] = time.monotonic()
                else:
                    self._keep(project, made)
        job.set_result(made)

    def _keep(self, project: str, made: Predictors) -> None:
        """Remember models as those asked for last, and put others away; under the lock."""
        self._loaded.pop(project, None)
        self._loaded[project] = made
        for old in list(self._loaded)[: -self._most]:
            self._put_away(old)
            logger.info("project %s: its models are put away until they are asked for", old)

    def _put_away(self, project: str) -> None:
        old = self._loaded.pop(project, None)
        if old is not None:
            old.forget_projects()  # which hold them, so that only a collector would free them


def _loaded(project: str, make: Make) -> Predictors | None:
    """Models of a project; None where they do not load."""
    try:
        made = make()
        made.load_default()
    except LabelingError as error:
        logger.error("project %s: what was trained cannot be used: %s", project, error)
        return None
    except Exception:  # whatever a model library raises, such as for want of memory
        logger.exception("project %s: what was trained cannot be used", project)
        return None
    return made
