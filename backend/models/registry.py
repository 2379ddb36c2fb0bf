"""The one table of models: name, weights, and the module that loads them.

A new model is one file with ``load`` and one row here, and ``download`` unless its weights are a
folder of the hub. torch is imported only when a model is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from backend.config.models import DEFAULT_CONF, Settings
from backend.core.protocols import BoxSegmenter, Detector, Proposer
from backend.errors import ConfigError
from backend.models.devices import devices_in, resolve_device
from backend.models.tuned import Tuned, conf_of_tuned, is_tuned, read_tuned
from backend.models.weights import (
    DEMO_SAM2,
    DEMO_SAM2_CONFIG,
    DEMO_YOLO,
    embedded_weights,
    fetched_folder,
    fetched_weights,
    find_weights,
    looks_like_file,
)

DEMO = "demo"
_YOLO = "backend.models.yolo"
_SAM2 = "backend.models.sam2.image"
_WORDS = "backend.models.open_vocabulary"
_COCO = "80 of COCO"
_SAM2_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model that is known by name.

    Attributes:
        kind: ``detector`` or ``segmenter``.
        name: what ``--detector`` or ``--segmenter`` is given.
        module: has ``load(path, config, settings, device)`` and ``download(model, path)``.
        weights: name of the file below MODEL_ROOT, or of an embedded one.
        repository: on the hub that the weights come from; empty where the module knows the place.
        config: for the module: a name inside its package, or a file.
        embedded: whether the weights come with this package.
        licence: of the weights, as their publisher says.
        classes: what a detector knows, in words; empty for segmenters.
        listed: whether ``yolosam2 models`` shows it.
        folder: whether the weights are a folder of the hub with other files beside them.
    """

    kind: str
    name: str
    module: str
    weights: str
    repository: str = ""
    config: str | None = None
    embedded: bool = False
    licence: str = "AGPL-3.0"
    classes: str = ""
    listed: bool = True
    folder: bool = False


def _word_models() -> list[Model]:
    """Detectors that look for words."""
    return [
        Model(
            kind="detector",
            name=repository.rpartition("/")[2],
            module=_WORDS,
            weights=f"{repository}/model.safetensors",
            repository=repository,
            licence="Apache-2.0",
            classes="words",
            folder=True,
        )
        for repository in (
            "IDEA-Research/grounding-dino-tiny",
            "IDEA-Research/grounding-dino-base",
            "google/owlv2-base-patch16-ensemble",
            "google/owlv2-large-patch14-ensemble",
        )
    ]


def _yolo_models() -> list[Model]:
    embedded = Model(
        kind="detector",
        name=DEMO,
        module=_YOLO,
        weights=DEMO_YOLO.name,
        embedded=True,
        licence="Apache-2.0",
        classes="6 of generated scenes",
    )
    names = [f"{family}{size}" for family in ("yolov8", "yolo11", "yolo26") for size in "nsmlx"]
    boxes = [
        Model(kind="detector", name=name, module=_YOLO, weights=f"{name}.pt", classes=_COCO)
        for name in names
    ]
    masks = [
        Model(
            kind="detector",
            name=f"{name}-seg",
            module=_YOLO,
            weights=f"{name}-seg.pt",
            classes=_COCO,
            listed=False,
        )
        for name in names
    ]
    return [embedded, *boxes, *masks]


def _sam2_models() -> list[Model]:
    embedded = Model(
        kind="segmenter",
        name=DEMO,
        module=_SAM2,
        weights=DEMO_SAM2.name,
        config=str(DEMO_SAM2_CONFIG),
        embedded=True,
        licence="Apache-2.0",
    )
    published = [
        Model(
            kind="segmenter",
            name=f"{family}_hiera_{size}",
            module=_SAM2,
            weights=f"{family}_hiera_{size}.pt",
            repository=f"facebook/{family}-hiera-{size.replace('_', '-')}",
            config=f"configs/{family}/{family}_hiera_{short}.yaml",
            licence="Apache-2.0",
        )
        for family in ("sam2.1", "sam2")
        for size, short in _SAM2_SIZES.items()
    ]
    return [embedded, *published]


MODELS = {
    (model.kind, model.name): model for model in [*_yolo_models(), *_word_models(), *_sam2_models()]
}
# What is taken where nothing is named: by kind and whether there is only a CPU.
_DEFAULTS = {
    ("detector", True): "yolov8n",
    ("detector", False): "yolov8m",
    ("segmenter", True): "sam2.1_hiera_tiny",
    ("segmenter", False): "sam2.1_hiera_large",
}
# What loads a file that a person named.
_FILE_MODULES = {"detector": _YOLO, "segmenter": _SAM2}


