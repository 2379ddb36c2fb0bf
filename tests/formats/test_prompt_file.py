"""The prompt file: rows are checked one by one and named by index and field."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from backend.errors import ConfigError
from backend.formats.prompt_file import parse_prompts, prompt_rows, read_prompts

GOOD = {
    "image_id": "23960",
    "category_id": 3,
    "bbox": [762.501, 302.91, 985.594, 512.487],
    "score": 0.9004,
}
HERE = Path("p.json")


def test_the_format_of_the_upstream_readme(tmp_path: Path) -> None:
    path = tmp_path / "prediction.json"
    path.write_text(
        json.dumps(
            [
                GOOD,
                {},
                {**GOOD, "image_id": "set/1", "score": 0.2},
                {**GOOD, "image_id": "set/1", "score": 0.8, "category_id": 0},
            ]
        )
    )
    prompts = read_prompts(path, 4)
    found = prompts.lookup(PurePosixPath("23960.JPEG"))
    assert found is not None
    assert found.class_ids.tolist() == [3]
    assert np.allclose(found.xyxy, [GOOD["bbox"]])
    below = prompts.lookup(PurePosixPath("set/1.jpg"))
    assert below is not None
    assert below.class_ids.tolist() == [0, 3]  # best first
    assert prompts.lookup(PurePosixPath("1.jpg")) is None


def test_integer_ids_and_missing_scores() -> None:
    prompts = parse_prompts([{"image_id": 7, "category_id": 0, "bbox": [0, 0, 5, 5]}], HERE, 1)
    found = prompts.lookup(PurePosixPath("7.png"))
    assert found is not None
    assert found.scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": None}, "row 1: image_id"),
        ({"image_id": "../x"}, "row 1: image_id: expected a path below"),
        ({"image_id": "/etc/x"}, "image_id"),
        ({"category_id": 4}, "row 1: category_id: 4 is not an index into the 4"),
        ({"category_id": -1}, "category_id"),
        ({"category_id": "1"}, "category_id"),
        ({"category_id": True}, "category_id"),
        ({"bbox": [1, 2, 3]}, "row 1: bbox: expected four numbers"),
        ({"bbox": [5, 5, 4, 9]}, "x1 < x2"),
        ({"bbox": [0, 0, float("nan"), 1]}, "bbox"),
        ({"bbox": ["1", 0, 2, 2]}, "bbox"),
        ({"score": 1.5}, "row 1: score"),
        ({"score": "high"}, "score"),
    ],
)
def test_bad_rows_are_named(change: dict[str, object], words: str) -> None:
    prompts = parse_prompts([GOOD, {**GOOD, **change}], HERE, 4)
    assert list(prompts.by_image) == ["23960"]
    assert len(prompts.by_image["23960"]) == 1
    (told,) = prompts.remarks
    assert "1 of 2 rows do not fit and are left out: row 1" in told
    assert words in told
    with pytest.raises(ConfigError, match=words.replace("row 1", "row 0")):
        parse_prompts([{**GOOD, **change}], HERE, 4)


def test_results_of_coco_are_prompts() -> None:
    rows = [
        {"image_id": 42, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.5},
        {"image_id": 42, "category_id": 1, "bbox": [10, 20, 0, 40], "score": 0.5},
    ]
    prompts = parse_prompts(rows, HERE, 2, "xywh")
    found = prompts.lookup(PurePosixPath("000000000042.jpg"))
    assert found is not None
    assert found.xyxy.tolist() == [[10, 20, 40, 60]]
    assert "expected a width and a height above 0" in prompts.remarks[0]
    with pytest.raises(ConfigError, match="--prompt-boxes xywh reads corner and size"):
        parse_prompts([{**rows[0], "bbox": [30, 20, 10, 10]}], HERE, 2)


def test_many_bad_rows_are_counted() -> None:
    with pytest.raises(ConfigError, match=r"row 4.*and 15 more"):
        parse_prompts([5] * 20, HERE, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "expected a list of rows, got dict"),
        ("[", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_prompts(path, 1)
    with pytest.raises(ConfigError, match="no such file"):
        read_prompts(tmp_path / "none.json", 1)


def test_rows_written_are_rows_read() -> None:
    first = parse_prompts([GOOD, {**GOOD, "score": 0.5, "bbox": [1, 2, 3, 4]}], HERE, 4).by_image[
        "23960"
    ]
    again = parse_prompts(list(prompt_rows("23960", first)), HERE, 4).by_image["23960"]
    assert np.allclose(first.xyxy, again.xyxy, atol=1e-3)
    assert first.class_ids.tolist() == again.class_ids.tolist()
