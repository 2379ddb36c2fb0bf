"""The one table of models: name, weights, and the module that loads them.

A new model is one file with ``load`` and one row here, and ``download`` unless its weights are a
folder of the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG, DEMO_YOLO

DEMO = "demo"
YOLO = "backend.models.yolo"
_SAM2 = "backend.models.sam2.image"
WORDS = "backend.models.open_vocabulary"
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
            module=WORDS,
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
        module=YOLO,
        weights=DEMO_YOLO.name,
        embedded=True,
        licence="Apache-2.0",
        classes="6 of generated scenes",
    )
    names = [f"{family}{size}" for family in ("yolov8", "yolo11", "yolo26") for size in "nsmlx"]
    boxes = [
        Model(kind="detector", name=name, module=YOLO, weights=f"{name}.pt", classes=_COCO)
        for name in names
    ]
    masks = [
        Model(
            kind="detector",
            name=f"{name}-seg",
            module=YOLO,
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
DEFAULTS = {
    ("detector", True): "yolov8n",
    ("detector", False): "yolov8m",
    ("segmenter", True): "sam2.1_hiera_tiny",
    ("segmenter", False): "sam2.1_hiera_large",
}
# What loads a file that a person named.
FILE_MODULES = {"detector": YOLO, "segmenter": _SAM2}


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


def licence_of(kind: str, name: str) -> str | None:
    """The licence of a model's weights, and of what is made from them; None where it is not known
    by name.
    """
    model = MODELS.get((kind, name))
    return None if model is None else model.licence


def is_published(kind: str, name: str) -> bool:
    """Whether a model is known by name."""
    return (kind, name) in MODELS
