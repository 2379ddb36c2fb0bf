"""Models by what settings say: a name of the table, a file or folder of a person's own, or a folder
of a run that tuned one. torch is imported only when a model is loaded.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from backend.config.models import DEFAULT_CONF, Settings
from backend.core.protocols import BoxSegmenter, Detector, Proposer
from backend.errors import ConfigError
from backend.models.devices import devices_in, resolve_device
from backend.models.table import DEFAULTS, FILE_MODULES, MODELS, WORDS, YOLO, Model, models_of
from backend.models.tuned import Tuned, conf_of_tuned, is_tuned, read_tuned
from backend.models.weights import (
    embedded_weights,
    fetched_folder,
    fetched_weights,
    find_weights,
    looks_like_file,
)


def _name(kind: str, settings: Settings, device: str) -> str:
    named: str | None = getattr(settings, kind)
    for model in MODELS.values():  # the hub calls them by their owner as well
        if model.folder and model.repository == named:
            return model.name
    return named or DEFAULTS[kind, devices_in(device)[0] == "cpu"]


def missing_weights(settings: Settings, device: str) -> list[Path]:
    """Files of published models that the settings name and that would have to be downloaded."""
    found = (MODELS.get((kind, _name(kind, settings, device))) for kind in FILE_MODULES)
    paths = [settings.model_root / m.weights for m in found if m is not None and not m.embedded]
    return [path for path in paths if not path.is_file()]


def takes_names(settings: Settings) -> bool:
    """Whether the detector that the settings name may look for words: one of those that do, or a
    file or folder of a person's own.
    """
    model = MODELS.get(("detector", _name("detector", settings, "cpu")))
    return model is None or model.module == WORDS


def check_names(settings: Settings) -> None:
    """Refuse models that cannot be there, before anything is loaded or fetched.

    Raises:
        ConfigError: an unknown name, or a file that is missing.
    """
    for kind in FILE_MODULES:
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
    own = WORDS if kind == "detector" and path.is_dir() else FILE_MODULES[kind]
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
    if path.is_dir() or (model is not None and model.module != YOLO):
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
