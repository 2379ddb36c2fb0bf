"""Drives labelme's real window off screen, in a process of its own: ``python labelme_driver.py OUT
STEP [ARGUMENTS of yolosam2 labelme]``.

The window is started by the program itself; what a person would do is done on a timer once it is
shown. What was seen goes to ``OUT/seen.json``, pictures of the window to ``OUT/*.png``.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

out, step, *arguments = sys.argv[1:]
OUT = Path(out)
SEEN: dict[str, Any] = {}


def canvas_of(window: Any) -> Any:
    return window._canvas_widgets.canvas


def shapes_of(window: Any) -> list[dict[str, Any]]:
    """What is on the canvas: label, type, box, description, and the mask as rows of text."""
    found = []
    for shape in canvas_of(window).shapes:
        mask = None if shape.mask is None else np.packbits(shape.mask).tobytes().hex()
        size = None if shape.mask is None else list(shape.mask.shape)
        points = [[point.x(), point.y()] for point in shape.points]
        found.append(
            {
                "label": shape.label,
                "type": shape.shape_type,
                "points": points,
                "description": shape.description,
                "mask": mask,
                "size": size,
            }
        )
    return found


def pixels_of(widget: Any) -> np.ndarray:
    image = widget.grab().toImage().convertToFormat(4)  # RGB32
    data = image.bits().asstring(image.width() * image.height() * 4)
    return (
        np.frombuffer(data, np.uint8).reshape(image.height(), image.width(), 4)[:, :, 2::-1].copy()
    )


def look(window: Any) -> Iterator[int]:
    """Every picture of the folder: its canvas at 100 % with and without the shapes, so that what is
    painted can be told from the photograph.
    """
    files = window._docks.file_list
    for k in range(files.count()):
        files.setCurrentRow(k)
        yield 200
        window._set_zoom(100)
        yield 100
        canvas = canvas_of(window)
        with_shapes = pixels_of(canvas)
        window.grab().save(str(OUT / f"window-{k}.png"))
        shapes = shapes_of(window)
        window._actions.hide_all.trigger()
        yield 100
        without = pixels_of(canvas)
        window._actions.show_all.trigger()
        yield 100
        origin = canvas._compute_image_origin_offset()
        pixmap = canvas.pixmap
        np.savez_compressed(OUT / f"canvas-{k}.npz", with_shapes=with_shapes, without=without)
        about = {
            "scale": canvas.scale,
            "origin": [origin.x(), origin.y()],
            "size": [pixmap.height(), pixmap.width()],
        }
        SEEN[str(k)] = {"file": files.item(k).text(), "shapes": shapes, **about}


def files_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.json")}


def run_text(window: Any, text: str) -> None:
    from PyQt5 import QtWidgets

    window._ai_text._text_input.setText(text)
    window._ai_text.findChildren(QtWidgets.QToolButton)[-1].click()


def text(window: Any) -> Iterator[int]:
    """A text prompt, and one that is unknown, before any tool was chosen."""
    canvas = canvas_of(window)
    SEEN["menus"] = {
        "assisted": window._ai_annotation._model_combo.currentText(),
        "format": window._ai_annotation.output_format,
        "text": window._ai_text._model_combo.currentText(),
        "typed": window._ai_text.get_text_prompt(),
    }
    SEEN["labels"] = [
        window._label_dialog.label_list.item(k).text()
        for k in range(window._label_dialog.label_list.count())
    ]
    before = files_in(OUT / "out")
    run_text(window, "unicorn")
    yield 300
    SEEN["unknown"] = {"shapes": len(canvas.shapes), "status": window.statusBar().currentMessage()}
    run_text(window, "")
    yield 300
    SEEN["empty"] = {"shapes": len(canvas.shapes), "status": window.statusBar().currentMessage()}
    SEEN["untouched"] = (
        files_in(OUT / "out") == before
        and not window._is_changed
        and len(canvas.shape_backups) <= 1
    )
    run_text(window, ", ".join(name.capitalize() for name in SEEN["menus"]["typed"].split(",")))
    yield 500
    SEEN["text"] = shapes_of(window)
    SEEN["told"] = window.statusBar().currentMessage()
    window.grab().save(str(OUT / "text.png"))
    run_text(window, SEEN["menus"]["typed"])  # again: nothing twice
    yield 300
    SEEN["again"] = len(canvas.shapes)
    SEEN["told again"] = window.statusBar().currentMessage()


def words(window: Any) -> Iterator[int]:
    """What is typed is looked for, whatever it is."""
    canvas = canvas_of(window)
    SEEN["typed"] = window._ai_text._text_input.text()
    SEEN["tip"] = window._ai_text._text_input.toolTip()
    window.grab().save(str(OUT / "before.png"))
    for name, typed in (("named", SEEN["typed"]), ("synonyms", "carton|box"), ("all", "object")):
        canvas.shapes[:] = []
        canvas.backup_shapes()
        run_text(window, typed)
        yield 500
        SEEN[name] = shapes_of(window)
        SEEN[f"{name} told"] = window.statusBar().currentMessage()
        window.grab().save(str(OUT / f"{name}.png"))


def assist(window: Any) -> Iterator[int]:
    """As ``text``, and a click and a box, as a person gives them."""
    from PyQt5 import QtCore, QtTest, QtWidgets

    yield from text(window)
    canvas = canvas_of(window)

    def answer_dialog() -> None:
        dialog = window._label_dialog
        if not dialog.isVisible():
            QtCore.QTimer.singleShot(50, answer_dialog)
            return
        dialog.edit.setText("by hand")
        dialog.findChild(QtWidgets.QDialogButtonBox).button(QtWidgets.QDialogButtonBox.Ok).click()

    def at(x: float, y: float) -> QtCore.QPoint:
        origin = canvas._compute_image_origin_offset()
        return QtCore.QPoint(
            round((x + origin.x()) * canvas.scale), round((y + origin.y()) * canvas.scale)
        )

    for name, mode, points in (
        ("box", "box", SEEN_POINTS["box"]),
        ("points", "points", SEEN_POINTS["points"]),
    ):
        canvas.shapes[:] = []  # labelme drops what overlaps shapes that are there
        canvas.backup_shapes()
        getattr(window._actions, f"create_ai_{mode}_to_shape_mode").trigger()
        yield 200
        QtCore.QTimer.singleShot(200, answer_dialog)
        for k, (x, y) in enumerate(points):
            QtTest.QTest.mouseMove(canvas, at(x, y))
            last = mode == "points" and k == len(points) - 1
            modifier = QtCore.Qt.ControlModifier if last else QtCore.Qt.NoModifier
            QtTest.QTest.mouseClick(canvas, QtCore.Qt.LeftButton, modifier, at(x, y))
            yield 100
        yield 500
        SEEN[name] = shapes_of(window)
        window.grab().save(str(OUT / f"{name}.png"))
    window.save_labels(str(OUT / "saved.json"))
    for shape in (
        canvas.shapes
    ):  # moved by half a pixel at some zoom, and labelme's own check of the box raises
        shape.points[1].setX(shape.points[1].x() + 1)
    window._actions.create_ai_points_to_shape_mode.trigger()
    QtTest.QTest.mouseClick(
        canvas, QtCore.Qt.LeftButton, QtCore.Qt.NoModifier, at(*SEEN_POINTS["points"][0])
    )
    yield 300
    SEEN["raised"] = window.statusBar().currentMessage()
    window.close_file()
    run_text(window, SEEN["menus"]["typed"])
    yield 300
    SEEN["closed"] = window.statusBar().currentMessage()


STEPS: dict[str, Callable[[Any], Iterator[int]]] = {
    "look": look,
    "text": text,
    "words": words,
    "assist": assist,
}
SEEN_POINTS: dict[str, list[list[float]]] = {}


def drive(window: Any) -> None:
    from PyQt5 import QtCore, QtWidgets

    steps = STEPS[step](window)

    def go_on() -> None:
        try:
            QtCore.QTimer.singleShot(next(steps), go_on)
        except StopIteration:
            finish()
        except BaseException:
            SEEN["error"] = traceback.format_exc()
            finish()

    def finish() -> None:
        (OUT / "seen.json").write_text(json.dumps(SEEN))
        window._is_changed = False  # no question about saving
        QtWidgets.QApplication.quit()

    QtCore.QTimer.singleShot(1500, go_on)


def main() -> int:
    import labelme.app

    from backend.cli.main import main as yolosam2

    if (OUT / "points.json").is_file():
        SEEN_POINTS.update(json.loads((OUT / "points.json").read_text()))
    show = labelme.app.MainWindow.show

    def shown(window: Any) -> None:
        window.resize(1400, 900)
        show(window)
        drive(window)

    labelme.app.MainWindow.show = shown
    return yolosam2(arguments)


if __name__ == "__main__":
    sys.exit(main())
