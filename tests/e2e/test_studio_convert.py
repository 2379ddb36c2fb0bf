"""labelme -> Label Studio -> labelme through a real Label Studio: imported, drawn by the editor,
saved there again, exported.
"""

from __future__ import annotations

import functools
import http.server
import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from backend.core.masks import full_frame
from backend.datasets.convert import ConvertOptions, convert
from backend.demo.run import SAMPLES
from labelme_plugin.document import read_document
from labelme_plugin.instances import labelled_masks
from tests.e2e.test_studio import _DRAWN, editor, iou, open_task
from tests.support.dataset_scenes import around, objects, shape
from tests.support.lab import OUT, Lab, needs_chromium, needs_studio, turned

pytestmark = [needs_studio, pytest.mark.slow, pytest.mark.timeout(900)]
IDS = ("3000001", "3000002", "3000006")


class _Shared(http.server.SimpleHTTPRequestHandler):
    """A folder over HTTP, for any page."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples with their truth as labelme files, a few notes on it, one picture turned by EXIF, one
    in a folder with a difficult name.
    """
    folder = tmp_path_factory.mktemp("source")
    convert(SAMPLES, folder, "labelme", ConvertOptions(progress=False))
    for path in folder.glob("*.json"):
        if path.stem not in IDS:
            path.unlink()
    (folder / "ü #1").mkdir()
    for name in IDS:
        path = folder / f"{name}.json"
        place = folder if name == "3000001" else folder / "ü #1"
        document = json.loads(path.read_text())
        document.update(imagePath=f"{name}.jpg", camera={"id": 3})
        document["flags"] = {"reviewed": True}
        first = document["shapes"][0]
        first.update(
            group_id=4,
            flags={"occluded": True},
            description="seen by Ñuño\nand again",
            note=[1, "two"],
        )
        parts = np.zeros((document["imageHeight"], document["imageWidth"]), bool)
        parts[5:25, 5:40] = parts[60:90, 10:50] = True
        parts[10:18, 12:30] = False
        document["shapes"].append(shape(first["label"], parts, score=0.625, group_id=9))
        source = SAMPLES / "JPEGImages" / f"{name}.jpg"
        turned(source, place / f"{name}.jpg") if name == "3000002" else shutil.copy(source, place)
        path.unlink()
        (place / f"{name}.json").write_text(json.dumps(document))
    (folder / "labels.txt").unlink()
    return folder


