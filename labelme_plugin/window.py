"""labelme with the cascade among its AI models.

Experimental: labelme has no interface for this, so private names of one version are used.

What is relied on, seen in labelme 6.3.1 with osam 0.8.1: osam's list ``registered_model_types``;
the menus' ``_available_models``; that text prompts arrive as ``request.prompt.texts`` and clicks as
points with SAM's labels; that ``labelme.utils.img_qt_to_arr`` makes the image of a prompt. An
exception closes the window with unsaved work in it, so that none may leave its AI tools, whoever
raises it. Importing labelme makes this file, and only this file, subject to its GPL-3.0.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from backend.errors import ConfigError, LabelingError
from labelme_plugin.assistant import Assistant, AssistedMask
from labelme_plugin.display import check_display
from labelme_plugin.pixels import image_of, pixels_of

if TYPE_CHECKING:
    from backend.labeling.by_words import WindowModels

logger = logging.getLogger(__name__)

MODEL_ID = "yolo-sam2:latest"
MODEL_NAME = "YOLO \N{RIGHTWARDS ARROW} SAM 2"
_KNOWN = (6, 3)  # labelme versions whose insides are as described above
_AI_MODES = ("ai_points_to_shape", "ai_box_to_shape")
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
            f"labelme {version} is installed; this experimental launcher knows labelme"
            f" {'.'.join(map(str, _KNOWN))} only (pip install 'labelme>=6.3,<6.4'). Its files work"
            " with every labelme: yolosam2 annotate PICTURES --out PICTURES, then open the folder"
        )


def installed_version() -> str:
    """The version of the labelme that would start.

    Raises:
        ConfigError: there is none.
    """
    try:
        return metadata.version("labelme")
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "labelme is not installed; pip install 'yolo-sam2-labeling[labelme]', or"
            " 'labelme>=6.3,<6.4'"
        ) from None


class _NothingFound(Exception):
    """A text prompt has no answer, and labelme must not be told so: it would save the file as
    changed, or an empty one, and forget a step of undo.
    """


def _tell(message: str) -> None:
    """A line in the status bar of labelme's window, and in the log.

    Shown after whatever labelme itself says to the same event.
    """
    from PyQt5 import QtCore, QtWidgets

    logger.info("%s", message)
    for window in QtWidgets.QApplication.topLevelWidgets():
        if isinstance(window, QtWidgets.QMainWindow) and (bar := window.statusBar()) is not None:
            bar.showMessage(message, _MESSAGE_MS)
            QtCore.QTimer.singleShot(0, partial(bar.showMessage, message, _MESSAGE_MS))


def _tell_error(error: Exception) -> None:
    if not isinstance(error, LabelingError):
        logger.error("unexpected error", exc_info=error)
    _tell(
        f"{MODEL_NAME}: "
        + (
            str(error)
            if isinstance(error, LabelingError)
            else f"unexpected {type(error).__name__}: {str(error)[:200]}"
        )
    )


def _answers(assistant: Assistant, prompt: Any, pixels: np.ndarray) -> list[AssistedMask]:
    """What the cascade says to a prompt.

    Raises:
        _NothingFound: a text prompt without an answer; why is in the status bar.
    """
    image = image_of(pixels)
    if prompt.points is not None:
        try:
            return assistant.by_points(image, prompt.points, prompt.point_labels.tolist())
        except Exception as error:
            _tell_error(error)
            return []
    answers, unknown = assistant.by_text(image, prompt.texts)
    if not answers and (unknown or not "".join(prompt.texts).strip()):
        shown = ", ".join(assistant.names[:30])
        _tell(
            f"{MODEL_NAME}: "
            + (f"no class {', '.join(unknown)}; " if unknown else "type names of classes; ")
            + f"known are {shown}"
        )
    elif not answers:
        _tell(f"{MODEL_NAME}: found none of {', '.join(prompt.texts)}")
    if not answers:
        raise _NothingFound
    return answers


def _model_type(assistant: Assistant) -> type:
    """The cascade as one of osam's models."""
    from osam import types
    from PyQt5 import QtCore, QtWidgets

    class YoloSam2(types.Model):  # type: ignore[misc]
        name = MODEL_ID
        metadata = types.ModelMetadata(
            license_name="of the models that were loaded", license_url="", source_url=""
        )
        _blobs: ClassVar[dict[str, Any]] = {}  # nothing to download

        def __init__(self) -> None:
            return

        def generate(self, request: types.GenerateRequest) -> types.GenerateResponse:
            QtWidgets.QApplication.setOverrideCursor(QtCore.Qt.CursorShape.WaitCursor)
            try:
                answers = _answers(assistant, request.prompt, request.image)
            finally:
                QtWidgets.QApplication.restoreOverrideCursor()
            annotations = []
            for answer in answers:
                left, top, right, bottom = answer.box
                box = types.BoundingBox(xmin=left, ymin=top, xmax=right, ymax=bottom)
                annotations.append(
                    types.Annotation(
                        bounding_box=box,
                        text=answer.text,
                        score=answer.score,
                        mask=answer.mask.crop,
                    )
                )
            return types.GenerateResponse(model=self.name, annotations=annotations)

    return YoloSam2