def models_of(kind: str) -> list[Model]:
    """The models of a kind that are shown to people, the embedded one first."""
    return [model for model in MODELS.values() if model.kind == kind and model.listed]


def known_models(root: Path) -> list[tuple[Model, Path | str]]:
    """All models that are shown to people, and where their weights are or would be put.

    Args:
        root: MODEL_ROOT.
    """
    return [
        (model, "embedded" if model.embedded else root / model.weights)
        for kind in ("detector", "segmenter")
        for model in models_of(kind)
    ]


def _name(kind: str, settings: Settings, device: str) -> str:
    named: str | None = getattr(settings, kind)
    for model in MODELS.values():  # the hub calls them by their owner as well
        if model.folder and model.repository == named:
            return model.name
    return named or _DEFAULTS[kind, devices_in(device)[0] == "cpu"]


def missing_weights(settings: Settings, device: str) -> list[Path]:
    """Files of published models that the settings name and that would have to be downloaded."""
    found = (MODELS.get((kind, _name(kind, settings, device))) for kind in _FILE_MODULES)
    paths = [settings.model_root / m.weights for m in found if m is not None and not m.embedded]
    return [path for path in paths if not path.is_file()]


def takes_names(settings: Settings) -> bool:
    """Whether the detector that the settings name may look for words: one of those that do, or a
    file or folder of a person's own.
    """
    model = MODELS.get(("detector", _name("detector", settings, "cpu")))
    return model is None or model.module == _WORDS


def check_names(settings: Settings) -> None:
    """Refuse models that cannot be there, before anything is loaded or fetched.

    Raises:
        ConfigError: an unknown name, or a file that is missing.
    """
    for kind in _FILE_MODULES:
        name = getattr(settings, kind)
        if name is None or (kind, name := _name(kind, settings, "cpu")) in MODELS:
            continue
        if not looks_like_file(name) and not _is_folder(kind, name, settings.model_root):
            raise ConfigError(_unknown(kind, name))
        _find(kind, name, settings.model_root)


def _tuned_folder(kind: str, name: str, root: Path) -> Path | None:
    """The folder of a run that tuned a model of this kind, where the name is one."""
    places = (Path(name), root / name)
    return next((path for path in places if is_tuned(path, kind)), None)


def _is_folder(kind: str, name: str, root: Path) -> bool:
    if _tuned_folder(kind, name, root) is not None:
        return True
    return kind == "detector" and any(path.is_dir() for path in (Path(name), root / name))


def _find(kind: str, name: str, root: Path) -> Path:
    """The weights that a person named; those of a detector may be a folder."""
    run = _tuned_folder(kind, name, root)
    if run is not None:
        return read_tuned(run, kind).path
    if kind == "segmenter" and any(path.is_dir() for path in (Path(name), root / name)):
        raise ConfigError(f"--segmenter: {name}: holds no tuned segmenter, such as finetune makes")
    return find_weights(name, root, f"--{kind}", folders=kind == "detector")


def _unknown(kind: str, name: str) -> str:
    names = ", ".join(one.name for one in models_of(kind))
    return f"--{kind}: unknown model {name!r}; known are {names}, or a file"


def _place(kind: str, settings: Settings, device: str) -> tuple[Model | None, Path, str | None]:
    """The row of a model, its weights, which are fetched where they must be, and what its module
    needs beside them.
    """
    name = _name(kind, settings, device)
    model = MODELS.get((kind, name))
    config = settings.segmenter_config if kind == "segmenter" else None
    if model is not None and model.embedded:
        path = embedded_weights(model.weights)
        config = model.config
    elif model is not None and model.folder:
        path = fetched_folder(model.repository, settings.model_root / model.repository)
    elif model is not None:
        module = import_module(model.module)
        path = fetched_weights(
            settings.model_root / model.weights, name, lambda to: module.download(model, to)
        )
        config = config or model.config
    elif looks_like_file(name) or _is_folder(kind, name, settings.model_root):
        path = _find(kind, name, settings.model_root)
        config = config or _config_of(kind, name, path, settings.model_root)
    else:
        raise ConfigError(_unknown(kind, name))
    return model, path, config


def _load(kind: str, settings: Settings, device: str) -> Any:
    model, path, config = _place(kind, settings, device)
    own = _WORDS if kind == "detector" and path.is_dir() else _FILE_MODULES[kind]
    module = import_module(model.module if model is not None else own)
    return module.load(path, config, settings, device)


