"""Which tasks are worth looking at next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.cli.main import main
from backend.evaluation.review_order import ALIKE, PREDICTED, UNPREDICTED, review_order
from tests.label_studio.api.test_accepted import picture
from tests.support.exports import disc, regions, task, write

CAR = regions(("car", disc(30, 30, 12), 0.9))
MANY = regions(("car", disc(20, 20, 8), 0.6), ("dog", disc(60, 30, 8), 0.3))


def scored(one: dict[str, Any], score: float | None) -> dict[str, Any]:
    one["predictions"][0]["score"] = score
    return one


TASKS = [
    task(1, CAR, CAR),
    scored(task(2, None, CAR), 0.9),
    scored(task(3, None, MANY), 0.4),
    task(4, None, None),
    scored(task(5, None, MANY), None),
]


def test_most_to_correct_comes_first() -> None:
    found = review_order(TASKS)
    assert [one.task for one in found.tasks] == [3, 5, 2, 4]
    assert [one.kind for one in found.tasks] == [PREDICTED, PREDICTED, PREDICTED, UNPREDICTED]
    assert found.n_accepted == 1
    efforts = [one.effort for one in found.tasks]
    assert efforts[:3] == pytest.approx([1.5, 1.1, 1 / 9])
    assert found.tasks[0].why == "2 objects, 1.5 to correct; least sure: dog 0.30"
    assert found.tasks[-1].why == "nothing was predicted"


def test_look_alikes_come_last() -> None:
    """Of what is accepted, and of what is higher up."""
    bits = {1: 0, 2: 1, 3: 2, 4: 3, 5: 2}

    def hash_of(one: Any, address: str) -> np.ndarray:
        pattern = np.random.default_rng(bits[one["id"]])
        return pattern.integers(0, 2**63, 4, dtype=np.uint64)

    # Names without numbers, as those with them are taken for frames of a video.
    tasks = [
        {**one, "data": {"image": f"/data/upload/1/{'abcde'[k]}.jpg"}}
        for k, one in enumerate(TASKS)
    ]
    assert [one.task for one in review_order(tasks, hash_of).tasks] == [3, 2, 4, 5]
    bits[3] = 0  # looks like the accepted one
    found = review_order(tasks, hash_of)
    assert [one.task for one in found.tasks] == [5, 2, 4, 3]
    assert found.tasks[-1].kind == ALIKE
    assert found.tasks[-1].why.startswith("looks like task 1, which is accepted")


def test_what_was_accepted_shows_how_often_predictions_are_right() -> None:
    """The models are sure of dogs, and always wrong; they are unsure of cars, and always right."""
    dog, car = ("dog", disc(60, 30, 8), 0.9), ("car", disc(30, 30, 12), 0.5)
    wrong = ("cat", *dog[1:])
    done = [task(k, regions(wrong, car), regions(dog, car)) for k in range(1, 60)]
    waiting = [
        scored(task(100, None, regions(dog)), 1 / 1.1),
        scored(task(101, None, regions(car)), 1 / 1.5),
    ]
    before = review_order([*done[:10], *waiting])
    assert [one.task for one in before.tasks] == [101, 100]
    assert before.n_learned == 0
    found = review_order([*done, *waiting])
    assert found.n_learned == len(done)
    assert [one.task for one in found.tasks] == [100, 101]
    assert [round(one.effort or 0) for one in found.tasks] == [1, 0]
    assert found.tasks[0].why.startswith("1 object, 1.0 to correct; least sure: dog 0.0")


def test_only_what_began_as_the_prediction_teaches() -> None:
    """Who draws by himself draws another outline, and who began from an older prediction says
    nothing of the newest.
    """
    car = ("car", disc(30, 30, 12), 0.9)
    drawn = [
        {**one, "id": f"own{k}"} for k, one in enumerate(regions(("car", disc(31, 30, 12), 1)))
    ]
    alone = [task(k, drawn, regions(car)) for k in range(1, 60)]
    for one in alone:
        one["annotations"][0]["parent_prediction"] = None
    waiting = scored(task(100, None, regions(car)), None)
    assert review_order([*alone, waiting]).n_learned == 0
    done = [task(k, regions(car), regions(car)) for k in range(1, 60)]
    for one in done:
        newest = {"id": 900 + one["id"], "model_version": "v2", "score": 0.01, "result": []}
        one["predictions"].append({**newest, "result": regions(car, salt="2")})
    found = review_order([*done, waiting])
    assert found.n_learned == len(done)
    assert (found.tasks[0].effort or 0) < 0.1


def test_annotated_tasks_of_a_plain_export_are_no_faults() -> None:
    plain = [
        {**task(k, regions(("car", disc(30, 30, 12), 0.9)), None), "predictions": [k]}
        for k in range(1, 4)
    ]
    found = review_order([*plain, TASKS[1]])
    assert (found.faults, found.n_accepted) == ((), 3)


def test_an_object_in_two_regions_counts_once() -> None:
    bare = regions(("car", disc(30, 30, 12), 0.6))
    [brush] = bare
    value = {key: one for key, one in brush["value"].items() if key != "brushlabels"}
    pair = [
        {**brush, "type": "brush", "value": value},
        {**brush, "type": "labels", "value": {"labels": ["car"]}},
    ]
    [found] = review_order([scored(task(1, None, pair), None)]).tasks
    assert found.why == "1 object, 0.4 to correct; least sure: car 0.60"


def test_one_bad_task_costs_itself() -> None:
    ids_only = {**task(8, None, None), "predictions": [7]}
    found = review_order([*TASKS, {"id": 7}, "odd", ids_only])  # type: ignore[list-item]
    assert len(found.tasks) == 4
    assert len(found.faults) == 3
    assert "task 8: predictions: holds only their ids" in found.faults[2]


def test_a_version_is_chosen() -> None:
    one = task(6, None, CAR)
    one["predictions"].append({"id": 900, "model_version": "v2", "score": 0.2, "result": []})
    assert review_order([one]).tasks[0].effort == pytest.approx(4)
    assert review_order([one], model_version="v1").tasks[0].effort == pytest.approx(1)
    assert review_order([one], model_version="v3").tasks[0].kind == UNPREDICTED


def test_the_command_prints_the_order(tmp_path: Path, capsys: Any) -> None:
    export = write(tmp_path / "export.json", TASKS)
    (tmp_path / "photos").mkdir()
    for number in (1, 2, 3, 4, 5):
        data = picture(3 if number == 5 else number)
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(data)
    assert main(["next", str(export), "--images", str(tmp_path / "photos"), "--most", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("4 tasks to look at, 1 accepted")
    assert "2 more; --most 0 prints all" in text
    assert main(["next", str(export), "--no-pictures", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["task"] for one in document["tasks"]] == [3, 5, 2, 4]
    assert document["accepted"] == 1
    assert main(["next"]) == 2
    assert main(["next", str(export), "--project", "3"]) == 2
    assert main(["next", str(tmp_path / "none.json")]) == 2
