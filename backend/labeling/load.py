"""The only builder of a cascade: from settings to loaded models."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.config.models import Settings
from backend.core import kernels
from backend.core.calibrator import Calibrator, read_calibrator
from backend.core.naming import Words
from backend.core.protocols import (
    BoxSegmenter,
    Detector,
    InteractiveLabeler,
    Namer,
    Proposer,
    VideoSegmenter,
)
from backend.errors import ConfigError
from backend.files.atomic import file_digest
from backend.formats.prompt_file import PromptFile, read_prompts
from backend.labeling.automatic import AutomaticLabeler, AutomaticRules
from backend.labeling.cascade import Cascade
from backend.labeling.namers import NamersWithExamples, namer_of
from backend.models.devices import one_device, resolve_device
from backend.models.registry import (
    conf_of,
    load_detector,
    load_proposer,
    load_segmenter,
    takes_names,
    tuned_of,
)
from backend.models.tuned import margin_of

logger = logging.getLogger(__name__)
LOWEST_CONF = 0.01  # of a detector whose thresholds a labeling config decides


CASCADE = "cascade"
BOXES = "boxes"
AUTOMATIC = "automatic"
BOTH = "both"


@dataclass(frozen=True, eq=False)
class LoadedModels:
    """A cascade ready to run, and the prompt file if there is one."""

    cascade: Cascade
    prompts: PromptFile | None


@dataclass(frozen=True, eq=False)
class LoadedLabeler:
    """What labels images, ready to run, and the prompt file if there is one."""

    labeler: InteractiveLabeler
    prompts: PromptFile | None


def box_margin_of(settings: Settings) -> float | None:
    """By how much boxes are grown before outlines are cut to them: as a person said, else as a
    tuned segmenter was found to be best with; None where they are not cut.
    """
    if settings.box_margin is not None:
        return settings.box_margin
    return margin_of(tuned_of("segmenter", settings))


def calibrator_of(settings: Settings, segmenter: BoxSegmenter | None) -> Calibrator | None:
    """How often what a tuned detector finds is right; None where that is not known.

    Args:
        settings: of the detector.
        segmenter: what outlines its boxes; with another than it was judged with, nothing is known.
    """
    tuned = tuned_of("detector", settings)
    found = None if tuned is None else tuned.about.get("calibration")
    version = None if segmenter is None else segmenter.version
    if not isinstance(found, dict) or found.get("segmenter") != version:
        return None
    return read_calibrator(found)


def build_cascade(
    settings: Settings,
    *,
    names: Sequence[str] | None = None,
    given_version: str = "",
    mode: str = "cascade",
    all_scores: bool = False,
    detector: Detector | None = None,
    segmenter: BoxSegmenter | None = None,
) -> Cascade:
    """Load the models that the settings name.

    Args:
        settings: all of them.
        names: of the classes of given boxes; no detector is loaded then. None takes a detector.
        given_version: identifies the source of given boxes.
        mode: ``cascade``, or ``boxes`` for no segmenter.
        all_scores: whether the detector reports from ``LOWEST_CONF`` on, so that a labeling config
            may ask for less than ``conf_of`` the settings.
        detector: loaded before, to be shared.
        segmenter: the same.

    Raises:
        ConfigError: a model that is unknown or does not load.
    """
    if all_scores:
        settings = replace(settings, conf=min(conf_of(settings), LOWEST_CONF))
    device = resolve_device(settings.device)
    if detector is None and names is None:
        detector = load_detector(settings, device)
    if segmenter is None and mode == "cascade":
        segmenter = load_segmenter(settings, device)
        kernels.warm.warm_up()  # else the first picture would wait for it
    return Cascade(
        detector,
        segmenter,
        names=None if names is None else dict(enumerate(names)),
        conf=conf_of(settings),
        box_margin=box_margin_of(settings),
        min_part=settings.min_part,
        given_version=given_version,
        calibrator=calibrator_of(settings, segmenter) if names is None else None,
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


def build_automatic(
    settings: Settings,
    outlines: Cascade,
    namer: Namer | None,
    *,
    detect: bool,
    proposer: Proposer | None = None,
) -> AutomaticLabeler:
    """Add automatic masks to a cascade, with its segmenter.

    Args:
        settings: all of them.
        outlines: loaded before.
        namer: loaded before; None leaves masks without names.
        detect: whether its detections come first.
        proposer: loaded before, to be shared.

    Raises:
        ConfigError: a segmenter that cannot, or settings that do not fit.
    """
    if settings.least_area > settings.most_area:
        raise ConfigError("--least-area: is larger than --most-area, so nothing would be left")
    segmenter = outlines.segmenter
    if segmenter is None:
        raise ConfigError("automatic masks need a segmenter")
    return AutomaticLabeler(
        proposer or load_proposer(settings, segmenter),
        namer,
        AutomaticRules(
            name_min=settings.name_min,
            name_margin=settings.name_margin,
            keep_unsure=settings.unsure == "keep",
            least_area=settings.least_area,
            most_area=settings.most_area,
            max_regions=settings.max_regions,
        ),
        outlines=outlines,
        detect=detect,
        min_part=settings.min_part,
    )


class EverythingLoader:
    """Adds automatic masks with any names to cascades; the namer is loaded once.

    Args:
        settings: all of them; ``names`` are not read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._namers: NamersWithExamples | None = None

    def __call__(
        self, outlines: Cascade, names: Sequence[Words], *, detect: bool
    ) -> AutomaticLabeler:
        """See ``build_automatic``.

        Raises:
            ConfigError: a segmenter or a namer that cannot.
        """
        if self._namers is None:
            device = one_device(self._settings.device)
            self._namers = NamersWithExamples(self._settings, device)
        return build_automatic(self._settings, outlines, self._namers.of(names), detect=detect)


