"""What names masks in a run: a namer by its name, and what it learned from examples."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backend.config.models import Settings
from backend.core.naming import Words
from backend.core.protocols import Namer
from backend.errors import ConfigError
from backend.files.images import ImageLimits
from backend.models.devices import one_device
from backend.models.namers import Namers, load_namer

if TYPE_CHECKING:
    from backend.models.probe import NamedFeatures

logger = logging.getLogger(__name__)


def namer_of(settings: Settings) -> Namer | None:
    """What names masks, where the settings have names, examples of them or a namer."""
    if settings.names is None and settings.namer is None and settings.examples is None:
        return None
    device = one_device(settings.device)
    if settings.examples is None:
        return load_namer(settings, device, settings.names)
    return NamersWithExamples(settings, device).of(settings.names)


class NamersWithExamples:
    """Namers with other words but one model, which learn from ``--examples`` where there are some.

    Args:
        settings: all of them.
        device: as ``one_device`` gave it.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._namers = Namers(settings, device)
        self._examples: NamedFeatures | None = None

    def of(self, classes: Sequence[Words] | None) -> Namer:
        """One for some classes; None takes those of the examples.

        Raises:
            ConfigError: examples that cannot be used, or for a namer that cannot learn.
        """
        from backend.labeling.examples import read_examples
        from backend.models.clip import ClipNamer
        from backend.models.probe import NOTHING, learn_names, need_scikit_learn

        if self._settings.examples is None:
            return self._namers.of(classes or ())
        need_scikit_learn()
        namer = self._namers.of(classes or (Words("object"),))
        if not isinstance(namer, ClipNamer):
            raise ConfigError("--examples: names are learned with a CLIP or SigLIP as --namer")
        if self._examples is None:
            self._examples = read_examples(
                namer,
                self._settings.examples,
                self._settings.examples_images,
                self._settings.examples_split,
                ImageLimits(max_pixels=self._settings.max_pixels),
                progress=sys.stderr.isatty(),
            )
        if classes is None:
            known = {label.casefold(): label for label in reversed(self._examples.labels)}
            called = dict.fromkeys(label.casefold() for label in self._examples.labels)
            classes = [Words(known[name]) for name in called if name != NOTHING]
            namer = namer.for_classes(classes)
        learned, held_out = learn_names(namer, classes, self._examples)
        logger.warning("%s", held_out.sentence())
        return learned
