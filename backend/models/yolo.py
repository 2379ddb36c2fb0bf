"""The Ultralytics detector behind the ``Detector`` protocol: arrays in, arrays out, no network, no
surprises.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import PIL.Image

from backend.config.models import DEFAULT_CONF, Settings
from backend.core.naming import Words
from backend.core.types import Detections, Image
from backend.errors import ConfigError
from backend.models.openvino import is_wanted

if TYPE_CHECKING:
    from backend.models.table import Model
    from backend.models.yolo_direct import DirectYolo

_TASKS = ("detect", "segment")
_OPEN = ("YOLOWorld", "YOLOE")  # that look for words
_CHECKPOINT = b"PK\x03\x04"  # torch writes its files as ZIP archives
_SAFE_LOAD = "ULTRALYTICS_SAFE_LOAD"  # whether weights may hold Ultralytics' own classes alone


def quiet_ultralytics(offline: bool) -> None:
    """Keep Ultralytics from installing packages, running code of weights, sending events and, if
    ``offline``, from any use of the network.

    It reads these variables when it is first imported, so this comes before every import of it.
    ``offline`` is False only where a person named a model that has to be downloaded.
    """
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_OFFLINE"] = "true" if offline else "false"
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault(_SAFE_LOAD, "true")
    from ultralytics.nn import tasks
    from ultralytics.utils import env_bool, events, patches

    # Whoever imported it before us left it as it is by default, which runs code.
    tasks.SAFE_LOAD = env_bool(_SAFE_LOAD)
    events.events.enabled = False
    # Its import replaces Pillow's `open` for the whole process by one that installs a decoder for
    # whatever Pillow refuses.
    PIL.Image.open = patches._image_open


def load_ultralytics(path: Path, tasks: Sequence[str]) -> Any:
    """The ``ultralytics.YOLO`` in a file, without running code in it.

    Args:
        path: weights.
        tasks: of which one must be the model's.

    Raises:
        ConfigError: the file does not load, or is for another task.
    """
    quiet_ultralytics(offline=True)
    from ultralytics import YOLO

    try:
        model = YOLO(str(path))
        task = str(model.task)
        dict(model.names)
    except Exception as error:  # unpickling foreign files raises anything
        raise ConfigError(_why_not_loaded(path, error)) from None
    if task not in tasks:
        raise ConfigError(
            f"{path}: is a YOLO model for {task}, expected one for {' or '.join(tasks)}"
        )
    return model


class YoloDetector:
    """A YOLO model with its thresholds.

    Args:
        path: weights of an Ultralytics detection or segmentation model. A ``.pt`` is loaded without
            running code in it, unless the environment has ``ULTRALYTICS_SAFE_LOAD=false``.
        device: torch device.
        conf: detections below are dropped, 0..1.
        iou: of non-maximum suppression, 0..1.
        max_det: most detections per image.
        agnostic_nms: whether detections of different classes suppress each other.
        classes: names to keep, or None for all.
        words: what a YOLO-World or YOLOE looks for; others do not read it.
        root: where the text model of YOLO-World is, see ``yolo_words``.
        runtime: ``torch``, or ``openvino`` or ``auto``, see ``openvino.is_wanted``.

    Raises:
        ConfigError: the file does not load, is for another task, or has none of the classes.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        agnostic_nms: bool = False,
        classes: Sequence[str] | None = None,
        words: Sequence[Words] | None = None,
        root: Path = Path(),
        runtime: str = "torch",
    ) -> None:
        self._model = load_ultralytics(path, _TASKS)
        self._names = {int(k): str(v) for k, v in self._model.names.items()}
        self._class_of: np.ndarray | None = None  # by the number of a word
        told = ""
        if words is not None and type(self._model).__name__ in _OPEN:
            from backend.models.yolo_words import look_for

            told = look_for(self._model, path, [w for one in words for w in one.all], root)
            self._names = {k: one.name for k, one in enumerate(words)}
            told += repr([(one.name, one.all) for one in words])
            self._class_of = np.repeat(np.arange(len(words)), [len(one.all) for one in words])
        kept = self._class_ids(path, classes)
        if kept is not None and self._class_of is not None:
            kept = np.flatnonzero(np.isin(self._class_of, kept)).tolist()
        self._options: dict[str, Any] = {
            "conf": conf,
            "iou": iou,
            "max_det": max_det,
            "classes": kept,
            "device": device,
            "verbose": False,
            "save": False,
        }
        self._direct: DirectYolo | Literal[False] | None = None  # None until it is needed
        if agnostic_nms:
            self._options["agnostic_nms"] = True
        # What looks for words has other weights with other words.
        self._is_converted = not told and is_wanted(runtime, device)
        self._digest = sha256(path.read_bytes()).hexdigest()
        stable = (
            f"{sorted(self._options.items(), key=str)}".replace(device, "") + self._digest + told
        )
        self._version = f"{path.stem}-{sha256(stable.encode()).hexdigest()[:8]}"

    def _class_ids(self, path: Path, classes: Sequence[str] | None) -> list[int] | None:
        if classes is None:
            return None
        ids = {name: k for k, name in self._names.items()}
        missing = [name for name in classes if name not in ids]
        if missing:
            raise ConfigError(
                f"--classes: {', '.join(missing)} not among the classes of {path.name}:"
                f" {', '.join(self._names.values())}"
            )
        return [ids[name] for name in classes]

    @property
    def names(self) -> Mapping[int, str]:
        """Class index to name, of all classes the model knows."""
        return self._names

    @property
    def version(self) -> str:
        """Name, weights and thresholds in one short string."""
        return self._version

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Find objects.

        Images of one shape go through the model together; those of another shape separately,
        because padding to a common shape would make an image's result depend on its neighbours in
        the batch.

        Args:
            images: RGB uint8 (H, W, 3), any sizes.

        Returns:
            Detections per image, scores descending, boxes clipped to the image.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for k, image in enumerate(images):
            groups.setdefault(image.shape, []).append(k)
        if self._direct is None:
            self._direct = self._set_up()
        found: dict[int, Detections] = {}
        for members in groups.values():
            rows = self._rows_of([images[k] for k in members])
            for k, of_image in zip(members, rows, strict=True):
                numbers = of_image[:, 5].astype(np.int64)
                found[k] = Detections(
                    np.ascontiguousarray(of_image[:, :4]),
                    numbers if self._class_of is None else self._class_of[numbers],
                    np.ascontiguousarray(of_image[:, 4]),
                )
        return [found[k] for k in range(len(images))]

    def _rows_of(self, images: Sequence[Image]) -> list[np.ndarray]:
        """Box, score and class of what is in images of one shape, (N, 6) float32 each."""
        if self._direct:
            return self._direct.detect(images)
        bgr = [cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in images]
        results = self._model.predict(bgr, **self._options)
        return [one.boxes.data[:, :6].float().cpu().numpy() for one in results]

    def _set_up(self) -> DirectYolo | Literal[False]:
        """What a GPU is fed with; False for a model that only its own predictor understands, and
        for a CPU, where a predictor may run its network through OpenVINO.
        """
        if self._options["device"].startswith("cuda"):
            return self._without_predictor()
        if self._is_converted:
            from backend.models.yolo_parts import run_in_parts

            run_in_parts(self._predictor(), self._digest[:8])
        return False

    def _without_predictor(self) -> DirectYolo | Literal[False]:
        from backend.models.yolo_direct import DirectYolo, can_go_direct

        predictor = self._predictor()
        return DirectYolo(predictor) if can_go_direct(predictor) else False

    def _predictor(self) -> Any:
        """The model's own, set up."""
        self._model.predict([np.zeros((32, 32, 3), np.uint8)], **self._options)
        return self._model.predictor