def _wrapped(
    method: Callable[..., None], after: Callable[[Any], None], **given: Any
) -> Callable[..., None]:
    """A method with some arguments replaced, and something done after it."""

    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        method(self, *args, **{**kwargs, **given})
        after(self)

    return call


def _safe_submit(
    submit: Callable[..., None], made: Counter[str], assistant: Assistant
) -> Callable[..., None]:
    """What *Run* does: it works whatever tool is chosen, and tells what came of it.

    Args:
        submit: labelme's own.
        assistant: answers.
        made: is filled with what labelme shows, after it dropped what overlaps.
    """

    def call(window: Any, checked: bool) -> None:
        if window._image_path is None:
            _tell(f"{MODEL_NAME}: no picture is open")
            return
        canvas = window._canvas_widgets.canvas
        mode = canvas.create_mode
        made.clear()
        try:
            if window._ai_text.get_model_name() == MODEL_ID and mode not in _AI_MODES:
                canvas.create_mode = _AI_MODES[0]  # the shape chosen there, whatever the mode is
            submit(window, checked)
        except _NothingFound:
            return
        except Exception as error:
            _tell_error(error)
        else:
            shown = ", ".join(f"{n} {text}" for text, n in made.items())
            more = assistant.n_found - made.total()
            told = f"; labelme left out {more} that overlap others, or are too many" if more else ""
            if made:
                _tell(f"{MODEL_NAME}: found {shown}{told}")
            else:
                _tell(f"{MODEL_NAME}: found nothing that is not there already")
        finally:
            canvas.create_mode = mode

    return call


