"""The cascades of a server: with the detector of the settings, or one that a label config names."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.config.models import Settings
from backend.core.protocols import BoxSegmenter, Detector
from backend.errors import InputError
from backend.files.find import is_inside
from backend.labeling.cascade import Cascade

logger = logging.getLogger(__name__)
# What a model is, and the settings that decide which one.
_OF_DETECTOR = ("detector", "detector", "classes", "names")
_OF_SEGMENTER = (
    *("segmenter", "segmenter", "segmenter_config"),
    *("segmenter_size", "runtime", "precision"),
)


def model_file(model_path: str, root: Path) -> Path:
    """The detector that a label config names.

    Args:
        model_path: relative to ``root``.
        root: MODEL_ROOT.

    Raises:
        InputError: outside MODEL_ROOT, or no such file; the message does not tell which.
    """
    path = root / model_path
    try:
        if (
            "\0" not in model_path
            and not Path(model_path).is_absolute()
            and is_inside(path, root)
            and path.is_file()
        ):
            return path
    except OSError:  # such as a name that is too long
        pass
    raise InputError(f"model_path={model_path[:80]!r}: no such file in MODEL_ROOT on the backend")


class CascadeLoader:
    """Loads cascades for a server; a model that several have in common is loaded once.

    Args:
        settings: of the models; ``conf`` becomes the threshold of labels that have none, which the
            service applies.
        base: loads what others begin with; what the settings have in common with its own is taken
            from there.
    """

    def __init__(self, settings: Settings, base: CascadeLoader | None = None) -> None:
        self._settings = settings
        self._base = base
        self._detector: Detector | None = None
        self._segmenter: BoxSegmenter | None = None

    def __call__(self, model_path: str | None) -> Cascade:
        """A cascade with the detector of the settings, or with one that a label config names.

        Raises:
            InputError: it names none.
            ConfigError: a model does not load.
        """
        from backend.labeling.load import build_cascade
        from backend.models.devices import resolve_device

        own = replace(self._settings, device=resolve_device(self._settings.device))
        detector = self._detector or self._shared(*_OF_DETECTOR)
        if model_path is not None:
            own = replace(own, detector=str(model_file(model_path, own.model_root)))
            detector = None
        segmenter = self._segmenter or self._shared(*_OF_SEGMENTER)
        cascade = build_cascade(own, all_scores=True, detector=detector, segmenter=segmenter)
        self._segmenter = cascade.segmenter
        if model_path is None:
            self._detector = cascade.detector
        logger.info(
            "loaded %s on %s, %d classes", cascade.model_version, own.device, len(cascade.names)
        )
        return cascade

    def _shared(self, kind: str, *names: str) -> Any:
        """A model of the base; None where it has none, or another."""
        base = self._base
        if base is None or any(
            getattr(base._settings, name) != getattr(self._settings, name) for name in names
        ):
            return None
        return getattr(base, f"_{kind}")
