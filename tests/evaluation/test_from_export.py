"""``yolosam2 score`` on exports: numbers by hand, who and what counts, and bad input that costs
only itself.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.core.colours import hex_colour
from backend.evaluation.text import effort_text
from backend.label_studio.api.retry import Waits
from tests.support.exports import SIZE, disc, regions, task, write
from tests.support.servers import http_server

LEFT = disc(20, 30, 9)
RIGHT = disc(60, 30, 9)


def scored(run_cli, path: Path, *options: object) -> tuple[int, dict[str, Any]]:
    code, out, err = run_cli(
        "score", path, "--json", "-", "--no-progress", "--resamples", 50, *options
    )
    assert out, err
    return code, json.loads(out)


def whole(document: dict[str, Any]) -> dict[str, Any]:
    return document["views"][0]


def of_class(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in whole(document)["classes"] if row["name"] == name)


def pair() -> list[dict[str, Any]]:
    return regions(("car", LEFT, 0.9), ("dog", RIGHT, 0.6))


def test_an_untouched_acceptance_is_perfect(run_cli, tmp_path: Path) -> None:
    code, document = scored(
        run_cli, write(tmp_path / "e.json", [task(k, pair(), pair()) for k in range(3)])
    )
    assert code == 0
    figures = whole(document)["figures"]
    assert {name: figure["value"] for name, figure in figures.items()} == dict.fromkeys(
        figures, 1.0
    )
    assert figures["mean_iou"]["interval"] == [1.0, 1.0]
    assert whole(document)["effort"]["untouched"] == 6
    assert document["settings"]["overlap"] == "score"


def test_numbers_by_hand(run_cli, tmp_path: Path) -> None:
    half = LEFT.copy()
    half[:30] = False
    accepted = pair()
    accepted[0]["value"]["rle"] = regions(("car", half, 0.9))[0]["value"]["rle"]
    code, document = scored(
        run_cli, write(tmp_path / "e.json", [task(1, [accepted[0]], pair())])
    )  # the car cut in half, the dog deleted
    assert code == 0
    n_left = LEFT.sum()
    n_half = half.sum()
    n_right = RIGHT.sum()
    assert of_class(document, "car")["iou"] == pytest.approx(n_half / n_left, abs=1e-6)
    assert of_class(document, "dog")["iou"] == 0
    assert of_class(document, "background")["iou"] == pytest.approx(
        (4800 - n_left - n_right) / (4800 - n_half), abs=1e-6
    )
    assert whole(document)["figures"]["pixel_accuracy"]["value"] == pytest.approx(
        1 - (n_left - n_half + n_right) / 4800, abs=1e-6
    )
    effort = whole(document)["effort"]
    assert (effort["untouched"], effort["reshaped"], effort["deleted"], effort["added"]) == (
        0,
        1,
        1,
        0,
    )
    assert effort["changed_share_of_reshaped"] == pytest.approx(
        (n_left - n_half) / n_left, abs=1e-6
    )
    assert of_class(document, "car")["effort"]["reshaped"] == 1
    assert of_class(document, "dog")["effort"]["deleted"] == 1


def test_a_relabelled_region_is_named(run_cli, tmp_path: Path) -> None:
    accepted = pair()
    accepted[0]["value"]["brushlabels"] = ["cat"]
    code, out, _ = run_cli(
        "score", write(tmp_path / "e.json", [task(1, accepted, pair())]), "--no-progress"
    )
    assert code == 0
    assert "car became cat: 1" in out
    assert re.search(r"relabelled +1 +50\.0 %", out)


def test_other_kinds_of_region_are_compared_too(run_cli, tmp_path: Path) -> None:
    size = {
        "original_height": SIZE[0],
        "original_width": SIZE[1],
        "from_name": "t",
        "to_name": "image",
    }
    box = {
        **size,
        "id": "b",
        "type": "rectanglelabels",
        "value": {
            "x": 25,
            "y": 25,
            "width": 25,
            "height": 50,
            "rotation": 0,
            "rectanglelabels": ["car"],
        },
    }
    frame = np.zeros(SIZE, bool)
    frame[15:45, 20:40] = True
    code, document = scored(
        run_cli, write(tmp_path / "e.json", [task(1, [box], regions(("car", frame, 0.9)))])
    )
    assert code == 0
    assert (
        of_class(document, "car")["iou"] == 1
    )  # a box that somebody drew where a mask of the same pixels was predicted
    code, document = scored(run_cli, write(tmp_path / "e.json", [task(1, [box], [box])]))
    assert of_class(document, "car")["pixels"] == {"true": 600, "predicted": 600}


def test_boxes_that_repeat_masks_are_left_out_and_tags_can_be_chosen(
    run_cli, tmp_path: Path
) -> None:
    masks = pair()
    places = [
        {"x": 13, "y": 35, "width": 24, "height": 31},
        {"x": 63, "y": 35, "width": 24, "height": 31},
    ]
    boxes = [
        {
            **{key: masks[k][key] for key in ("original_height", "original_width", "to_name")},
            "id": f"box{k}",
            "type": "rectanglelabels",
            "from_name": "box",
            "score": 0.9,
            "value": {**places[k], "rectanglelabels": [label]},
        }
        for k, label in enumerate(("car", "dog"))
    ]
    path = write(tmp_path / "e.json", [task(1, masks + boxes[:1], masks + boxes)])
    _, document = scored(run_cli, path)
    assert whole(document)["figures"]["mean_iou"]["value"] == 1
    assert document["settings"]["regions_left_out"] == 3
    _, document = scored(run_cli, path, "--tag", "box")
    effort = whole(document)["effort"]
    assert (effort["predicted"], effort["untouched"], effort["deleted"]) == (2, 1, 1)
    assert (
        "--tag: no region of bo; there are box, brush" in run_cli("score", path, "--tag", "bo")[2]
    )
    # A box where no mask of its label is shows an object of its own: one that was missed, drawn
    # with another tool.
    elsewhere = {**boxes[0], "value": {**places[1], "rectanglelabels": ["car"]}}
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, [*masks, elsewhere], masks)]))
    assert whole(document)["effort"]["added"] == 1
    assert of_class(document, "car")["recall_50"] == 0.5
    # And boxes are compared with masks where one side has only those.
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, masks, boxes)]))
    assert whole(document)["effort"]["predicted"] == 2
    assert of_class(document, "car")["iou"] > 0.6


def several() -> list[dict[str, Any]]:
    """Two annotators, two model versions, a skipped annotation and one marked as ground truth."""
    good = pair()
    bad = regions(("car", LEFT, 0.9), salt="2")
    first = task(1, good, good)
    first["predictions"].append({"id": 900, "model_version": "v2", "result": bad})
    other = {
        **copy.deepcopy(first["annotations"][0]),
        "id": 50,
        "completed_by": {"id": 2, "email": "anna@example.com"},
        "ground_truth": True,
    }
    other["result"], other["parent_prediction"] = bad, 900
    skipped = {
        **copy.deepcopy(first["annotations"][0]),
        "id": 51,
        "was_cancelled": True,
        "result": [],
    }
    first["annotations"] += [other, skipped]
    return [first, task(2, good, good)]


def view(document: dict[str, Any], annotator: str | None, version: str | None) -> dict[str, Any]:
    return next(
        one
        for one in document["views"]
        if (one["annotator"], one["model_version"]) == (annotator, version)
    )


def test_everybody_and_every_version_has_numbers(run_cli, tmp_path: Path) -> None:
    _, document = scored(run_cli, write(tmp_path / "e.json", several()))
    assert document["model_versions"] == ["v1", "v2"]
    assert whole(document)["images"] == 2
    # Task 1 has two annotations, each against the version it began from; task 2 has one.
    assert whole(document)["compared"] == 3
    assert whole(document)["figures"]["mean_iou"]["value"] == 1
    assert whole(document)["effort"]["annotations"] == 3
    assert view(document, "1", "v1")["figures"]["mean_iou"]["value"] == 1
    assert view(document, "anna@example.com", "v2")["figures"]["mean_iou"]["value"] == 1
    assert view(document, "1", "v2")["figures"]["mean_iou"]["value"] < 1
    # Effort is what was done to the prediction that the annotator began from.
    assert view(document, None, "v2")["effort"] == {
        **view(document, None, "v2")["effort"],
        "annotations": 1,
        "predicted": 1,
        "untouched": 1,
    }
    unshown = view(document, "1", "v2")["effort"]
    assert unshown["annotations"] == 0
    assert unshown["would_have_been"]["annotations"] == 1
    assert "had they been shown, of 1 pre-label 1 would" in effort_text(view(document, "1", "v2"))


@pytest.mark.parametrize(
    ("options", "compared"),
    [
        (("--annotator", "1"), 2),
        (("--annotator", "anna@example.com"), 1),
        (("--annotator", "1", "--annotator", "anna@example.com"), 3),
        (("--model-version", "v1"), 3),
        (("--annotator", "1", "--model-version", "v2"), 1),
        (("--ground-truth",), 1),
        (("--include-cancelled",), 4),
        (("--latest",), 2),
    ],
)
def test_what_counts_can_be_chosen(
    run_cli, tmp_path: Path, options: Sequence[str], compared: int
) -> None:
    _, document = scored(run_cli, write(tmp_path / "e.json", several()), *options)
    assert whole(document)["compared"] == compared


def test_a_task_without_the_chosen_version_is_named(run_cli, tmp_path: Path) -> None:
    code, document = scored(run_cli, write(tmp_path / "e.json", several()), "--model-version", "v2")
    assert (code, document["failed"]) == (0, [])
    assert document["settings"]["tasks_without_chosen_version"] == 1
    assert whole(document)["images"] == 1
    code, document = scored(
        run_cli, write(tmp_path / "e.json", several()), "--model-version", "v2", "--missing"
    )
    assert code == 0
    assert whole(document)["images"] == 2


def test_the_newest_of_several_predictions_of_one_version_counts(run_cli, tmp_path: Path) -> None:
    one = task(1, pair(), pair())
    one["predictions"].insert(0, {"id": 5, "model_version": "v1", "result": []})
    _, document = scored(run_cli, write(tmp_path / "e.json", [one]))
    assert whole(document)["figures"]["mean_iou"]["value"] == 1


def test_an_annotated_task_without_prediction_is_a_fault_or_all_background(
    run_cli, tmp_path: Path
) -> None:
    path = write(tmp_path / "e.json", [task(1, pair(), pair()), task(2, pair(), None)])
    code, document = scored(run_cli, path)
    assert code == 1
    assert document["failed"] == [
        {
            "where": "task 2",
            "reason": (
                "task 2: predictions: there is none; --holdout SHARE names the control group of"
                " prelabel, and --missing counts it as one that found nothing"
            ),
        }
    ]
    code, document = scored(run_cli, path, "--missing")
    assert code == 0
    assert of_class(document, "car")["iou"] == pytest.approx(0.5)


def test_an_empty_prediction_counts_and_a_task_nobody_annotated_does_not(
    run_cli, tmp_path: Path
) -> None:
    code, document = scored(
        run_cli,
        write(tmp_path / "e.json", [task(1, pair(), []), task(2, None, pair()), task(3, [], [])]),
    )
    assert code == 0
    assert of_class(document, "car")["iou"] == 0
    assert document["settings"]["tasks_without_annotation"] == 1
    assert whole(document)["images"] == 2


def test_regions_to_be_ignored(run_cli, tmp_path: Path) -> None:
    accepted = pair()
    accepted[1]["value"]["brushlabels"] = ["__ignore__"]
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, accepted, pair())]))
    assert whole(document)["figures"]["pixel_accuracy"]["value"] == 1
    assert of_class(document, "dog")["iou"] is None  # its only prediction lies on ignored pixels
    assert of_class(document, "dog")["f1_50"] is None


def test_labels_can_be_renamed_and_fixed(run_cli, tmp_path: Path) -> None:
    accepted = pair()
    accepted[0]["value"]["brushlabels"] = ["vehicle"]
    path = write(tmp_path / "e.json", [task(1, accepted, pair()), task(2, pair(), pair())])
    code, document = scored(run_cli, path, "--rename", "vehicle=car")
    assert (code, document["classes"]) == (0, ["car", "dog"])
    code, document = scored(run_cli, path, "--classes", "dog,car")
    assert (code, document["classes"]) == (1, ["dog", "car"])
    assert (
        document["failed"][0]["reason"]
        == "task 1: annotations[0].result[0]: label 'vehicle' is none of the classes dog, car"
    )
    assert whole(document)["images"] == 2
    assert (
        of_class(document, "car")["pixels"]["true"] * 2
        == of_class(document, "car")["pixels"]["predicted"]
    )
    assert run_cli("score", path, "--rename", "vehicle")[0] == 2


def broken(**change: Any) -> list[Any]:
    one = task(7, pair(), pair())
    one.update(change)
    return [task(1, pair(), pair()), one, task(9, pair(), pair())]


def bad_rle() -> list[dict[str, Any]]:
    result = pair()
    result[1]["value"]["rle"] = result[1]["value"]["rle"][:20]
    return result


def wrong_size() -> list[dict[str, Any]]:
    result = pair()
    for region in result:
        region["original_width"] = 81
    return result


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        (
            broken(annotations=None),
            r"task 7: annotations: expected a list, got nothing; export as JSON",
        ),
        (broken(annotations=[3]), r"task 7: annotations\[0\]: expected an object, got a number"),
        (
            broken(annotations=[{"result": "x"}]),
            r"task 7: annotations\[0\]\.result: expected a list of regions, got text",
        ),
        (
            broken(annotations=[{"result": wrong_size()}]),
            (
                r"task 7: annotations\[0\] and predictions\[0\]: regions of several image sizes:"
                r" 80x60 and 81x60"
            ),
        ),
        (
            broken(predictions=[{"result": wrong_size()}], annotations=[{"result": []}]),
            r"task 7: predictions\[0\]\.result\[0\]\.value\.rle: holds 19200 values",
        ),
        (broken(predictions=[12, 13]), r"task 7: predictions: holds only their ids; give --url"),
        (broken(predictions=None), r"task 7: predictions: not in the export"),
        (broken(predictions={"a": 1}), r"task 7: predictions: expected a list, got an object"),
        (broken(id="seven"), r"item 1: expected a task with an id, got an object with annotations"),
        (
            [task(1, pair(), pair()), "text", task(2, pair(), pair())],
            r"item 1: expected a task with an id, got 'text'",
        ),
        (
            [task(1, pair(), pair()), {"image": "a.jpg", "tag": []}, task(2, pair(), pair())],
            r"item 1: expected a task with an id, got an object with image",
        ),
    ],
)
def test_bad_tasks_are_named_and_cost_only_themselves(
    run_cli, tmp_path: Path, tasks: list[Any], sentence: str
) -> None:
    code, document = scored(run_cli, write(tmp_path / "e.json", tasks))
    assert code == 1
    (fault,) = document["failed"]
    assert re.match(sentence, fault["reason"])
    assert whole(document)["images"] == 2
    assert whole(document)["figures"]["mean_iou"]["value"] == 1


def test_a_bad_region_is_named_and_costs_only_itself(run_cli, tmp_path: Path) -> None:
    tasks = broken(annotations=[{"result": bad_rle()}])
    code, document = scored(run_cli, write(tmp_path / "e.json", tasks))
    assert code == 1
    (fault,) = document["failed"]
    assert re.match(r"task 7: annotations\[0\]\.result\[1\]\.value\.rle: ", fault["reason"])
    assert whole(document)["images"] == 3
    assert of_class(document, "car")["iou"] == 1
    dog = of_class(document, "dog")["instances"]
    assert (dog["true"], dog["predicted"]) == (2, 3)


def test_a_file_that_is_cut_off_is_scored_up_to_there(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [task(k, pair(), pair()) for k in range(1, 5)])
    text = path.read_text()
    path.write_text(text[: int(len(text) * 0.6)])
    code, document = scored(run_cli, path)
    assert code == 1
    assert whole(document)["images"] == 2
    assert "is cut off or not JSON after 2 tasks" in document["failed"][0]["reason"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        (
            '{"detail": "Invalid token."}',
            'holds one object instead of a list of tasks: {"detail": "Invalid token."}',
        ),
        ("<html>", "is a web page, perhaps a login page"),
        ("PK\x03\x04", "is a zip archive; unpack it"),
        (
            "image,id,label\na.jpg,1,[]",
            (
                "expected a list of tasks, as Label Studio exports it as JSON; it begins with"
                " 'image,id,label a.jpg"
            ),
        ),
        (
            '[{"data": {"image": "a.jpg"}, "predictions": []}]',
            "it is a file for import: export the project once it is annotated",
        ),
        ("[", "cut off or not JSON after 0 tasks"),
        ("[]", "nothing could be scored: there is nothing in it"),
        ('[{"id": 1, "image": "x"}]', "annotations: expected a list"),
    ],
)
def test_files_with_nothing_to_score(run_cli, tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "e.json"
    path.write_text(content)
    code, out, err = run_cli("score", path, "--no-progress")
    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err


def test_other_refusals(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [task(1, pair(), pair())])
    for arguments, sentence in (
        ((tmp_path / "none.json",), "cannot read: no such file"),
        ((path, "--predictions", tmp_path), "--predictions is for a folder"),
        ((tmp_path,), "name the folder as it was predicted with --predictions DIR"),
        ((path, "--report", tmp_path), "is a folder; name a file"),
        ((path, "--resamples", "-1"), "--resamples: expected 0 or more"),
        ((path, "--project", "3"), "give --url and --api-key"),
        ((path, "--url", "http://localhost:1"), "--url: also give --project"),
        ((path, "--url", "localhost", "--project", "3"), "--url: "),
        ((path, "--images", tmp_path / "none"), "none: no such folder"),
        ((path, "--report", "-"), "--report: a page needs a file of its own"),
        ((path, "--json", path), "would be overwritten by the results"),
        (
            (path, "--report", tmp_path / "a", "--json", tmp_path / "a"),
            "would be overwritten by the results",
        ),
        (
            (path, "--annotator", "bo"),
            "none of its 1 tasks has an annotation that counts; annotated by 1",
        ),
        (
            (path, "--model-version", "v9"),
            "no annotated task has a prediction of the chosen version (1 have others: v1)",
        ),
        (
            (path, "--reprot", "x.html"),
            "yolosam2 score: error: unrecognized argument --reprot; did you mean --report?",
        ),
    ):
        code, _, err = run_cli("score", *arguments, "--no-progress")
        assert code == 2
        assert sentence in err


def test_a_byte_order_mark_and_blanks_are_no_matter(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [task(1, pair(), pair())])
    path.write_bytes(b"\xef\xbb\xbf \n" + path.read_bytes())
    assert scored(run_cli, path)[0] == 0


def only_ids(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**one, "predictions": [p["id"] for p in one["predictions"]]} for one in tasks]


def test_predictions_are_fetched_where_the_export_has_only_their_ids(
    run_cli, tmp_path: Path
) -> None:
    tasks = several()
    stored = {one["id"]: one["predictions"] for one in tasks}
    answers = iter([503])

    def answer(
        method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        assert headers["Authorization"] == "Token 0123456789012345678901234567890123456789"
        if path == "/api/users/":
            users = [{"id": 1, "email": "bert@example.com"}]
            return 200, {"Content-Type": "application/json"}, json.dumps(users).encode()
        found = re.fullmatch(r"/api/predictions\?project=3&task=(\d+)", path)
        if next(answers, None):
            return 503, {}, b"{}"
        return 200, {"Content-Type": "application/json"}, json.dumps(stored[int(found[1])]).encode()

    with http_server(answer) as server:
        options = (
            "--url",
            server.url,
            "--api-key",
            "0123456789012345678901234567890123456789",
            "--project",
            "3",
        )
        code, fetched = scored(run_cli, write(tmp_path / "ids.json", only_ids(tasks)), *options)
    _, full = scored(run_cli, write(tmp_path / "full.json", tasks))
    assert code == 0
    assert fetched["annotators"] == ["anna@example.com", "bert@example.com"]
    for name, number in (("bert@example.com", "1"), ("anna@example.com",) * 2, (None, None)):
        for version in (None, "v1", "v2"):
            ours, theirs = view(fetched, name, version), view(full, number, version)
            assert {**ours, "annotator": number} == theirs
    assert len(server.requests) == 4
    assert {method for method, *_ in server.requests} == {"GET"}


def test_a_refused_token_ends_the_run(run_cli, tmp_path: Path) -> None:
    with http_server(lambda *_: (401, {}, b"{}")) as server:
        options = ("--url", server.url, "--api-key", "x" * 40, "--project", "3")
        code, _, err = run_cli(
            "score", write(tmp_path / "ids.json", only_ids(several())), "--no-progress", *options
        )
    assert code == 3
    assert "401" in err
    assert "x" * 40 not in err


def test_a_silent_label_studio_is_not_asked_for_ever(
    run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.label_studio.api.stored._WAITS", Waits(first_s=0.0, tries=4))
    tasks = [task(0, pair(), pair()), *only_ids([task(k, pair(), pair()) for k in range(1, 30)])]
    with http_server(lambda *_: (502, {}, b"")) as server:
        options = ("--url", server.url, "--api-key", "x" * 40, "--project", "3")
        code, document = scored(run_cli, write(tmp_path / "ids.json", tasks), *options)
    assert code == 1
    assert whole(document)["images"] == 1
    assert len(document["failed"]) == 29
    assert len(server.requests) == 1 + 3 * 4  # the first is for the names of annotators
    assert "not asked for" in document["failed"][-1]["reason"]


def test_suggested_thresholds_are_printed_to_paste(run_cli, tmp_path: Path) -> None:
    tasks = []
    for k in range(20):  # sure cars are right, unsure ones are not there
        predicted = regions(("car", LEFT, 0.8 + k / 200), ("car", RIGHT, 0.3 + k / 200))
        tasks.append(task(k, predicted[:1], predicted))
    code, out, _ = run_cli(
        "score", write(tmp_path / "e.json", tasks), "--suggest-thresholds", "--no-progress"
    )
    assert code == 0
    assert (
        f'<Label value="car" background="{hex_colour("car")}" model_score_threshold="0.6"/>'
        "  <!-- F1 0.667 -> 1.000, keeps 20 of 40 -->" in out
    )
    assert "calibration of scores: expected error" in out


def test_scores_that_are_not_there_are_not_made_up(run_cli, tmp_path: Path) -> None:
    unscored = [
        {key: value for key, value in region.items() if key != "score"} for region in pair()
    ]
    code, out, _ = run_cli(
        "score",
        write(tmp_path / "e.json", [task(1, unscored, unscored)]),
        "--suggest-thresholds",
        "--no-progress",
    )
    assert code == 0
    assert "no threshold can be suggested" in out
    assert "calibration" not in out


def test_the_overlap_policy_decides_and_is_recorded(run_cli, tmp_path: Path) -> None:
    large = disc(30, 30, 20)
    small = disc(30, 30, 5)
    predicted = regions(("car", large, 0.9), ("dog", small, 0.5))
    path = write(tmp_path / "e.json", [task(1, regions(("dog", small, 0.5)), predicted)])
    for policy, seen in (("score", 0), ("smallest", small.sum()), ("last", small.sum())):
        _, document = scored(run_cli, path, "--overlap", policy)
        assert of_class(document, "dog")["pixels"]["predicted"] == seen
        assert document["settings"]["overlap"] == policy


def test_several_pictures_of_a_task_are_compared_apart(run_cli, tmp_path: Path) -> None:
    first = regions(("car", LEFT, 0.9))
    second = regions(("car", RIGHT, 0.9), salt="2")
    for region in second:
        region["to_name"] = "other"
        region["original_width"], region["original_height"] = (
            60,
            80,
        )  # of another size, with as many pixels
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, first, first + second)]))
    whole_car = of_class(document, "car")
    assert whole(document)["compared"] == 2
    assert whole_car["instances"] == {"true": 1, "predicted": 2, "hit_50": 1}
    assert sum(row["pixels"]["true"] for row in whole(document)["classes"]) == 2 * 4800
    pages = [
        {**region, "item_index": k}
        for k, region in enumerate(first + regions(("car", RIGHT, 0.9), salt="2"))
    ]
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, pages, pages)]))
    assert whole(document)["compared"] == 2


def test_an_annotator_is_chosen_by_address_or_number(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", several())
    for who in ("anna@example.com", "2"):
        assert whole(scored(run_cli, path, "--annotator", who)[1])["compared"] == 1


def test_an_interrupted_run_says_so(
    run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    from backend.evaluation.scoring import Scoring

    take = Scoring.take
    taken = []

    def interrupted(self: Scoring, *arguments: Any) -> None:
        take(self, *arguments)
        taken.append(arguments)
        if len(taken) == 1:  # a second one would not wait for what is in flight
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Scoring, "take", interrupted)
    code, out, err = run_cli(
        "score",
        write(tmp_path / "e.json", [task(k, pair(), pair()) for k in range(500)]),
        "--no-progress",
        "--resamples",
        0,
    )
    assert code == 130
    [count] = re.findall(r"^stopped early, interrupted: these figures are of (\d+) image", out)
    assert 1 <= int(count) < 500  # those that other threads had begun are finished
    assert f"compared {count} image" in out
    assert "finishing what is in flight" in err


def test_an_untouched_region_without_a_score_is_untouched(run_cli, tmp_path: Path) -> None:
    predicted = regions(
        ("car", disc(30, 30, 20), 0.9), ("dog", disc(35, 30, 15), 0.5)
    )  # the surer one, which comes first, is seen
    accepted = [
        {key: value for key, value in region.items() if key != "score"} for region in predicted
    ]
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, accepted, predicted)]))
    assert whole(document)["figures"]["mean_iou"]["value"] == 1
    assert whole(document)["figures"]["AP"]["value"] == 1


def test_an_annotation_from_scratch_is_no_edit(run_cli, tmp_path: Path) -> None:
    scratch = task(1, regions(("car", LEFT, 1.0), salt="own"), pair())
    scratch["annotations"][0]["parent_prediction"] = None
    began = task(2, pair()[:1], pair())
    began["annotations"][0]["parent_prediction"] = (
        None  # as some importers leave it, but its regions have the prediction's ids
    )
    _, document = scored(run_cli, write(tmp_path / "e.json", [scratch, began]))
    effort = whole(document)["effort"]
    assert (effort["annotations"], effort["untouched"], effort["deleted"], effort["added"]) == (
        1,
        1,
        1,
        0,
    )
    assert whole(document)["images"] == 2


def test_a_model_cannot_excuse_itself(run_cli, tmp_path: Path) -> None:
    everywhere = regions(("car", np.ones(SIZE, bool), 0.9))
    everywhere[0]["value"]["brushlabels"] = ["__ignore__"]
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, pair(), everywhere)]))
    assert of_class(document, "car")["iou"] == 0


def test_thresholds_come_from_tasks_with_scores_alone(run_cli, tmp_path: Path) -> None:
    predicted = regions(("car", LEFT, 0.8), ("car", RIGHT, 0.3))
    scored_tasks = [task(k, predicted[:1], predicted) for k in range(5)]
    unscored = [
        {key: value for key, value in region.items() if key != "score"} for region in predicted
    ]
    others = [task(k, unscored, unscored) for k in range(5, 10)]
    _, alone = scored(run_cli, write(tmp_path / "a.json", scored_tasks))
    _, mixed = scored(run_cli, write(tmp_path / "b.json", scored_tasks + others))
    assert whole(alone)["scores"]["suggested"] == whole(mixed)["scores"]["suggested"] != []
    assert (
        whole(mixed)["figures"]["AP"]["value"] is None
    )  # without all scores there is no order to take them in


def test_a_task_counts_once(run_cli, tmp_path: Path) -> None:
    code, document = scored(
        run_cli, write(tmp_path / "e.json", [task(1, pair(), pair()), task(1, [], pair())])
    )
    assert code == 1
    assert (
        document["failed"][0]["reason"]
        == "task 1: is in the export twice; only the first is scored"
    )
    assert whole(document)["figures"]["mean_iou"]["value"] == 1


def test_labels_that_only_one_side_has_are_pointed_out(run_cli, tmp_path: Path) -> None:
    accepted = pair()
    accepted[0]["value"]["brushlabels"] = ["Cars"]
    code, out, _ = run_cli(
        "score",
        write(tmp_path / "e.json", [task(1, accepted, pair())]),
        "--no-progress",
        "--rename",
        "bike=bicycle",
    )
    assert code == 0
    assert (
        "only predicted: car; only accepted: Cars; the same under other names? --rename Cars=car,.."
        in out
    )
    assert "--rename: nothing is labelled bike" in out


def test_classes_come_by_name_unless_they_are_given(run_cli, tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", [task(1, pair(), pair())])
    second = write(tmp_path / "b.json", [task(1, pair()[::-1], pair()[::-1])])
    views = [scored(run_cli, path)[1] for path in (first, second)]
    assert views[0]["classes"] == views[1]["classes"] == ["car", "dog"]
    assert views[0]["views"] == views[1]["views"]
    mixed = [
        task(1, regions(("dog", LEFT, 0.9)), regions(("cat", LEFT, 0.9), ("dog", RIGHT, 0.5))),
        task(2, pair(), pair()),
    ]
    _, document = scored(run_cli, write(tmp_path / "c.json", mixed))
    assert [row["name"] for row in whole(document)["classes"]] == [
        "background",
        "car",
        "cat",
        "dog",
    ]
    assert of_class(document, "car")["iou"] == 1
    assert of_class(document, "cat")["iou"] == 0
    assert whole(document)["confusion"][3][2] == LEFT.sum()  # the dog that was taken for a cat
    assert of_class(document, "dog")["instances"] == {"true": 2, "predicted": 2, "hit_50": 1}
    assert of_class(document, "car")["ap"] == 1


def test_whatever_is_in_a_task_costs_only_itself(run_cli, tmp_path: Path) -> None:
    huge = task(5, pair(), pair(), data={"image": "a.jpg", "barcode": 12345678901234567890123})
    path = write(tmp_path / "e.json", [task(1, pair(), pair()), huge, task(9, pair(), pair())])
    code, document = scored(run_cli, path)  # a number that the fast parser does not know
    assert (code, whole(document)["images"]) == (0, 3)
    deep = "[" * 400 + "]" * 400
    text = json.dumps(
        [task(1, pair(), pair()), task(5, pair(), "DEEP"), task(9, pair(), pair())]
    ).replace('"DEEP"', deep)
    path.write_text(text)
    code, document = scored(run_cli, path)
    assert (code, whole(document)["images"]) == (1, 2)
    path.write_text("[" * 100_000)
    assert "is nested deeper than 500 levels" in run_cli("score", path, "--no-progress")[2]


def test_pictures_are_found_by_the_longest_path(tmp_path: Path) -> None:
    from backend.files.pictures import PictureFolder

    files = [tmp_path / name for name in ("cam1/0001.png", "cam2/0001.png", "other/b.png")]
    assert PictureFolder(Path("/"), files).find("/data/local-files/cam2/0001.png") == files[1]
    assert PictureFolder(Path("/"), files).find("0001.png") is None  # two fit equally well
    assert PictureFolder(Path("/"), files).find("/data/upload/1/0123abcd-b.png") == files[2]
    assert PictureFolder(Path("/"), files).find("/data/upload/1/training-b.png") is None


def box(label: str, key: str, x: float, y: float, w: float, h: float) -> dict[str, Any]:
    """A rectangle of the box tag, in pixels."""
    value = {
        "x": 100 * x / SIZE[1],
        "y": 100 * y / SIZE[0],
        "width": 100 * w / SIZE[1],
        "height": 100 * h / SIZE[0],
        "rotation": 0,
        "rectanglelabels": [label],
    }
    head = {
        "id": key,
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        "original_height": SIZE[0],
        "original_width": SIZE[1],
        "score": 0.9,
    }
    return {**head, "value": value}


def test_a_mask_takes_one_box_and_takes_it_along(run_cli, tmp_path: Path) -> None:
    masks = regions(("car", LEFT, 0.9))
    twin = box("car", "b1", 11, 21, 19, 19)
    second = box("car", "b2", 15, 21, 19, 19)
    _, document = scored(
        run_cli, write(tmp_path / "a.json", [task(1, [*masks, twin, second], masks)])
    )
    assert of_class(document, "car")["instances"]["true"] == 2  # the second box is another car
    relabelled = copy.deepcopy(masks)
    relabelled[0]["value"]["brushlabels"] = ["dog"]
    _, document = scored(
        run_cli, write(tmp_path / "b.json", [task(1, [*relabelled, twin], [*masks, twin])])
    )
    effort = whole(document)["effort"]
    assert (effort["predicted"], effort["relabelled"], effort["added"]) == (
        1,
        1,
        0,
    )  # the box went with its mask


def test_effort_is_judged_over_all_pictures_of_a_task(run_cli, tmp_path: Path) -> None:
    first = pair()
    second = [
        {**region, "to_name": "other"}
        for region in regions(("car", RIGHT, 0.9), ("dog", LEFT, 0.8), salt="2")
    ]
    one = task(1, first, first + second)
    one["annotations"][0]["parent_prediction"] = None
    _, document = scored(run_cli, write(tmp_path / "e.json", [one]))
    effort = whole(document)["effort"]
    assert (effort["predicted"], effort["untouched"], effort["deleted"]) == (4, 2, 2)


def test_untouched_regions_in_another_order_are_untouched(run_cli, tmp_path: Path) -> None:
    predicted = regions(("car", disc(30, 30, 18), 0.9), ("dog", disc(40, 30, 18), 0.9))
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, predicted[::-1], predicted)]))
    assert whole(document)["figures"]["mean_iou"]["value"] == 1


def test_brackets_in_words_do_not_nest(run_cli, tmp_path: Path) -> None:
    noted = [
        task(
            k,
            pair(),
            pair(),
            data={"image": "/a.jpg", "text": 'see [p. 3 \\" and {more' + "x" * (k % 90)},
        )
        for k in range(700)
    ]
    code, document = scored(run_cli, write(tmp_path / "e.json", noted))
    assert (code, whole(document)["images"]) == (0, 700)
    (tmp_path / "e.json").write_text('["' + "]" * 200_000 + '",' + "[" * 100_000)
    assert (
        "is nested deeper than 500 levels"
        in run_cli("score", tmp_path / "e.json", "--no-progress")[2]
    )


def test_the_labels_of_a_bad_task_are_forgotten(run_cli, tmp_path: Path) -> None:
    many = []
    for k in range(300):
        (region,) = regions(("car", LEFT, 0.9), salt=str(k))
        many.append(
            {**region, "id": f"r{k}", "value": {**region["value"], "brushlabels": [f"label {k}"]}}
        )
    code, document = scored(
        run_cli, write(tmp_path / "e.json", [task(1, many, []), task(2, pair(), pair())])
    )
    assert (code, document["classes"]) == (1, ["car", "dog"])
    assert "would be class 255" in document["failed"][0]["reason"]


def test_figures_of_many_annotators(run_cli, tmp_path: Path) -> None:
    tasks = []
    for k in range(120):
        one = task(k, pair(), pair())
        one["annotations"][0]["completed_by"] = k
        tasks.append(one)
    _, document = scored(run_cli, write(tmp_path / "a.json", tasks[:60]), "--resamples", 0)
    assert (len(document["views"]), document["settings"]["remarks"]) == (61, [])
    _, document = scored(run_cli, write(tmp_path / "b.json", tasks), "--resamples", 0)
    assert len(document["views"]) == 100
    assert (
        "21 of them and their pairs have no figures of their own"
        in document["settings"]["remarks"][0]
    )


def test_sums_over_versions_equal_one_version(run_cli, tmp_path: Path) -> None:
    """Thresholds, precision and effort of two versions added up are those of the same tasks under
    one name.
    """
    rng = np.random.default_rng(0)
    tasks = []
    for k in range(30):
        names = ["dog", "car", "cat"][
            : 1 + k % 3
        ]  # met in another order than that of their names, and each a different number of times
        predicted = regions(
            *[
                (name, disc(15 + 25 * n, 30, 9), float(rng.uniform(0.1, 0.99)))
                for n, name in enumerate(names)
            ]
        )
        kept = [region for region in predicted if region["score"] > 0.4 or k % 4 == 0]
        tasks.append(task(k, kept, predicted))
    _, one = scored(run_cli, write(tmp_path / "one.json", tasks), "--resamples", 0)
    for k, each in enumerate(tasks):
        each["predictions"][0]["model_version"] = f"v{k % 2}"
    _, two = scored(run_cli, write(tmp_path / "two.json", tasks), "--resamples", 0)
    for document in (one, two):
        for part in whole(document)["scores"]["by_class"].values():
            part.pop("mean_scores")  # sums of floats in another order
    assert whole(two) == whole(one)
    suggested = {row["label"]: row for row in whole(one)["scores"]["suggested"]}
    assert list(suggested) == ["car", "cat", "dog"]
    for name, row in suggested.items():
        assert row["n_true"] == of_class(one, name)["instances"]["true"]
        assert row["n_predicted"] == of_class(one, name)["instances"]["predicted"]
    assert len({row["n_true"] for row in suggested.values()}) == 3


def test_what_has_no_scores_has_no_ap(run_cli, tmp_path: Path) -> None:
    unscored = [
        {key: value for key, value in region.items() if key != "score"} for region in pair()
    ]
    tasks = [task(1, pair(), pair()), task(2, unscored, unscored)]
    tasks[1]["predictions"][0]["model_version"] = "v2"
    _, document = scored(run_cli, write(tmp_path / "e.json", tasks))
    ap = {
        (v["model_version"]): (
            v["figures"]["AP"]["value"],
            v["classes"][1]["ap"],
            v["scores"]["instances_without_score"],
        )
        for v in document["views"]
    }
    assert ap == {None: (None, None, 2), "v1": (1.0, 1.0, 0), "v2": (None, None, 2)}


def test_relabelled_regions_count_under_what_was_predicted(run_cli, tmp_path: Path) -> None:
    accepted = pair()
    accepted[0]["value"]["brushlabels"] = ["dog"]
    _, document = scored(run_cli, write(tmp_path / "e.json", [task(1, accepted, pair())]))
    assert (
        of_class(document, "car")["effort"]["relabelled"],
        of_class(document, "dog")["effort"]["relabelled"],
    ) == (1, 0)
    assert of_class(document, "car")["f1_50"] == 0
    assert of_class(document, "dog")["f1_50"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", ["keypointlabels", "rectanglelabels"])
def test_a_region_with_the_label_of_its_prompt_is_one(run_cli, tmp_path: Path, kind: str) -> None:
    """With *Keep label selected after creating a region*, Label Studio stores a second entry under
    the id of a region: its geometry again, with the label of the smart tool.
    """
    accepted = pair()
    twins = [
        {
            **one,
            "type": kind,
            "from_name": "point",
            "value": {
                **{k: v for k, v in one["value"].items() if k != "brushlabels"},
                kind: one["value"]["brushlabels"],
            },
        }
        for one in accepted
    ]
    path = write(tmp_path / "e.json", [task(1, [*accepted, *twins], pair())])
    code, document = scored(run_cli, path)
    effort = whole(document)["effort"]
    assert (code, effort["untouched"], effort["added"], effort["deleted"]) == (0, 2, 0, 0)
    code, out, _ = run_cli(
        "convert", path, tmp_path / "out", "--to", "coco", "--json", "--no-progress"
    )
    assert json.loads(out)["instances"] == {"car": 1, "dog": 1}
