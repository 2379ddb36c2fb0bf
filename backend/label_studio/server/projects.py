"""The models the server works with, and what a project's label config makes of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import numpy as np

from backend.core.protocols import InteractiveLabeler
from backend.core.types import Detections
from backend.errors import ConfigError, InputError, Unavailable
from backend.formats.label_studio.binding import (
    Binding,
    bind,
    is_filled,
    listed,
    names_for,
    project_version,
)
from backend.formats.label_studio.label_config import (
    CASCADE,
    DEFAULT_MODELS,
    LabelConfig,
    ModelChoice,
    parse_label_config,
)
from backend.label_studio.server.cache import ByteLru
from backend.label_studio.server.worker import InferenceThread

logger = logging.getLogger(__name__)
SETUP_WAIT_S = 2.0  # Label Studio gives /setup three seconds
_MOST_NAMED = 16  # sets of words that are remembered
_FAULT_S = 60.0  # before a namer that did not load is tried again
_PROJECT_BYTES = 32 << 20  # of bound label configs, which take a few times their text

Models = Mapping[ModelChoice, InteractiveLabeler]
Everything = Callable[[InteractiveLabeler, ModelChoice], InteractiveLabeler]


class StillLoading(Unavailable):
    """The models are on their way."""

    retry_after_s = 5


@dataclass(frozen=True)
class Project:
    """A label config bound to the models, which stay the same for as long as a request runs."""

    config: LabelConfig
    binding: Binding
    model_version: str
    models: Predictors


class Predictors:
    """Models by what tags ask for; the inference thread loads them, and they are kept.

    Args:
        load: the ``model_path`` of a tag, or None for the default detector, to a loaded and
            warmed-up predictor.
        everything: that predictor, and what a tag asks for, to one that outlines everything; None
            where there is none.
        threshold: detections below are dropped where the label config does not say.
        allow_paths: whether a label config may choose detectors.
        most: custom detectors kept at once.
        learns: whether models can learn labels that they do not know.
    """

    def __init__(
        self,
        load: Callable[[str | None], InteractiveLabeler],
        everything: Everything | None = None,
        *,
        threshold: float = 0.25,
        allow_paths: bool = False,
        most: int = 4,
        learns: bool = False,
    ) -> None:
        self._learns = learns
        self._load = load
        self._everything = everything
        self._threshold = threshold
        self._allow_paths = allow_paths
        self._most = most
        self._loaded: dict[ModelChoice, InteractiveLabeler] = {}
        self._naming = threading.RLock()
        self._makers = ThreadPoolExecutor(1, thread_name_prefix="namer")
        self._faults: dict[ModelChoice, tuple[float, str]] = {}
        self._announced: set[str] = set()
        self._projects: ByteLru[Project] = ByteLru(_PROJECT_BYTES)

    def load_default(self) -> None:
        """Load the detector and segmenter of the settings; on the inference thread."""
        self.get(DEFAULT_MODELS)

    def get(self, choice: ModelChoice) -> InteractiveLabeler:
        """The predictor that a tag asks for, loaded if need be; on the inference thread.

        Raises:
            InputError: more custom detectors than are kept, or a mode that is not served here.
            ConfigError: it does not load.
        """
        known = self._loaded.get(choice)
        if known is not None:
            return known
        if choice.mode != CASCADE:
            return self._named(choice, self.get(ModelChoice(choice.path)))
        made = self._loaded[choice] = self._cascade(choice.path)
        return made

    def _cascade(self, path: str | None) -> InteractiveLabeler:
        # A copy, as namers are added on another thread.
        if sum(one.mode == CASCADE for one in list(self._loaded)) > self._most:
            raise InputError(
                f"model_path: at most {self._most} detectors are kept loaded; restart the"
                " backend to forget those of old configs"
            )
        return self._load(path)

    def _named(self, choice: ModelChoice, outlines: InteractiveLabeler) -> InteractiveLabeler:
        """One that outlines everything.

        Its words change with every edit of a config, so those that nobody asked for lately are
        forgotten.

        Raises:
            InputError: a mode that is not served here, or a namer that does not load.
        """
        with self._naming:
            known = self._loaded.pop(choice, None)
            if known is None:
                known = self._make_named(choice, outlines)
            self._loaded[choice] = known  # the one asked for last comes last
            old = [one for one in list(self._loaded) if one.mode != CASCADE]
            for one in old[: max(0, len(old) - _MOST_NAMED)]:
                self._loaded.pop(one, None)
        return known

    def _make_named(self, choice: ModelChoice, outlines: InteractiveLabeler) -> InteractiveLabeler:
        if self._everything is None:
            raise InputError(f'model_mode="{choice.mode}" is not served here')
        fault = self._faults.get(choice)
        if fault is not None and time.monotonic() - fault[0] < _FAULT_S:
            raise InputError(fault[1])
        try:
            return self._everything(outlines, choice)
        except ConfigError as error:  # not asked again at once: it may have asked the hub
            text = f'model_mode="{choice.mode}": {error}'
            self._faults = {choice: (time.monotonic(), text)}
            raise InputError(text) from error

    def forget_projects(self) -> None:
        """Let go of the projects that were bound; requests under way keep theirs."""
        self._projects = ByteLru(_PROJECT_BYTES)

    def default(self) -> InteractiveLabeler:
        """The predictor of the settings, once it is loaded; on any thread.

        Raises:
            StillLoading: not there yet.
        """
        if DEFAULT_MODELS not in self._loaded:
            raise StillLoading("The models are still loading; try again in a few seconds")
        return self._loaded[DEFAULT_MODELS]

    def project(
        self,
        label_config: str,
        inference: InferenceThread,
        wait_s: float,
        deadline: float,
        *,
        for_clicks: bool = False,
    ) -> Project:
        """Bind a label config.

        Args:
            label_config: XML.
            inference: the thread that loads the detectors a config names.
            wait_s: how long to wait for the default models.
            deadline: of ``time.monotonic``, for models that the config names.
            for_clicks: whether nothing but a click is to be answered, which needs no namer.

        Raises:
            InputError: the config cannot be used, and why.
            StillLoading: the models are not there yet.
            Unavailable: they could not be loaded.
        """
        config = parse_label_config(label_config)
        if not inference.wait_loaded(wait_s):
            raise StillLoading("The models are still loading; try again in a few seconds")
        inference.check()
        wanted = {tag.model for tag in config.tags if is_filled(tag, config)}
        wanted |= {tag.model for tag in config.tags if tag.model.path is not None and not tag.skip}
        paths = {one.path for one in wanted if one.path is not None}
        if paths and not self._allow_paths:
            raise InputError(
                f"model_path={listed(sorted(paths))} in the labeling config needs"
                " ALLOW_CUSTOM_MODEL_PATH=1 on the backend"
            )
        models = {DEFAULT_MODELS: self.default()}
        for one in wanted:
            base = ModelChoice(one.path)
            found = self._loaded.get(base)
            models[base] = found or inference.run(partial(self.get, base), deadline)
            if one.mode != CASCADE and not for_clicks:
                models[one] = self._awaited(one, models[base], deadline)
        if any(one not in models for one in wanted):  # a click goes without its namer
            binding = bind(
                config,
                lambda choice: names_for(choice, models[ModelChoice(choice.path)].names),
                self._threshold,
                learns=self._learns,
            )
            return Project(config, binding, self.default().model_version, self)
        key = sha256(label_config.encode("utf-8", "surrogatepass")).hexdigest()
        project = self._projects.get(key)
        if project is None:
            project = self._bound(config, models)
            self._projects.put(key, project, 8 * len(label_config) + 1000)
            self._announce(project, models)
        return project

    def _awaited(
        self, choice: ModelChoice, outlines: InteractiveLabeler, deadline: float
    ) -> InteractiveLabeler:
        """One that outlines everything, made on a thread of its own: a namer may have to be
        fetched, and clicks must not wait for that.
        """
        if choice in self._loaded:
            return self._named(choice, outlines)
        made = self._makers.submit(self._named, choice, outlines)
        try:
            return made.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeout:
            raise StillLoading("The namer is still loading; try again in a few seconds") from None

    def _bound(self, config: LabelConfig, models: Models) -> Project:
        binding = bind(
            config, lambda choice: models[choice].names, self._threshold, learns=self._learns
        )
        used = dict.fromkeys(group.model for group in binding.groups) or {DEFAULT_MODELS: None}
        return Project(
            config,
            binding,
            project_version((models[one].model_version for one in used), binding),
            self,
        )

    def _announce(self, project: Project, models: Models) -> None:
        """Once per version: which tag gets which model and labels, so that a silent mismatch has a
        place to be seen.
        """
        if project.model_version in self._announced:
            return
        self._announced.add(project.model_version)
        for group in project.binding.groups:
            for output in group.outputs:
                pairs = listed(
                    f"{models[group.model].names[k]} -> {label} from {output.thresholds[k]:g}"
                    for k, label in output.labels.items()
                )
                model = group.model_path or "the default detector"
                if group.model.mode != CASCADE:
                    model = f"masks of everything ({group.model.mode})"
                logger.info(
                    '%s "%s" on Image "%s" is filled by %s: %s',
                    output.kind,
                    output.from_name,
                    output.to_name,
                    model,
                    pairs,
                )
        for video in project.binding.videos:
            names = models[DEFAULT_MODELS].names
            pairs = listed(
                f"{names[k]} -> {label} from {video.thresholds[k]:g}"
                for k, label in video.labels.items()
            )
            logger.info(
                'videorectangle "%s" on Video "%s": %s', video.from_name, video.to_name, pairs
            )
        if not project.binding.groups and not project.binding.videos:
            logger.info("no tag is filled in batch; clicks and boxes only")
        for note in project.binding.notes:
            logger.warning("label config: %s", note)


def warm_up(predictor: InteractiveLabeler) -> None:
    """Run everything once, so that the first annotator does not pay for it."""
    image = np.full((64, 96, 3), 127, np.uint8)
    given = Detections(
        np.array([[8, 8, 60, 50]], np.float32),
        np.array([next(iter(predictor.names))]),
        np.ones(1, np.float32),
    )
    for raw in (*predictor.infer([image]), *predictor.infer([image], [given])):
        predictor.finish(raw)