def load(
    settings: Settings, mode: str = CASCADE, dataset_names: tuple[str, ...] | None = None
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


def _check_looked_for(settings: Settings, cascade: Cascade) -> None:
    """Tell of names that a detector of a person's own does not look for."""
    if settings.names is None or settings.prompts is not None or not takes_names(settings):
        return
    if set(cascade.names.values()) != {one.name for one in settings.names}:
        logger.warning(
            "--names: %s looks for no words, so they are not used; it knows its own classes, and"
            " --mode automatic or both gives names to masks of everything",
            settings.detector,
        )


def check_no_detector(settings: Settings) -> None:
    """Refuse settings of boxes where everything is outlined.

    Raises:
        ConfigError: naming the option.
    """
    if settings.prompts is not None:
        raise ConfigError("--prompts: --mode automatic asks for no boxes; take --mode both")
    if settings.classes is not None:
        raise ConfigError(
            "--classes: chooses among the classes of a detector, and --mode automatic has none;"
            " name what masks may show with --names"
        )


def load_labeler(
    settings: Settings, mode: str = CASCADE, dataset_names: tuple[str, ...] | None = None
) -> LoadedLabeler:
    """Load what a run over images in any mode needs.

    Args:
        settings: all of them.
        mode: ``cascade``, ``boxes`` for no segmenter, ``automatic`` for masks of everything and no
            detector, or ``both``.
        dataset_names: see ``load``.

    Raises:
        ConfigError: anything that cannot work.
    """
    if mode not in (AUTOMATIC, BOTH):
        loaded = load(settings, mode, dataset_names)
        _check_looked_for(settings, loaded.cascade)
        return LoadedLabeler(loaded.cascade, loaded.prompts)
    if mode == AUTOMATIC:
        check_no_detector(settings)
    namer = namer_of(settings)
    if mode == BOTH:
        loaded = load(settings, CASCADE, dataset_names)
        made = build_automatic(settings, loaded.cascade, namer, detect=True)
        return LoadedLabeler(made, loaded.prompts)
    cascade = build_cascade(settings, names=(), given_version=AUTOMATIC)
    return LoadedLabeler(build_automatic(settings, cascade, namer, detect=False), None)
