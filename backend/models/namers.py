"""What names masks, by what a person called it: the embedded CLIP, one of the hub, a folder, or a
classifier of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.config.models import Settings
from backend.core.naming import Words
from backend.core.protocols import Namer
from backend.errors import ConfigError
from backend.models.pretrained import need_transformers, read_model_config
from backend.models.table import DEMO, Model
from backend.models.weights import DEMO_CLIP, embedded_folder, fetched_folder

if TYPE_CHECKING:
    from backend.models.clip import ClipNamer

DEFAULT_NAMER = "openai/clip-vit-base-patch32"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = "model.safetensors"
_CLASSIFIER = "ForImageClassification"  # how transformers calls the architectures of classifiers


def _namer(name: str, licence: str, **more: Any) -> Model:
    return Model(
        kind="namer",
        name=name,
        module="backend.models.clip",
        weights=f"{name}/{_WEIGHTS}",
        repository=name,
        licence=licence,
        classes="words",
        **more,
    )


NAMERS = (
    Model(
        kind="namer",
        name=DEMO,
        module="backend.models.clip",
        weights=f"{DEMO_CLIP.name}/{_WEIGHTS}",
        embedded=True,
        licence="Apache-2.0",
        classes="words for 6 of scenes",
    ),
    _namer(DEFAULT_NAMER, "MIT"),
    _namer("openai/clip-vit-large-patch14", "MIT"),
    _namer("google/siglip-base-patch16-224", "Apache-2.0"),
    _namer("google/siglip2-base-patch16-224", "Apache-2.0"),
)


def known_namers(root: Path) -> list[tuple[Model, Path | str]]:
    """The namers that are shown to people, and where their weights are or would be put.

    Others of the hub are taken as well.

    Args:
        root: MODEL_ROOT.
    """
    return [(one, "embedded" if one.embedded else root / one.weights) for one in NAMERS]


def namer_of(settings: Settings) -> str:
    """The namer that the settings name, or that goes with their segmenter."""
    if settings.namer is not None:
        return settings.namer
    return DEMO if settings.segmenter == DEMO else DEFAULT_NAMER


def _folder_of(name: str, root: Path) -> Path:
    if name == DEMO:
        return embedded_folder(DEMO_CLIP.name)
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_NAME.fullmatch(name) and (root / name).is_dir():
        return root / name
    if not _HUB_NAME.fullmatch(name):
        raise ConfigError(
            f"--namer: no such folder: {name}, here or in {root}; expected demo, a model of the hub"
            " such as openai/clip-vit-base-patch32, or a folder or file on disk"
        )
    return fetched_folder(name, root / name)


def chooses_words(settings: Settings) -> bool:
    """Whether the namer of the settings takes any words; a classifier knows classes of its own."""
    path = Path(namer_of(settings))
    if any(one.is_file() for one in (path, settings.model_root / path)):
        return False
    folder = next((one for one in (path, settings.model_root / path) if one.is_dir()), None)
    kinds = None if folder is None else read_model_config(folder, "--namer").get("architectures")
    return not any(_CLASSIFIER in str(kind) for kind in kinds or ())


def load_namer(settings: Settings, device: str, classes: Sequence[Words] | None) -> Namer:
    """Load what the settings name.

    Args:
        settings: ``namer`` is ``demo``, ``owner/name`` on the hub, a folder, or a file of an
            Ultralytics classifier.
        device: as ``resolve_device`` gave it.
        classes: what masks may show; None takes those that a classifier knows.

    Raises:
        ConfigError: it is missing, is of another kind, needs names, or its library is missing.
    """
    name = namer_of(settings)
    root = settings.model_root
    file = next((path for path in (Path(name), root / name) if path.is_file()), None)
    if file is not None:
        from backend.models.classifiers import UltralyticsNamer

        return UltralyticsNamer(file, classes, device=device)
    need_transformers("--namer")
    folder = _folder_of(name, root)
    config = read_model_config(folder, "--namer")
    architectures = config.get("architectures")
    kinds = architectures if isinstance(architectures, list) else []
    from backend.models.clip import CLIP_TYPES, ClipNamer

    if config.get("model_type") in CLIP_TYPES and not any(_CLASSIFIER in str(k) for k in kinds):
        if classes is None:
            raise ConfigError(f"--namer {name}: chooses among words; give some with --names a,b,c")
        return ClipNamer(folder, classes, device=device, background=settings.background)
    if any(_CLASSIFIER in str(kind) for kind in kinds):
        from backend.models.classifiers import TransformersNamer

        return TransformersNamer(folder, classes, device=device)
    told = ", ".join(map(str, kinds)) or str(config.get("model_type"))
    raise ConfigError(
        f"--namer {name}: is a {told}; expected a CLIP, a SigLIP or an image classifier"
    )


class Namers:
    """Namers with other words but one model.

    Args:
        settings: see ``load_namer``.
        device: as ``resolve_device`` gave it.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._first: ClipNamer | None = None

    def of(self, classes: Sequence[Words]) -> Namer:
        """One for some classes; see ``load_namer``."""
        from backend.models.clip import ClipNamer

        if self._first is not None:
            return self._first.for_classes(classes)
        made = load_namer(self._settings, self._device, classes)
        if isinstance(made, ClipNamer):
            self._first = made
        return made
