"""Makes the pictures of the README and the documentation anew: ``python -m tests.docs.pictures``.

It needs Label Studio, Chromium and scikit-image, whose cat is the one real photograph (Chelsea,
by Stefan van der Walt, CC0). Look at each before it is committed.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw

from backend.cli.main import main
from backend.demo.processes import PASSWORD, USER, backend, free_port, label_studio
from backend.demo.run import SAMPLES
from backend.demo.studio import Studio
from backend.formats.label_studio.make_config import make_config
from backend.formats.voc.class_names import read_class_names
from tests.e2e.test_studio import open_task
from tests.evaluation import test_page
from tests.support.exports import write
from tests.support.lab import PROGRAM, browser_page

HERE = Path(__file__).parent.parent.parent / "backend" / "demo"
PICTURES = SAMPLES / "JPEGImages"
VIEW = {"width": 1560, "height": 860}
# Of the cat, by hand.
EYES = (((171, 115), (34, 29), 12), ((318, 137), (23, 26), 20))  # centre, half axes, turn
NOSE = [[241, 231], [254, 228], [291, 232], [283, 244], [271, 258], [258, 264], [252, 256]]
_SETTINGS = json.dumps({"showLabels": True, "continuousLabeling": True, "selectAfterCreate": False})


def _saved(name: str, picture: PIL.Image.Image) -> None:
    picture.convert("RGB").save(HERE / name, quality=82, optimize=True, progressive=True)


def _shot(page: Any, clip: dict[str, int] | None = None) -> PIL.Image.Image:
    data = page.screenshot(clip=clip) if clip else page.screenshot()
    return PIL.Image.open(io.BytesIO(data)).convert("RGB")


def contact_sheet() -> None:
    """What ``yolosam2 demo`` shows."""
    with tempfile.TemporaryDirectory() as folder:
        _run("demo", "--out", folder)
        with PIL.Image.open(Path(folder) / "contact_sheet.png") as sheet:
            _saved("contact_sheet.jpg", sheet)


def _run(*words: object) -> None:
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    if code:
        sys.exit(f"yolosam2 {words[0]} ended with {code}")


def photograph() -> None:
    """A real photograph, labelled by hand, drawn by ``visualize --labels``."""
    from skimage import data

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = np.asarray(data.chelsea())
        PIL.Image.fromarray(image).save(folder / "chelsea.jpg", quality=95)
        rings = [("eye", cv2.ellipse2Poly(*eye, 0, 360, 4).astype(float).tolist()) for eye in EYES]
        shapes = [
            {
                "label": label,
                "points": ring,
                "shape_type": "polygon",
                "group_id": None,
                "flags": {},
            }
            for label, ring in (*rings, ("nose", NOSE))
        ]
        document = {
            "version": "6.3.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": "chelsea.jpg",
            "imageData": None,
            "imageHeight": image.shape[0],
            "imageWidth": image.shape[1],
        }
        (folder / "chelsea.json").write_text(json.dumps(document))
        _run("visualize", folder, "--labels", "--out", folder / "drawn", "--no-progress")
        with PIL.Image.open(folder / "drawn" / "chelsea.jpg") as drawn:
            _saved("photograph.jpg", drawn)


def report() -> None:
    """The page of ``score --report``."""
    tasks = test_page.tasks()
    for k, task in enumerate(tasks):
        who = "bert@example.com" if k % 3 else "anna@example.com"
        task["annotations"][0]["completed_by"] = {"email": who}
        task["annotations"][0]["lead_time"] = 9.0 + k % 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "export.json", tasks)
        page_path = folder / "report.html"
        os.chdir(folder)  # so that the page names no folder
        _run("score", "export.json", "--report", page_path, "--no-progress")
        with browser_page(viewport={"width": 1280, "height": 1180}) as page:
            page.goto(page_path.as_uri())
            page.wait_for_timeout(1500)
            _saved("report.jpg", _shot(page))


@contextmanager
def _studio() -> Iterator[tuple[Studio, Any, str]]:
    with (
        tempfile.TemporaryDirectory() as name,
        label_studio(PROGRAM, Path(name) / "data", free_port()) as url,
        backend(url, free_port(), Path(name) / "log") as backend_url,
        closing(Studio(url)) as studio,
        browser_page(viewport=VIEW) as page,
    ):
        page.goto(f"{url}/user/login")
        page.fill("input[name=email]", USER)
        page.fill("input[name=password]", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_load_state("networkidle")
        page.evaluate(f"localStorage.setItem('labelStudio:settings', JSON.stringify({_SETTINGS}))")
        yield studio, page, backend_url


def _project(studio: Studio, backend_url: str, title: str, stems: list[str]) -> int:
    names = [one for one in read_class_names(SAMPLES / "class_names.txt") if one[0] != "_"]
    project = studio.create_project(title, make_config(names))
    studio.upload(project, [PICTURES / f"{stem}.jpg" for stem in stems])
    studio.connect(project, backend_url)
    return project


def editor_and_click() -> None:
    """The editor with pre-labels, and a short moving picture of clicks that become masks."""
    with _studio() as (studio, page, backend_url):
        project = _project(studio, backend_url, "Pre-labelled", ["3000003", "3000011"])
        studio.retrieve_predictions(project)
        task = studio.tasks(project)[0]
        url = f"{studio.url}/projects/{project}/data?task={task['id']}"
        if not open_task(page, url, len(task["predictions"][0]["result"])):
            sys.exit("the editor stays empty")
        _saved("label_studio.jpg", _shot(page))
        frames = _clicks(studio, page, backend_url)
    small = [one.resize((one.width * 2 // 3, one.height * 2 // 3)) for one, _ in frames]
    palette = [one.quantize(128, dither=PIL.Image.Dither.NONE) for one in small]
    palette[0].save(
        HERE / "click_to_mask.gif",
        save_all=True,
        append_images=palette[1:],
        duration=[ms for _, ms in frames],
        loop=0,
        optimize=True,
    )


_PLACE = (
    "JSON.stringify([...document.querySelectorAll('img')].filter(i =>"
    " i.src.startsWith('blob:')).pop().getBoundingClientRect())"
)


def _clicks(studio: Studio, page: Any, backend_url: str) -> list[tuple[PIL.Image.Image, int]]:
    from tests.e2e.test_studio import truth

    stem = "3000000"
    project = _project(studio, backend_url, "Click to mask", [stem])
    studio.call("PATCH", f"/api/projects/{project}/", json={"show_collab_predictions": False})
    (task,) = studio.tasks(project)
    page.goto(f"{studio.url}/projects/{project}/data?task={task['id']}")
    page.wait_for_selector(".konvajs-content canvas", timeout=60_000)
    page.wait_for_timeout(3_000)
    page.get_by_text("Auto-Annotation", exact=True).click()
    page.get_by_text("Auto-Accept Suggestions", exact=True).click()
    page.locator(".lsf-tool_smart").first.click()
    page.evaluate("document.activeElement.blur()")
    place = json.loads(page.evaluate(_PLACE))
    clip = {"x": 240, "y": 90, "width": 990, "height": 545}
    names = [one for one in read_class_names(SAMPLES / "class_names.txt") if one[0] != "_"]
    frames: list[tuple[PIL.Image.Image, int]] = []

    def keep(ms: int, at: tuple[float, float], *, pressed: bool = False) -> None:
        shot = _shot(page, clip)
        draw = PIL.ImageDraw.Draw(shot)
        x, y = at[0] - clip["x"], at[1] - clip["y"]
        if pressed:
            draw.ellipse((x - 22, y - 22, x + 22, y + 22), outline=(255, 255, 255), width=5)
            draw.ellipse((x - 24, y - 24, x + 24, y + 24), outline=(20, 20, 20), width=2)
        arrow = [(0, 0), (0, 24), (6, 19), (10, 28), (14, 26), (10, 18), (18, 18)]
        draw.polygon([(x + dx, y + dy) for dx, dy in arrow], fill=(0, 0, 0), outline=(255,) * 3)
        frames.append((shot, ms))

    at = (place["x"] + 30.0, place["y"] + 30.0)
    keep(900, at)
    for label, mask in sorted(truth(stem), key=lambda pair: -np.count_nonzero(pair[1])):
        rows, columns = np.nonzero(mask)
        to = (
            place["x"] + place["width"] * (float(np.median(columns)) + 0.5) / mask.shape[1],
            place["y"] + place["height"] * (float(np.median(rows)) + 0.5) / mask.shape[0],
        )
        page.keyboard.press(str(names.index(label) + 1))
        page.wait_for_timeout(300)
        keep(500, ((at[0] + to[0]) / 2, (at[1] + to[1]) / 2))
        at = to
        keep(350, at)
        with page.expect_response(lambda reply: "interactive-annotating" in reply.url):
            page.mouse.click(*at)
        keep(350, at, pressed=True)
        page.wait_for_timeout(900)
        keep(900, at)
    frames.append((frames[-1][0], 1500))
    return frames


MAKERS: dict[str, Callable[[], None]] = {
    "sheet": contact_sheet,
    "photograph": photograph,
    "report": report,
    "studio": editor_and_click,
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or MAKERS:
        MAKERS[chosen]()
