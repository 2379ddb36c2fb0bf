"""The models the server works with, and what a project's label config makes of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from backend.core.protocols import InteractiveLabeler
from backend.core.types import Detections
from backend.errors import InputError, Unavailable
from backend.formats.label_studio.binding import Binding, bind, listed, project_version
from backend.formats.label_studio.label_config import LabelConfig, parse_label_config
from backend.label_studio.server.cache import ByteLru
from backend.label_studio.server.worker import InferenceThread

logger = logging.getLogger(__name__)
SETUP_WAIT_S = 2.0  # Label Studio gives /setup three seconds
_PROJECT_BYTES = 32 << 20  # of bound label configs, which take a few times their text


class StillLoading(Unavailable):
    """The models are on their way."""

    retry_after_s = 5


@dataclass(frozen=True)
class Project:
    """A label config bound to the models."""

    config: LabelConfig
    binding: Binding
    model_version: str


class Predictors:
    """Cascades by detector; the inference thread loads them, and they are kept.

    Args:
        load: the ``model_path`` of a tag, or None for the default detector, to a loaded and
            warmed-up predictor.
        threshold: detections below are dropped where the label config does not say.
        allow_paths: whether a label config may choose detectors.
        most: custom detectors kept at once.
    """

    def __init__(
        self,
        load: Callable[[str | None], InteractiveLabeler],
        *,
        threshold: float = 0.25,
        allow_paths: bool = False,
        most: int = 4,
    ) -> None:
        self._load = load
        self._threshold = threshold
        self._allow_paths = allow_paths
        self._most = most
        self._loaded: dict[str | None, InteractiveLabeler] = {}
        self._announced: set[str] = set()
        self._projects: ByteLru[Project] = ByteLru(_PROJECT_BYTES)

    def load_default(self) -> None:
        """Load the detector and segmenter of the settings; on the inference thread."""
        self.get(None)

    def get(self, model_path: str | None) -> InteractiveLabeler:
        """The predictor of a detector, loaded if need be; on the inference thread.

        Raises:
            InputError: more custom detectors than are kept.
            ConfigError: it does not load.
        """
        if model_path not in self._loaded:
            if len(self._loaded) > self._most:
                raise InputError(
                    f"model_path: at most {self._most} detectors are kept loaded; restart the"
                    " backend to forget those of old configs"
                )
            self._loaded[model_path] = self._load(model_path)
        return self._loaded[model_path]

    def default(self) -> InteractiveLabeler:
        """The predictor of the settings, once it is loaded; on any thread.

        Raises:
            StillLoading: not there yet.
        """
        if None not in self._loaded:
            raise StillLoading("The models are still loading; try again in a few seconds")
        return self._loaded[None]

    def project(
        self, label_config: str, inference: InferenceThread, wait_s: float, deadline: float
    ) -> Project:
        """Bind a label config.

        Args:
            label_config: XML.
            inference: the thread that loads the detectors a config names.
            wait_s: how long to wait for the default models.
            deadline: of ``time.monotonic``, for detectors that the config names.

        Raises:
            InputError: the config cannot be used, and why.
            StillLoading: the models are not there yet.
            Unavailable: they could not be loaded.
        """
        config = parse_label_config(label_config)
        if not inference.wait_loaded(wait_s):
            raise StillLoading("The models are still loading; try again in a few seconds")
        inference.check()
        paths = {
            tag.model_path for tag in config.tags if tag.model_path is not None and not tag.skip
        }
        if paths and not self._allow_paths:
            raise InputError(
                f"model_path={listed(sorted(paths))} in the labeling config needs"
                " ALLOW_CUSTOM_MODEL_PATH=1 on the backend"
            )
        for path in paths - self._loaded.keys():
            inference.run(lambda path=path: self.get(path), deadline)  # type: ignore[misc]
        key = sha256(label_config.encode("utf-8", "surrogatepass")).hexdigest()
        project = self._projects.get(key)
        if project is None:
            project = self._bound(config)
            self._projects.put(key, project, 8 * len(label_config) + 1000)
            self._announce(project)
        return project

    def _bound(self, config: LabelConfig) -> Project:
        binding = bind(config, lambda path: self._loaded[path].names, self._threshold)
        paths = dict.fromkeys(group.model_path for group in binding.groups) or {None: None}
        return Project(
            config,
            binding,
            project_version((self._loaded[path].model_version for path in paths), binding),
        )

    def _announce(self, project: Project) -> None:
        """Once per version: which tag gets which model and labels, so that a silent mismatch has a
        place to be seen.
        """
        if project.model_version in self._announced:
            return
        self._announced.add(project.model_version)
        for group in project.binding.groups:
            for output in group.outputs:
                pairs = listed(
                    f"{self._loaded[group.model_path].names[k]} -> {label} from"
                    f" {output.thresholds[k]:g}"
                    for k, label in output.labels.items()
                )
                model = group.model_path or "the default detector"
                logger.info(
                    '%s "%s" on Image "%s" is filled by %s: %s',
                    output.kind,
                    output.from_name,
                    output.to_name,
                    model,
                    pairs,
                )
        for video in project.binding.videos:
            names = self._loaded[None].names
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