def _guard(assistant: Assistant) -> None:
    """Keep what goes wrong in labelme's AI tools from closing the window, and what they make free
    of labelme's own slips.
    """
    import labelme.app
    from labelme import _automation
    from labelme.widgets import AiTextToAnnotationWidget
    from labelme.widgets.canvas import Canvas

    outline = Canvas._shapes_from_ai_points
    typed = AiTextToAnnotationWidget.get_text_prompt
    make_shapes = _automation.shapes_from_detections

    made: Counter[str] = Counter()  # by the prompt in hand

    def safe_outline(canvas: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return outline(canvas, *args, **kwargs)
        except Exception as error:
            _tell_error(error)
            return []

    def spelled(widget: Any) -> str:
        text = str(typed(widget))
        return (
            text
            if widget.get_model_name() != MODEL_ID
            else ",".join(assistant.spelled(text.split(",")))
        )

    def shapes_with_flags(*args: Any, **kwargs: Any) -> Any:
        shapes = make_shapes(*args, **kwargs)
        for shape in shapes:
            shape.flags = shape.flags or {}  # null crashes labelme 5.5
            made[shape.label] += 1
        return shapes

    def always_enabled(widget: Any, enabled: bool) -> None:
        widget._body.setEnabled(True)  # else it is grey until a tool to draw with is chosen

    AiTextToAnnotationWidget.setEnabled = always_enabled
    window = labelme.app.MainWindow
    window._submit_ai_prompt = _safe_submit(window._submit_ai_prompt, made, assistant)
    Canvas._shapes_from_ai_points = safe_outline
    AiTextToAnnotationWidget.get_text_prompt = spelled
    _automation.shapes_from_detections = shapes_with_flags


def register(assistant: Assistant, iou: float = 0.7) -> None:
    """Put the cascade into labelme's menus, chosen there, with masks as output and the names of its
    classes typed in.

    Args:
        assistant: answers the prompts.
        iou: overlap above which labelme drops the less sure of two answers to a text.

    Raises:
        ConfigError: labelme's insides are not what they were.
    """
    import labelme.app
    import labelme.utils
    import osam
    from labelme.widgets import AiAssistedAnnotationWidget, AiTextToAnnotationWidget

    def choose(widget: Any) -> None:
        widget._model_combo.setCurrentIndex(
            -1
        )  # the canvas hears of a choice only when it changes, and ours is the first
        widget._model_combo.setCurrentIndex(widget._model_combo.findData(MODEL_ID))
        widget._output_format_combo.setCurrentIndex(widget._output_format_combo.findData("mask"))

    def type_names(widget: Any) -> None:
        names = [name for name in assistant.names if "," not in name]
        if len(names) <= _MOST_NAMES:
            widget._text_input.setText(",".join(names))
        tip = ", ".join(names)
        if assistant.takes_words:
            tip = f"any words, such as: ball, red box|carton\n{tip}".strip()
        widget._text_input.setToolTip(tip)

    new_dialog = labelme.app.LabelDialog.__init__

    def with_names(dialog: Any, *args: Any, labels: Any = None, **kwargs: Any) -> None:
        known = list(labels or ())
        offered = [*known, *(name for name in assistant.names if name not in known)]
        new_dialog(dialog, *args, labels=offered, **kwargs)

    try:
        labelme.app.LabelDialog.__init__ = with_names
        osam.apis.registered_model_types.append(_model_type(assistant))
        for menu in (AiAssistedAnnotationWidget, AiTextToAnnotationWidget):
            menu._available_models = [(MODEL_ID, MODEL_NAME), *menu._available_models]
        AiTextToAnnotationWidget._default_model_name = MODEL_ID
        AiTextToAnnotationWidget._default_score_threshold = 0.0  # the detector has its own
        AiTextToAnnotationWidget._default_iou_threshold = iou
        AiAssistedAnnotationWidget.__init__ = _wrapped(
            AiAssistedAnnotationWidget.__init__, choose, default_model=MODEL_NAME
        )
        AiTextToAnnotationWidget.__init__ = _wrapped(AiTextToAnnotationWidget.__init__, type_names)
        _guard(assistant)
        labelme.utils.img_qt_to_arr = pixels_of
    except AttributeError as error:
        raise ConfigError(
            f"labelme {installed_version()} is built differently from what this launcher knows:"
            f" {error}"
        ) from None


def launch(assistant: Assistant, arguments: Sequence[str], iou: float = 0.7) -> int:
    """Start labelme's window and return when it is closed.

    Args:
        assistant: answers the prompts.
        arguments: of labelme's own command line.
        iou: see ``register``.

    Returns:
        labelme's exit code.

    Raises:
        ConfigError: no labelme, or one that is not known.
    """
    check_version(installed_version())
    # It sets the variable below to a folder of Qt plugins that PyQt5 cannot load.
    import cv2  # noqa: F401

    os.environ.pop("QT_QPA_PLATFORM_PLUGIN_PATH", None)
    # Its OpenGL would load another LLVM than the one that torch's compiler brings, and the first
    # prompt would end the program. labelme draws without OpenGL.
    os.environ.setdefault("QT_XCB_GL_INTEGRATION", "none")
    register(assistant, iou)
    from labelme.__main__ import main

    sys.argv = ["labelme", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def open_window(
    load_models: Callable[[], WindowModels],
    arguments: Sequence[str],
    iou: float,
) -> int:
    """Start labelme's window with the models in it.

    A labelme that is not known is refused before they are loaded.

    Args:
        load_models: loads what is asked.
        arguments: of labelme's own command line.
        iou: see ``register``.

    Returns:
        labelme's exit code.

    Raises:
        ConfigError: no labelme, or one that is not known, or no window can be opened here.
    """
    check_version(installed_version())
    check_display()
    models = load_models()
    assistant = Assistant(
        models.labeler, models.names, words=models.words, labeler_of=models.labeler_of
    )
    return launch(assistant, arguments, iou)
