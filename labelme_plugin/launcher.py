"""labelme with the cascade among its AI models. Experimental: labelme has no interface for this, so private names of one version are used.

What is relied on, seen in labelme 6.3.1 with osam 0.8.1: osam's list ``registered_model_types``; the menus' ``_available_models``; that text prompts
arrive as ``request.prompt.texts`` and clicks as points with SAM's labels; that the image comes in the order of Qt's memory, blue first; and that an
exception closes the window, so that none may leave here. Importing labelme makes this file, and only this file, subject to its GPL-3.0.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, ClassVar

import numpy as np

from backend.errors import ConfigError, LabelingError
from backend.types import Image
from labelme_plugin.assistant import Answer, Assistant

logger = logging.getLogger(__name__)

MODEL_ID = "yolo-sam2:latest"
MODEL_NAME = "YOLO \N{RIGHTWARDS ARROW} SAM 2"
_KNOWN = (6, 3)  # labelme versions whose insides are as described above
_MOST_NAMES = 12  # typed into the text field beforehand
_MESSAGE_MS = 8000


def check_version(version: str) -> None:
    """Refuse a labelme whose insides are not known.

    Raises:
        ConfigError: with what works instead.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers != _KNOWN:
        raise ConfigError(
            f"labelme {version} is installed; this experimental launcher knows labelme {'.'.join(map(str, _KNOWN))} only "
            "(pip install 'labelme>=6.3,<6.4'). Its files work with every labelme: yolosam2 annotate PICTURES --out PICTURES, then open the folder"
        )


def installed_version() -> str:
    """The version of the labelme that would start.

    Raises:
        ConfigError: there is none.
    """
    try:
        return metadata.version("labelme")
    except metadata.PackageNotFoundError:
        raise ConfigError("labelme is not installed; pip install 'yolo-sam2-labeling[labelme]', or 'labelme>=6.3,<6.4'") from None


def image_of(pixels: np.ndarray) -> Image:
    """The picture as RGB from what labelme hands over: Qt's memory, blue first, or a single grey channel.

    Args:
        pixels: (H, W, C) or (H, W) uint8.
    """
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        grey = pixels if pixels.ndim == 2 else pixels[:, :, 0]
        return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, 2))
    return np.ascontiguousarray(pixels[:, :, 2::-1])


def _tell(message: str) -> None:
    """A line in the status bar of labelme's window, and in the log."""
    from PyQt5 import QtWidgets

    logger.info("%s", message)
    for window in QtWidgets.QApplication.topLevelWidgets():
        if isinstance(window, QtWidgets.QMainWindow) and (bar := window.statusBar()) is not None:
            bar.showMessage(message, _MESSAGE_MS)


def _answers(assistant: Assistant, prompt: Any, image: Image) -> list[Answer]:
    """What the cascade says to a prompt; nothing, and why in the status bar, where it cannot."""
    try:
        if prompt.points is not None:
            return assistant.by_points(image, prompt.points, prompt.point_labels.tolist())
        answers, unknown = assistant.by_text(image, prompt.texts)
        if unknown or not "".join(prompt.texts).strip():
            shown = ", ".join(assistant.names[:30])
            _tell(f"{MODEL_NAME}: " + (f"no class {', '.join(unknown)}; " if unknown else "type names of classes; ") + f"known are {shown}")
        else:
            found = Counter(answer.text for answer in answers)
            _tell(f"{MODEL_NAME}: found " + (", ".join(f"{n} {text}" for text, n in found.items()) or f"none of {', '.join(prompt.texts)}"))
        return answers
    except LabelingError as error:
        _tell(f"{MODEL_NAME}: {error}")
    except Exception as error:
        logger.exception("unexpected error")
        _tell(f"{MODEL_NAME}: unexpected {type(error).__name__}: {str(error)[:200]}")
    return []


def _model_type(assistant: Assistant) -> type:
    """The cascade as one of osam's models."""
    from osam import types
    from PyQt5 import QtCore, QtWidgets

    class YoloSam2(types.Model):  # type: ignore[misc]
        name = MODEL_ID
        metadata = types.ModelMetadata(license_name="of the models that were loaded", license_url="", source_url="")
        _blobs: ClassVar[dict[str, Any]] = {}  # nothing to download

        def __init__(self) -> None:
            return

        def generate(self, request: types.GenerateRequest) -> types.GenerateResponse:
            QtWidgets.QApplication.setOverrideCursor(QtCore.Qt.CursorShape.WaitCursor)
            try:
                answers = _answers(assistant, request.prompt, image_of(request.image))
            finally:
                QtWidgets.QApplication.restoreOverrideCursor()
            annotations = []
            for answer in answers:
                left, top, right, bottom = answer.box
                box = types.BoundingBox(xmin=left, ymin=top, xmax=right, ymax=bottom)
                annotations.append(types.Annotation(bounding_box=box, text=answer.text, score=answer.score, mask=answer.mask.crop))
            return types.GenerateResponse(model=self.name, annotations=annotations)

    return YoloSam2


def _wrapped(method: Callable[..., None], after: Callable[[Any], None], **given: Any) -> Callable[..., None]:
    """A method with some arguments replaced, and something done after it."""

    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        method(self, *args, **{**kwargs, **given})
        after(self)

    return call


def register(assistant: Assistant) -> None:
    """Put the cascade into labelme's menus, chosen there, with masks as output and the names of its classes typed in.

    Raises:
        ConfigError: labelme's insides are not what they were.
    """
    import osam
    from labelme.widgets import AiAssistedAnnotationWidget, AiTextToAnnotationWidget

    def choose(widget: Any) -> None:
        widget._model_combo.setCurrentIndex(-1)  # the canvas hears of a choice only when it changes, and ours is the first
        widget._model_combo.setCurrentIndex(widget._model_combo.findData(MODEL_ID))
        widget._output_format_combo.setCurrentIndex(widget._output_format_combo.findData("mask"))

    def type_names(widget: Any) -> None:
        names = [name for name in assistant.names if "," not in name]
        if len(names) <= _MOST_NAMES:
            widget._text_input.setText(",".join(names))
        widget._text_input.setToolTip(", ".join(names))

    try:
        osam.apis.registered_model_types.append(_model_type(assistant))
        for menu in (AiAssistedAnnotationWidget, AiTextToAnnotationWidget):
            menu._available_models = [(MODEL_ID, MODEL_NAME), *menu._available_models]
        AiTextToAnnotationWidget._default_model_name = MODEL_ID
        AiAssistedAnnotationWidget.__init__ = _wrapped(AiAssistedAnnotationWidget.__init__, choose, default_model=MODEL_NAME)
        AiTextToAnnotationWidget.__init__ = _wrapped(AiTextToAnnotationWidget.__init__, type_names)
    except AttributeError as error:
        raise ConfigError(f"labelme {installed_version()} is built differently from what this launcher knows: {error}") from None


def launch(assistant: Assistant, arguments: Sequence[str]) -> int:
    """Start labelme's window and return when it is closed.

    Args:
        assistant: answers the prompts.
        arguments: of labelme's own command line.

    Returns:
        labelme's exit code.

    Raises:
        ConfigError: no labelme, or one that is not known.
    """
    check_version(installed_version())
    import cv2  # noqa: F401 - sets the variable below to a folder of Qt plugins that PyQt5 cannot load

    os.environ.pop("QT_QPA_PLATFORM_PLUGIN_PATH", None)
    register(assistant)
    from labelme.__main__ import main

    sys.argv = ["labelme", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0