def _why_not_loaded(path: Path, error: Exception) -> str:
    cause = error.__cause__ or error
    with path.open("rb") as file:
        is_checkpoint = file.read(len(_CHECKPOINT)) == _CHECKPOINT
    if isinstance(cause, UnpicklingError) and is_checkpoint:
        return (
            f"{path}: holds code besides a model of Ultralytics. If you trust whoever made it, set"
            f" {_SAFE_LOAD}=false, and loading it runs that code"
        )
    if isinstance(cause, UnpicklingError | EOFError) or not path.stat().st_size:
        return f"{path}: is not a YOLO model: it is no file of weights of PyTorch"
    reason = (str(cause).splitlines() or [""])[0][:160]
    return (
        f"{path}: is not a YOLO model that Ultralytics can load: {type(cause).__name__}: {reason}"
    )


def download(model: Model, path: Path) -> None:
    """Fetch published weights, because a person named the model."""
    quiet_ultralytics(offline=False)
    from ultralytics.utils.downloads import attempt_download_asset

    attempt_download_asset(str(path))


def load(path: Path, config: str | None, settings: Settings, device: str) -> YoloDetector:
    """The detector in a file; see ``YoloDetector``.

    Args:
        path: weights.
        config: not used; YOLO files hold their own.
        settings: thresholds and classes.
        device: torch device.
    """
    return YoloDetector(
        path,
        device=device,
        conf=DEFAULT_CONF if settings.conf is None else settings.conf,
        iou=settings.iou,
        max_det=settings.max_det,
        agnostic_nms=settings.agnostic_nms,
        classes=settings.classes,
        words=settings.names,
        root=settings.model_root,
        runtime=settings.runtime,
    )
