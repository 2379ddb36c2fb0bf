"""Real photographs go through ``annotate --prompts`` without an error, and labelme loads every file
bit-exact.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from labelme._label_file import LabelFile

from backend.core.masks import full_frame
from backend.formats.voc.class_names import read_class_names
from labelme_plugin import document as labelme
from labelme_plugin.shapes import mask_of

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def rows_of_polygons(folder: Path, names: tuple[str, ...]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for path in sorted(folder.glob("*.json")):
        for shape in json.loads(path.read_text())["shapes"]:
            if shape["label"] in names:
                points = np.array(shape["points"])
                box = [*points.min(0).tolist(), *points.max(0).tolist()]
                rows.append(
                    {
                        "image_id": path.stem,
                        "category_id": names.index(shape["label"]),
                        "bbox": box,
                        "score": 1.0,
                    }
                )
    return rows


def check_with_labelme(out: Path) -> int:
    """Every mask as labelme decodes it equals what we decode; returns how many."""
    count = 0
    for path in sorted(out.glob("*.json")):
        document = labelme.read_document(path)
        size_hw = (document["imageHeight"], document["imageWidth"])
        for ours, theirs in zip(document["shapes"], LabelFile(str(path)).shapes, strict=True):
            (x1, y1), (x2, y2) = np.array(theirs["points"]).astype(int)
            frame = np.zeros(size_hw, bool)
            frame[y1 : y2 + 1, x1 : x2 + 1] = theirs["mask"]
            assert np.array_equal(frame, full_frame(mask_of(ours), size_hw))
            assert frame.any()
            count += 1
    return count


def test_labelme_voc_photographs(run_cli, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "labelme-voc"
    names = read_class_names(folder / "labels.txt")
    rows = rows_of_polygons(folder, names)
    prompts = tmp_path / "prediction.json"
    prompts.write_text(json.dumps(rows))
    photographs = sorted(folder.glob("*.jpg"))
    code, text, _ = run_cli(
        "annotate",
        *photographs,
        "--out",
        tmp_path / "out",
        "-p",
        prompts,
        "--classes",
        ",".join(names),
        "--segmenter",
        "demo",
        "--device",
        "cpu",
        "--format",
        "labelme,voc,overlay,label-studio",
        "--json",
        "--no-progress",
    )
    summary = json.loads(text)
    assert code == 0, summary
    assert summary["images"] == len(photographs) == 3
    assert (
        check_with_labelme(tmp_path / "out") == sum(summary["instances"].values()) >= len(rows) - 1
    )


def test_the_bus_of_ultralytics(run_cli, tmp_path: Path) -> None:
    spec = find_spec("ultralytics")  # whose import would change Pillow for all tests
    assert spec is not None
    assert spec.origin is not None
    bus = Path(spec.origin).parent / "assets" / "bus.jpg"
    boxes = [[22, 231, 805, 756], [48, 398, 245, 903], [669, 392, 809, 877], [221, 405, 344, 857]]
    prompts = tmp_path / "prediction.json"
    prompts.write_text(
        json.dumps(
            [
                {"image_id": "bus", "category_id": min(k, 1), "bbox": box, "score": 0.9}
                for k, box in enumerate(boxes)
            ]
        )
    )
    code, text, _ = run_cli(
        "annotate",
        bus,
        "--out",
        tmp_path / "out",
        "-p",
        prompts,
        "--classes",
        "bus,person",
        "--segmenter",
        "demo",
        "--device",
        "cpu",
        "--json",
        "--no-progress",
    )
    assert code == 0, text
    assert json.loads(text)["instances"] == {"person": 3, "bus": 1}
    assert check_with_labelme(tmp_path / "out") == 4
