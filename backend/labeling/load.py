"""The only builder of a cascade: from settings to loaded models."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.config.models import Settings
from backend.core.protocols import BoxSegmenter, Detector, VideoSegmenter
from backend.errors import ConfigError
from backend.files.atomic import file_digest
from backend.formats.prompt_file import PromptFile, read_prompts
from backend.labeling.cascade import Cascade
from backend.models.devices import resolve_device
from backend.models.registry import load_detector, load_segmenter

logger = logging.getLogger(__name__)
LOWEST_CONF = 0.01  # of a detector whose thresholds a labeling config decides


@dataclass(frozen=True, eq=False)
class LoadedModels:
    """A cascade ready to run, and the prompt file if there is one."""

    cascade: Cascade
    prompts: PromptFile | None


def build_cascade(
    settings: Settings,
    *,
    names: Sequence[str] | None = None,
    given_version: str = "",
    mode: str = "cascade",
    all_scores: bool = False,
    segmenter: BoxSegmenter | None = None,
) -> Cascade:
    """Load the models that the settings name.

    Args:
        settings: all of them.
        names: of the classes of given boxes; no detector is loaded then. None takes a detector.
        given_version: identifies the source of given boxes.
        mode: ``cascade``, or ``boxes`` for no segmenter.
        all_scores: whether the detector reports from ``LOWEST_CONF`` on, so that a labeling config
            may ask for less than ``settings.conf``.
        segmenter: loaded before, to be shared.

    Raises:
        ConfigError: a model that is unknown or does not load.
    """
    if all_scores:
        settings = replace(settings, conf=min(settings.conf, LOWEST_CONF))
    device = resolve_device(settings.device)
    detector = load_detector(settings, device) if names is None else None
    if segmenter is None and mode == "cascade":
        segmenter = load_segmenter(settings, device)
    return Cascade(
        detector,
        segmenter,
        names=None if names is None else dict(enumerate(names)),
        conf=settings.conf,
        box_margin=settings.box_margin,
        min_part=settings.min_part,
        given_version=given_version,
    )


def video_segmenter_of(cascade: Cascade) -> VideoSegmenter:
    """The segmenter of a cascade, which follows objects through videos as well.

    Raises:
        ConfigError: it cannot.
    """
    segmenter = cascade.video_segmenter
    if segmenter is None:
        raise ConfigError(
            "--segmenter: this one outlines images only; name a SAM 2 to follow objects"
        )
    return segmenter


def load_for_masks(settings: Settings) -> LoadedModels:
    """Load what follows objects that are outlined already; their class is the first of
    ``classes``, else ``object``.

    Raises:
        ConfigError: anything that cannot work.
    """
    names = settings.classes or ("object",)
    return LoadedModels(build_cascade(settings, names=names, given_version="masks"), None)


def load_detector_of(settings: Settings) -> Detector:
    """Load the detector alone."""
    return load_detector(settings, resolve_device(settings.device))


def load(
    settings: Settings, mode: str = "cascade", dataset_names: tuple[str, ...] | None = None
) -> LoadedModels:
    """Load what a run over images needs; the prompt file is checked before any model is loaded.

    Args:
        settings: all of them.
        mode: ``cascade``, or ``boxes`` for no segmenter.
        dataset_names: class names that a dataset brought, for a prompt file without ``--classes``.

    Raises:
        ConfigError: anything that cannot work.
    """
    if settings.prompts is None:
        return LoadedModels(build_cascade(settings, mode=mode), None)
    names = settings.classes or dataset_names
    if names is None:
        raise ConfigError(
            f"{settings.prompts}: its category_id are indices; name the classes with --classes, in"
            " their order"
        )
    prompts = read_prompts(settings.prompts, len(names), settings.prompt_boxes)
    for remark in prompts.remarks:
        logger.warning(remark)
    version = file_digest(settings.prompts)[:8]
    cascade = build_cascade(settings, names=names, given_version=version, mode=mode)
    return LoadedModels(cascade, prompts)