def _config_of(kind: str, name: str, path: Path, root: Path) -> str | None:
    """What a file's module needs beside it, where its name or its run tells."""
    run = _tuned_folder(kind, name, root)
    if run is not None:
        tuned = read_tuned(run, kind)
        base = MODELS.get((kind, tuned.base))
        return tuned.config or (base.config if base is not None else None)
    published = MODELS.get((kind, path.stem))
    return published.config if published is not None else None


def licence_of(kind: str, name: str) -> str | None:
    """The licence of a model's weights, and of what is made from them; None where it is not known
    by name.
    """
    model = MODELS.get((kind, name))
    return None if model is None else model.licence


def is_published(kind: str, name: str) -> bool:
    """Whether a model is known by name."""
    return (kind, name) in MODELS


def segmenter_recipe(settings: Settings) -> tuple[str, str | None]:
    """The name of the segmenter that the settings name, and what its module needs beside its
    weights. A tuned one goes by its base.
    """
    name = _name("segmenter", settings, resolve_device(settings.device))
    model = MODELS.get(("segmenter", name))
    if model is not None:
        return name, model.config if model.embedded else settings.segmenter_config or model.config
    root = settings.model_root
    path = _find("segmenter", name, root)
    config = settings.segmenter_config or _config_of("segmenter", name, path, root)
    run = _tuned_folder("segmenter", name, root)
    return (name if run is None else read_tuned(run, "segmenter").base), config


def weights_of(kind: str, settings: Settings) -> Path:
    """The weights of the model of a kind that the settings name; a folder where they are one."""
    return _place(kind, settings, resolve_device(settings.device))[1]


def detector_file(settings: Settings) -> tuple[str, Path]:
    """The name and the weights of the detector that the settings name. A tuned one goes by its
    base.

    Raises:
        ConfigError: there is none, or it is no file of Ultralytics.
    """
    device = resolve_device(settings.device)
    model, path, _ = _place("detector", settings, device)
    if path.is_dir() or (model is not None and model.module != _YOLO):
        raise ConfigError("--detector: only a YOLO of Ultralytics can be fine-tuned")
    tuned = tuned_of("detector", settings)
    return _name("detector", settings, device) if tuned is None else tuned.base, path


def tuned_of(kind: str, settings: Settings) -> Tuned | None:
    """The tuned model that the settings name; None where they name another."""
    name = getattr(settings, kind)
    run = None if name is None else _tuned_folder(kind, name, settings.model_root)
    return None if run is None else read_tuned(run, kind)


def conf_of(settings: Settings) -> float:
    """The lowest score of a detection that is kept: as a person said, else as a tuned detector was
    found to be best with, else the usual one.
    """
    if settings.conf is not None:
        return settings.conf
    tuned = conf_of_tuned(tuned_of("detector", settings))
    return DEFAULT_CONF if tuned is None else tuned


def load_detector(settings: Settings, device: str) -> Detector:
    """Load the detector that the settings name.

    Args:
        settings: ``detector`` is ``demo``, a name of the table, a file of Ultralytics, or a folder
            of a detector that looks for words.
        device: as ``resolve_device`` gave it.

    Raises:
        ConfigError: an unknown name, a missing file, or weights that do not load.
    """
    settings = replace(settings, conf=conf_of(settings))
    devices = devices_in(device)
    if len(devices) > 1:
        from backend.models.lanes import DetectorLanes

        return DetectorLanes([_load("detector", settings, one) for one in devices], devices)
    detector: Detector = _load("detector", settings, device)
    return detector


def load_proposer(settings: Settings, segmenter: BoxSegmenter) -> Proposer:
    """What outlines everything, with the weights of a segmenter.

    Args:
        settings: points, crops and thresholds.
        segmenter: loaded before, to be shared.

    Raises:
        ConfigError: it answers no points, or the settings do not fit together.
    """
    from backend.models.sam2.automatic import Sam2Proposer
    from backend.models.sam2.image import Sam2Segmenter

    if not isinstance(segmenter, Sam2Segmenter):
        raise ConfigError("--segmenter: automatic masks need a SAM 2")
    return Sam2Proposer(segmenter, settings)


def load_segmenter(settings: Settings, device: str) -> BoxSegmenter:
    """Load the segmenter that the settings name; see ``load_detector``.

    Raises:
        ConfigError: also for a checkpoint that does not fit its configuration, naming both.
    """
    segmenter: BoxSegmenter = _load("segmenter", settings, device)
    return segmenter
