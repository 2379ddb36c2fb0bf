"""From settings to a loaded cascade: the one place that knows which model goes where."""

from __future__ import annotations

from dataclasses import dataclass

from backend.config.models import Settings
from backend.errors import ConfigError
from backend.files.atomic import file_digest
from backend.formats.prompt_file import PromptFile, read_prompts
from backend.labeling.cascade import Cascade
from backend.models.devices import resolve_device
from backend.models.registry import load_detector, load_segmenter

MODES = ("cascade", "boxes")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A cascade ready to run, and the prompt file if there is one."""

    cascade: Cascade
    prompts: PromptFile | None
    device: str


def load(settings: Settings, mode: str = "cascade", dataset_names: tuple[str, ...] | None = None) -> Loaded:
    """Load what the settings name; the prompt file is checked before any model is loaded.

    Args:
        settings: all of them.
        mode: of ``MODES``; ``boxes`` loads no segmenter.
        dataset_names: class names that a dataset brought, for a prompt file without ``--classes``.

    Raises:
        ConfigError: anything that cannot work.
    """
    prompts, names = None, None
    if settings.prompts is not None:
        names = settings.classes or dataset_names
        if names is None:
            raise ConfigError(f"{settings.prompts}: its category_id are indices; name the classes with --classes, in their order")
        prompts = read_prompts(settings.prompts, len(names))
    device = resolve_device(settings.device)
    detector = None if prompts is not None else load_detector(settings, device)
    segmenter = None if mode == "boxes" else load_segmenter(settings, device)
    cascade = Cascade(
        detector,
        segmenter,
        names=None if names is None else dict(enumerate(names)),
        conf=settings.conf,
        box_margin=settings.box_margin,
        min_part=settings.min_part,
        given_version=file_digest(settings.prompts)[:8] if settings.prompts is not None else "",
    )
    return Loaded(cascade, prompts, device)