@pytest.fixture(scope="module")
def served(source: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Shared, directory=str(source))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def project(lab: Lab, source: Path, served: str, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A project with the labeling config and the tasks that ``convert`` wrote."""
    from backend.cli.main import main

    out = tmp_path_factory.mktemp("tasks")
    assert (
        main(
            [
                "convert",
                str(source),
                str(out),
                "--to",
                "label-studio",
                "--image-url-prefix",
                served,
                "--no-progress",
            ]
        )
        == 0
    )
    number = lab.studio.create_project("converted", (out / "label_config.xml").read_text())
    lab.studio.call(
        "POST",
        f"/api/projects/{number}/import",
        files={"file": ("import.json", (out / "import.json").read_bytes())},
    )
    return number


def export(lab: Lab, project: int, folder: Path) -> Path:
    exported = lab.studio.call(
        "GET", f"/api/projects/{project}/export", params={"exportType": "JSON"}
    )
    folder.mkdir(exist_ok=True)
    (folder / "export.json").write_text(json.dumps(exported))
    return folder / "export.json"


def check_home(run_cli, source: Path, served: str, exported: Path, back: Path) -> None:
    code, text, _ = run_cli(
        "convert",
        exported,
        back,
        "--to",
        "labelme",
        "--images",
        source,
        "--image-url-prefix",
        served,
        "--no-progress",
    )
    assert code == 0, text
    for path in source.rglob("*.json"):
        home = back / path.relative_to(source)
        assert objects(home) == objects(path)
        assert around(home) == around(path)
        assert (
            home.parent / json.loads(home.read_text())["imagePath"]
        ).resolve() == path.with_suffix(".jpg").resolve()


def test_what_was_imported_is_exported(
    lab: Lab, run_cli, source: Path, served: str, project: int, tmp_path: Path
) -> None:
    tasks = lab.studio.tasks(project)
    assert [len(task["annotations"]) for task in tasks] == [1, 1, 1]
    check_home(
        run_cli, source, served, export(lab, project, tmp_path / "export"), tmp_path / "back"
    )


@needs_chromium
def test_the_editor_draws_and_saves_the_same_masks(
    lab: Lab, run_cli, source: Path, served: str, project: int, tmp_path: Path
) -> None:
    task = next(task for task in lab.studio.tasks(project) if "3000002" in task["data"]["image"])
    path = source / "ü #1/3000002.json"
    document = read_document(path)
    size_hw = (document["imageHeight"], document["imageWidth"])
    masks = np.logical_or.reduce(
        [
            full_frame(one.mask, size_hw)
            for one in labelled_masks(document, size_hw, str(path)).objects
        ]
    )
    with editor(lab) as page:
        opened = open_task(
            page,
            f"{lab.studio.url}/projects/{project}/data?task={task['id']}",
            len(document["shapes"]),
        )
        page.screenshot(path=str(OUT / "editor-converted.png"))
        drawn, where, size = page.evaluate(_DRAWN)
        # Another label and back again, so that there is something to save.
        page.evaluate(
            "(one => one.selectArea(one.regionStore.regions[0]))(Htx.annotationStore.selected)"
        )
        # The digits begin with the labels of the smart point; those of the masks follow.
        info = lab.studio.call("GET", f"/api/projects/{project}/")
        n_labels = info["label_config"].count("<Label ") // 3
        for key in (str(n_labels + 2), str(n_labels + 1)):
            page.keyboard.press(key)
            page.wait_for_timeout(500)
        with page.expect_response(
            lambda reply: "/api/annotations/" in reply.url and reply.request.method == "PATCH",
            timeout=30_000,
        ) as caught:
            page.get_by_text("Update", exact=True).last.click(timeout=10_000)
        sent = json.loads(caught.value.request.post_data)
    assert opened, "the editor stayed empty"
    alpha = np.array(PIL.Image.open(io.BytesIO(bytes(drawn))))[..., 3]
    place = np.array([[size_hw[1] / size[0], 0, 0], [0, size_hw[0] / size[1], 0]]) @ np.array(
        [[1, 0, -where[0]], [0, 1, -where[1]], [0, 0, 1]]
    )
    on_screen = cv2.warpAffine(alpha, place, size_hw[::-1], flags=cv2.INTER_LINEAR) > 100
    visible = cv2.warpAffine(np.full_like(alpha, 255), place, size_hw[::-1]) > 100
    assert visible.mean() > 0.8
    assert iou(on_screen, masks & visible) >= 0.93
    assert len(sent["result"]) == len(document["shapes"])
    check_home(
        run_cli, source, served, export(lab, project, tmp_path / "export"), tmp_path / "back"
    )


def test_every_format_becomes_tasks_that_label_studio_takes(lab: Lab, tmp_path: Path) -> None:
    """The samples as VOC, and what is made of them: annotations, and predictions of a version."""
    from backend.formats.options import WriteOptions, parse_what

    for target in ("coco", "yolo", "labelme"):
        convert(SAMPLES, tmp_path / target, target, ConvertOptions(progress=False))
    for kind in ("coco", "yolo", "labelme"):
        options = ConvertOptions(
            images=SAMPLES / "JPEGImages",
            write=WriteOptions(what=parse_what("model_version=truth-1")),
            progress=False,
        )
        summary = convert(tmp_path / kind, tmp_path / f"{kind}-tasks", "label-studio", options)
        assert (summary.images, summary.failed) == (12, [])
        number = lab.studio.create_project(
            kind, (tmp_path / f"{kind}-tasks/label_config.xml").read_text()
        )
        lab.studio.call(
            "POST",
            f"/api/projects/{number}/import",
            files={"file": ("import.json", (tmp_path / f"{kind}-tasks/import.json").read_bytes())},
        )
        predictions = [one for task in lab.studio.tasks(number) for one in task["predictions"]]
        assert (len(predictions), {one["model_version"] for one in predictions}) == (
            12,
            {"truth-1"},
        )
        assert sum(len(one["result"]) for one in predictions) == sum(summary.per_class.values())
