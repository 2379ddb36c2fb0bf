"""The models of projects that have ones of their own, learned from what was accepted in them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from backend.errors import LabelingError
from backend.label_studio.server.projects import Predictors, StillLoading

logger = logging.getLogger(__name__)


class TunedModels:
    """Models by project; where there are none, those of the settings. Safe for many threads.

    What is exchanged is only the answer to ``of``: requests under way keep the models that they
    began with, and these go when the last of them ends.

    Args:
        default: the models of the settings.
        expected: projects that have models which are not taken yet.
    """

    def __init__(
        self,
        default: Predictors,
        expected: Iterable[str] = (),
    ) -> None:
        self._default = default
        self._lock = threading.Lock()
        self._tuned: dict[str, Predictors] = {}
        self._expected = set(expected)
        self.n_swaps = 0

    def of(self, project: str) -> Predictors:
        """The models of a project.

        Raises:
            StillLoading: it has models of its own, which are on their way since the start.
        """
        with self._lock:
            if project in self._expected:
                raise StillLoading(
                    "The models of this project are still loading; try again in a few seconds"
                )
            return self._tuned.get(project, self._default)

    def take(self, project: str, made: Predictors | None) -> bool:
        """Load models, and let new requests have them. Where they do not load, all stays as it is.

        Args:
            project: its number.
            made: models of its own, not loaded yet; None for those of the settings.

        Returns:
            Whether they are taken.
        """
        try:
            if made is not None:
                made.load_default()
        except LabelingError as error:
            logger.error("project %s: what was trained cannot be used: %s", project, error)
            return self._refused(project)
        except Exception:  # whatever a model library raises, such as for want of memory
            logger.exception("project %s: what was trained cannot be used", project)
            return self._refused(project)
        with self._lock:
            self._expected.discard(project)
            if made is None:
                if self._tuned.pop(project, None) is None:
                    return True
            else:
                self._tuned[project] = made
            self.n_swaps += 1
        version = (made or self._default).default().model_version
        logger.info("project %s: new requests are answered by %s", project, version)
        return True

    def _refused(self, project: str) -> bool:
        """Nobody waits any longer for what could not be loaded."""
        with self._lock:
            self._expected.discard(project)
        return False
