"""Accepted boxes on videos against predicted ones: figures by hand, and what was left to do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from backend.evaluation.pairs import Selection
from backend.evaluation.video_tasks import score_video_tasks
from backend.evaluation.video_timeline import Span, Timeline, _fewer

FRAMES = 20


def region(number: int, label: str, x: float, frames: tuple[int, ...] = (1, 20)) -> dict[str, Any]:
    """A box that stands still; its last key frame says that it is gone."""
    sequence = [
        {
            "frame": frame,
            "time": frame / 25,
            "x": x,
            "y": 10.0,
            "width": 20.0,
            "height": 30.0,
            "rotation": 0,
            "enabled": frame != frames[-1],
        }
        for frame in frames
    ]
    return {
        "id": f"track{number}",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": {"sequence": sequence, "framesCount": FRAMES, "labels": [label]},
    }


def export(tmp_path: Path, predicted: list[Any], *accepted: list[Any]) -> Path:
    tasks = [
        {
            "id": k,
            "data": {"video": "/data/a.mp4"},
            "annotations": [{"id": k, "result": one, "completed_by": k, "was_cancelled": False}],
            "predictions": [{"id": k, "model_version": "v1", "result": predicted}],
        }
        for k, one in enumerate(accepted, 1)
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    return path


def scored(run_cli: Any, *arguments: object) -> dict[str, Any]:
    code, out, err = run_cli("score", *arguments, "--json", "-", "--no-progress")
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_accepted_as_it_was(tmp_path: Path, run_cli: Any) -> None:
    boxes = [region(1, "cat", 10), region(2, "dog", 60)]
    (one,) = scored(run_cli, export(tmp_path, boxes, boxes))["video"].values()
    assert (one["hota"], one["idf1"], one["switches"]) == (1, 1, 0)
    assert one["tracks"] == {"kept": 2, "changed": 0, "removed": 0, "added": 0}
    assert one["key_frames"] == {"kept": 4, "moved": 0, "removed": 0, "added": 0}
    assert (one["annotations"], one["frames"]) == (1, FRAMES)
    assert set(one["classes"]) == {"cat", "dog"}


def test_only_the_newest_prediction_of_a_version_counts(tmp_path: Path, run_cli: Any) -> None:
    boxes = [region(1, "cat", 10)]
    path = export(tmp_path, [], boxes)
    tasks = json.loads(path.read_text())
    newer = {"id": 9, "model_version": "v1", "result": boxes}
    tasks[0]["predictions"].append(newer)
    path.write_text(json.dumps(tasks))
    (one,) = scored(run_cli, path)["video"].values()
    assert (one["annotations"], one["hota"]) == (1, 1)


@pytest.mark.parametrize("length", ["1e18", "1e30", "true", '"x"'])
def test_odd_counts_of_frames(tmp_path: Path, run_cli: Any, length: str) -> None:
    boxes = [region(1, "cat", 10)]
    path = export(tmp_path, boxes, boxes)
    path.write_text(
        path.read_text().replace(f'"framesCount": {FRAMES}', f'"framesCount": {length}')
    )
    (one,) = scored(run_cli, path)["video"].values()
    assert one["frames"] == FRAMES


def test_options_that_mean_nothing_there(tmp_path: Path, run_cli: Any) -> None:
    boxes = [region(1, "cat", 10)]
    path = export(tmp_path, boxes, boxes)
    code, _, err = run_cli("score", path, "--missing", "--no-progress")
    assert code == 2
    assert "--missing: has no meaning for videos" in err


def test_what_was_left_to_do(tmp_path: Path, run_cli: Any) -> None:
    predicted = [region(1, "cat", 10, (1, 10, 20)), region(2, "dog", 60), region(3, "cow", 40)]
    moved = copy.deepcopy(predicted[0])
    moved["value"]["sequence"][1]["x"] = 20.0
    moved["value"]["sequence"].insert(1, {**moved["value"]["sequence"][0], "frame": 5})
    renamed = copy.deepcopy(predicted[1])
    renamed["value"]["labels"] = ["fox"]
    new = {**region(9, "hen", 80), "id": "by hand"}
    (one,) = scored(run_cli, export(tmp_path, predicted, [moved, renamed, new]))["video"].values()
    assert one["tracks"] == {"kept": 0, "changed": 2, "removed": 1, "added": 1}
    assert one["key_frames"] == {"kept": 4, "moved": 1, "removed": 2, "added": 3}
    assert one["other_labels"] == 1
    assert one["classes"]["fox"]["hota"] == 0
    # In five frames around the one that was moved the boxes overlap by less than a half.
    assert one["classes"]["cat"]["idf1"] == 0.75
    code, out, _ = run_cli("score", tmp_path / "export.json", "--no-progress")
    assert code == 0
    assert "tracks: 0 kept, 2 changed, 1 removed, 1 added" in out
    assert "1 track got another label" in out


def test_a_track_that_was_broken_is_a_switch(tmp_path: Path, run_cli: Any) -> None:
    halves = [region(1, "cat", 10, (1, 10)), region(2, "cat", 10, (11, 20))]
    whole = [{**region(7, "cat", 10), "id": "by hand"}]
    (one,) = scored(run_cli, export(tmp_path, halves, whole))["video"].values()
    assert one["switches"] == 1
    assert one["idf1"] == 0.5
    assert one["det_a"] == 1
    assert one["ass_a"] == 0.5
    assert one["hota"] == pytest.approx(0.5**0.5, abs=1e-4)
    assert one["tracks"]["removed"] == 1


def test_who_and_which(tmp_path: Path, run_cli: Any) -> None:
    boxes = [region(1, "cat", 10)]
    path = export(tmp_path, boxes, boxes, [])
    assert scored(run_cli, path)["video"]["v1"]["annotations"] == 2
    assert scored(run_cli, path, "--annotator", "1")["video"]["v1"]["hota"] == 1
    assert scored(run_cli, path, "--annotator", "2")["video"]["v1"]["hota"] == 0
    code, _, err = run_cli("score", path, "--model-version", "other", "--no-progress")
    assert code == 2
    assert "nothing could be scored" in err


def lines(predicted: list[Any], accepted: list[Any], tmp_path: Path) -> Timeline:
    scores = score_video_tasks(export(tmp_path, predicted, accepted), Selection())
    (one,) = scores.timelines["v1"]
    return one


def test_timeline_shows_what_a_person_did(tmp_path: Path) -> None:
    predicted = [region(1, "cat", 10), region(2, "dog", 60), region(3, "cat", 70, (5, 9))]
    accepted = copy.deepcopy(predicted[:2])
    accepted[0]["value"]["labels"] = ["lynx"]
    for one in accepted[1]["value"]["sequence"]:
        one["x"] += 4  # of 20: IoU 2/3
    accepted.append(region(4, "bird", 30, (11, 13)))
    accepted[2]["id"] = "drawn"
    found = lines(predicted, accepted, tmp_path)
    told = {
        row.label: (
            row.predicted_label,
            row.became,
            [(s.first, s.last, s.state) for s in row.spans],
        )
        for row in found.rows
    }
    assert told == {
        "lynx": ("cat", "changed", [(0, 19, "good")]),
        "dog": (None, "changed", [(0, 19, "off")]),
        "cat": (None, "removed", [(4, 8, "invented")]),
        "bird": (None, "added", [(10, 12, "missed")]),
    }
    edits = {row.label: row.edits for row in found.rows}
    assert edits["dog"] == ((0, "moved"), (19, "moved"))
    assert edits["lynx"] == edits["cat"] == ()
    first, *others = found.looks
    assert first == (0, 19, "dog: the box is off for 20 frames, IoU 0.67")
    assert [reason for _, _, reason in others] == [
        "cat: predicted for 5 frames, not accepted there",
        "bird: missed for 3 frames",
    ]


def test_the_worst_videos_are_shown_first_and_not_all(tmp_path: Path) -> None:
    boxes = [region(1, "cat", 10)]
    accepted = []
    for k in range(30):
        moved = copy.deepcopy(boxes)
        for one in moved[0]["value"]["sequence"]:
            one["x"] += 0.3 * k
        accepted.append(moved)
    scores = score_video_tasks(export(tmp_path, boxes, *accepted), Selection())
    shown = scores.timelines["v1"]
    assert len(shown) == 24
    assert shown[0].task_id == 30
    assert [one.hota for one in shown] == sorted(one.hota for one in shown)


def test_ids_that_other_predictions_share_do_not_pair(tmp_path: Path) -> None:
    predicted = [region(1, "cat", 10), region(2, "cat", 60)]
    accepted = copy.deepcopy(predicted)
    accepted[0]["id"], accepted[1]["id"] = "track2", "track1"
    found = lines(predicted, accepted, tmp_path)
    assert {row.became for row in found.rows} == {"kept"}
    assert not found.looks
    for one in accepted:
        del one["id"]
    without = lines(predicted[:2], accepted[1:], tmp_path)
    assert sorted(row.became for row in without.rows) == ["kept", "removed"]


def test_videos_without_boxes_and_odd_addresses(tmp_path: Path) -> None:
    path = export(tmp_path, [], *[[]] * 30)
    tasks = json.loads(path.read_text())
    boxes = [region(1, "cat", 10)]
    bad = copy.deepcopy(tasks[0])
    bad["id"] = 99
    bad["data"] = {"t": "http://[draft/x", "video": "/data/local-files/?d=a/b.mp4"}
    bad["predictions"][0]["result"] = boxes
    path.write_text(json.dumps([*tasks, bad]))
    (one,) = score_video_tasks(path, Selection()).timelines["v1"]
    assert (one.task_id, one.name) == (99, "task 99, b.mp4")


def test_a_line_has_no_more_spans_than_can_be_seen() -> None:
    spans = [Span(k, k, ("good", "missed")[k % 2], float(k % 2 == 0)) for k in range(5000)]
    few = _fewer(spans)
    assert len(few) <= 400
    assert (few[0].first, few[-1].last) == (0, 4999)
    assert {one.state for one in few} == {"missed"}
    gaps = [Span(2 * k, 2 * k, "good", 1.0) for k in range(1000)]
    assert _fewer(gaps) == gaps


def test_report_is_a_page_with_nothing_from_the_network(tmp_path: Path, run_cli: Any) -> None:
    predicted = [region(1, "<cat>", 10), region(2, "dog", 60)]
    path = export(tmp_path, predicted, predicted[:1])
    page = tmp_path / "page.html"
    code, out, err = run_cli("score", path, "--report", page, "--no-progress")
    assert code == 0, err
    assert "1 kept, 0 changed, 1 removed" in out
    html = page.read_text(encoding="utf-8")
    assert "task 1, a.mp4" in html
    assert "&lt;cat&gt;" in html
    assert "<cat>" not in html
    assert 'class="invented"' in html
    assert "dog: predicted for 20 frames, not accepted there" in html
    assert "http" not in html.replace("http://www.w3.org", "")


def test_one_bad_task_costs_itself(tmp_path: Path, run_cli: Any) -> None:
    boxes = [region(1, "cat", 10)]
    bad = copy.deepcopy(boxes)
    bad[0]["value"]["sequence"] = "text"
    code, out, _ = run_cli("score", export(tmp_path, boxes, bad, boxes), "--no-progress")
    assert code == 1
    assert "1 annotation of 20 frames" in out
    assert "task 1: annotation.result[0].value.sequence: expected a list" in out
