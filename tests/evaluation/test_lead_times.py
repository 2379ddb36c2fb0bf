"""What pre-labels saved: from the times of annotations, with a control group that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.core.holdout import is_held_out
from backend.evaluation.lead_times import LeadTimes
from tests.evaluation.test_from_export import pair, scored, whole
from tests.support.exports import task, write


def timed(number: int, seconds: object, predicted: bool = True) -> dict[str, Any]:
    made = task(number, pair(), pair() if predicted else None)
    made["annotations"][0]["lead_time"] = seconds
    return made


def test_the_report_opens_with_what_was_saved(run_cli, tmp_path: Path) -> None:
    held = [k for k in range(1, 200) if is_held_out(k, 0.1)][:8]
    others = [k for k in range(1, 200) if not is_held_out(k, 0.1)][:20]
    tasks = [timed(k, 10 + k % 3) for k in others]
    tasks += [timed(k, 40 + k % 3, predicted=False) for k in held]
    path = write(tmp_path / "e.json", tasks)
    code, document = scored(run_cli, path, "--holdout", "10%", "--hourly", "36")
    time = document["time"]
    assert code == 0
    assert document["settings"]["tasks_held_out"] == 8
    assert whole(document)["images"] == 20
    assert time["with_prelabels"]["annotations"] == 20
    assert time["without_prelabels"]["annotations"] == 8
    saved = time["saved"]
    ours = time["with_prelabels"]["median_seconds"]
    theirs = time["without_prelabels"]["median_seconds"]
    assert saved["seconds_a_task"] == theirs - ours
    assert saved["hours"] == pytest.approx((theirs - ours) * 20 / 3600, abs=1e-4)
    assert saved["cost"] == pytest.approx((theirs - ours) * 20 / 100, abs=0.01)
    low, high = saved["interval"]
    assert 0 < low <= saved["seconds_a_task"] <= high
    report = tmp_path / "r.html"
    code, text, _ = run_cli(
        "score", path, "--holdout", "0.1", "--hourly", "36", "--report", report, "--no-progress"
    )
    lines = text.splitlines()
    assert lines[0].startswith("An annotation took 11 s (95 % interval ")
    assert lines[1].startswith("Pre-labels saved 10 minutes, ")
    assert lines[2].startswith("Of 40 pre-labels 40 were accepted as they were, 0 reshaped")
    assert "favours the model" in lines[3]
    assert "8 tasks of the control group without pre-labels: for the times alone" in text
    page = report.read_text()
    assert page.index("Pre-labels saved") < page.index("chart-classes")


def test_a_task_without_predictions_is_a_fault_where_nobody_held_it_out(
    run_cli, tmp_path: Path
) -> None:
    path = write(tmp_path / "e.json", [timed(1, 9), timed(2, 30, predicted=False)])
    code, document = scored(run_cli, path)
    assert code == 1
    assert "predictions: there is none" in document["failed"][0]["reason"]
    assert document["time"]["without_prelabels"]["annotations"] == 1
    assert document["time"]["saved"] is None, "one of each says nothing"


def test_times_that_are_none(run_cli, tmp_path: Path) -> None:
    odd = [None, "5", True, -3, 0]
    path = write(tmp_path / "e.json", [timed(k, value) for k, value in enumerate(odd)])
    code, document = scored(run_cli, path)
    assert (code, document["time"]) == (0, None)


def test_what_could_be_chance_is_not_called_saved() -> None:
    times = LeadTimes()
    times.add([{"lead_time": s} for s in (5, 50, 9, 70, 20, 44)], prelabelled=True)
    times.add([{"lead_time": s} for s in (6, 49, 11, 71, 25, 40)], prelabelled=False)
    made = times.document(None, 500)
    assert made is not None
    low, high = made["saved"]["interval"]
    assert low < 0 < high
    from backend.evaluation.verdict import verdict

    said = verdict({"views": [{"effort": None}], "time": made})
    assert "could be chance" in said[1]


def test_shares_are_read(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [timed(1, 9)])
    for wrong in ("110%", "ten", "-1"):
        code, _, err = run_cli("score", path, "--holdout", wrong)
        assert code == 2
        assert "--holdout: expected a share" in err


def test_groups_are_nested_and_of_their_size() -> None:
    numbers = range(20_000)
    for share in (0.05, 0.1, 0.5):
        held = [k for k in numbers if is_held_out(k, share)]
        assert len(held) == pytest.approx(share * 20_000, rel=0.06)
        assert all(is_held_out(k, share + 0.1) for k in held)
    assert not any(is_held_out(k, 0.0) for k in numbers)
    assert all(is_held_out(k, 1.0) for k in numbers)
