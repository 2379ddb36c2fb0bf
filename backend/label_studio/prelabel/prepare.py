"""The models bound to a project: what a run and a dry run start from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.config.models import Settings
from backend.config.service import ServiceSettings
from backend.core.protocols import InteractiveLabeler
from backend.errors import ConfigError, InputError
from backend.files.atomic import file_digest
from backend.files.images import ImageLimits
from backend.formats.label_studio.binding import Binding, bind, is_filled, project_version
from backend.formats.label_studio.label_config import (
    CASCADE,
    DEFAULT_MODELS,
    LabelConfig,
    ModelChoice,
    parse_label_config,
)
from backend.formats.prompt_file import PromptFile, read_prompts
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.rows import TaskRow
from backend.label_studio.prelabel.boxes import drawn_on_video, from_file, from_tasks
from backend.label_studio.prelabel.run import Choice
from backend.label_studio.prelabel.stages import Labeller, Loader
from backend.models.registry import conf_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PrelabelOptions:
    """What ``prelabel`` was asked for."""

    project: int
    choice: Choice
    engine: str = "local"
    ray_address: str | None = None
    actors: int = 1
    dry_run: bool = False
    present: bool = True  # make the version the one the project shows, and a tab to begin with
    instructions: bool = False  # for annotators, where the project has none
    replace: bool = False
    replace_annotated: bool = False
    from_boxes: str | None = None
    journal: Path | None = None
    progress: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """The models bound to the project."""

    labeler: InteractiveLabeler
    config: LabelConfig
    binding: Binding
    model_version: str
    given: Callable[[TaskRow], Any] | None
    models: ModelsOfProject
    prompts: PromptFile | None


def label_names(config: LabelConfig) -> list[str]:
    """The labels of the tags that show masks or boxes, in their order: the classes where boxes come
    with labels.
    """
    return list(
        dict.fromkeys(
            label.value
            for labels in (
                *(tag.labels for tag in config.tags if tag.kind != "keypointlabels"),
                *(tag.labels for tag in config.videos),
            )
            for label in labels
        )
    )


@dataclass(frozen=True)
class ModelsOfProject:
    """What decides which models a project needs, on any machine.

    Attributes:
        settings: of the models.
        names: classes of given boxes; None where a detector finds them, or nothing is asked for.
        given_version: identifies the source of given boxes.
        choice: what the tags ask for.
    """

    settings: Settings
    names: tuple[str, ...] | None = None
    given_version: str = ""
    choice: ModelChoice = DEFAULT_MODELS

    def load(self) -> InteractiveLabeler:
        """Load them.

        Raises:
            ConfigError: one that cannot work.
        """
        from backend.labeling.load import AUTOMATIC, EverythingLoader, build_cascade

        settings, mode = self.settings, self.choice.mode
        if self.names is not None:
            settings = replace(settings, conf=0.0)
            return build_cascade(settings, names=self.names, given_version=self.given_version)
        if mode == AUTOMATIC:
            cascade = build_cascade(settings, names=(), given_version=AUTOMATIC)
        else:
            cascade = build_cascade(settings, all_scores=True)
        if mode == CASCADE:
            return cascade
        return EverythingLoader(settings)(cascade, self.choice.words, detect=mode != AUTOMATIC)


def _choice(config: LabelConfig, given: bool) -> ModelChoice:
    """What all tags ask for.

    Raises:
        InputError: something that only a server can do, or that leaves given boxes out.
    """
    tags = [tag for tag in config.tags if not tag.skip]
    if any(tag.model.path is not None for tag in tags):
        raise InputError(
            "the labeling config chooses detectors with model_path, which only `yolosam2 serve`"
            " can do; take it out"
        )
    filled = [tag.model for tag in tags if is_filled(tag, config)]
    # In whatever order the tags list the same labels.
    choices = {(one.path, one.mode, frozenset(one.words)): one for one in reversed(filled)}
    if len(choices) > 1:
        raise InputError(
            "its tags ask for different models with model_mode, or for the same with other labels,"
            " which only `yolosam2 serve` can do; give them the same"
        )
    choice = filled[0] if filled else DEFAULT_MODELS
    if given and choice.mode != CASCADE:
        raise InputError(
            f'its tags say model_mode="{choice.mode}", which takes no boxes; leave --prompts and'
            " --from-boxes out, or model_mode"
        )
    return choice


def prepare(settings: Settings, options: PrelabelOptions, label_config: str) -> Prepared:
    """Read the label config and load the models.

    Raises:
        ConfigError: they do not fit, or a tag names a detector of its own.
    """
    try:
        config = parse_label_config(label_config)
        given_boxes = settings.prompts is not None or options.from_boxes is not None
        choice = _choice(config, given_boxes)
        names: tuple[str, ...] | None = None
        version = ""
        prompts: PromptFile | None = None
        if settings.prompts is not None:
            names = tuple(settings.classes or label_names(config))
            prompts = read_prompts(settings.prompts, len(names), settings.prompt_boxes)
            for remark in prompts.remarks:
                logger.warning(remark)
            version = file_digest(settings.prompts)[:8]
        elif options.from_boxes is not None:
            names = tuple(label_names(config))
            version = options.from_boxes
        models = ModelsOfProject(settings, names, version, choice)
        labeler = models.load()
        binding = bind(
            config,
            lambda choice: labeler.names,
            0.0 if options.from_boxes is not None else conf_of(settings),
        )
    except InputError as error:
        raise ConfigError(f"project {options.project}: {error}") from None
    if not binding.groups and not binding.videos:
        raise ConfigError(
            f"project {options.project}: no tag of its labeling config is filled; `yolosam2"
            " make-config` prints one that is"
        )
    given = _given(options, binding, prompts, names or ())
    return Prepared(
        labeler=labeler,
        config=config,
        binding=binding,
        model_version=project_version([labeler.model_version], binding),
        given=given,
        models=models,
        prompts=prompts,
    )


def _given(
    options: PrelabelOptions, binding: Binding, prompts: PromptFile | None, names: Sequence[str]
) -> Callable[[TaskRow], Any] | None:
    """What gives the boxes of a task; None where a detector does.

    Raises:
        ConfigError: they cannot be had for videos.
    """
    if binding.videos:
        if prompts is not None:
            raise ConfigError(
                "--prompts: names pictures; boxes on videos come from --from-boxes, or follow them"
                " with `yolosam2 video`"
            )
        if options.engine == "ray":
            raise ConfigError("--engine ray: videos are followed on one machine; leave it out")
        if options.from_boxes is None:
            return None
        return drawn_on_video(options.from_boxes, {one.from_name for one in binding.videos})
    first = binding.groups[0]
    if prompts is not None:
        return from_file(prompts, first.data_key)
    if options.from_boxes is None:
        return None
    class_ids = {name: k for k, name in enumerate(names)}
    return from_tasks(options.from_boxes, class_ids, first.to_name)


def make_loader(binding: Binding, service: ServiceSettings, limits: ImageLimits) -> Loader:
    """On another machine: a loader with a fetcher of its own."""
    return Loader(binding, Fetcher(service).fetch, limits)


def make_labeller(models: ModelsOfProject, binding: Binding, model_version: str) -> Labeller:
    """On another machine: the same models.

    Raises:
        ConfigError: they are others there.
    """
    labeler = models.load()
    if project_version([labeler.model_version], binding) != model_version:
        raise ConfigError(
            f"the models of this machine are {labeler.model_version}, not {model_version}; install"
            " the same weights everywhere"
        )
    return Labeller(binding, labeler, model_version)
