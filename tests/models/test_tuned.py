"""What folders of tuned models offer, one training after the other, and the way back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.errors import ConfigError
from backend.models.tuned import describe_tuned, is_tuned, read_tuned, roll_back


def offered(folder: Path, name: str, kind: str = "segmenter") -> Path:
    path = folder / f"{kind}-{name}.pt"
    path.write_bytes(name.encode())
    figures = {"iou_from_true_boxes": {"before": 0.25, "after": 0.5}}
    about = {"made": name, "figures": figures, "pictures": {"train": ["a", "b"]}}
    describe_tuned(folder, kind, path, "demo", None, {**about, "licence": "Apache-2.0"})
    return path


def test_going_back_one_step_after_the_other(tmp_path: Path) -> None:
    first, second = offered(tmp_path, "one"), offered(tmp_path, "two")
    offered(tmp_path, "two")  # the same weights again are no step
    assert read_tuned(tmp_path, "segmenter").path == second
    found = roll_back(tmp_path, "segmenter")
    assert found is not None
    assert found.path == read_tuned(tmp_path, "segmenter").path == first
    assert read_tuned(tmp_path, "segmenter").about["made"] == "one"
    assert roll_back(tmp_path, "segmenter") is None
    assert not is_tuned(tmp_path, "segmenter")
    assert (first.is_file(), second.is_file()) == (True, True), "nothing is lost"
    assert json.loads((tmp_path / "segmenter-two.json").read_text())["made"] == "two"
    with pytest.raises(ConfigError, match="holds no tuned segmenter"):
        roll_back(tmp_path, "segmenter")


def test_what_is_not_whole_is_not_gone_back_to(tmp_path: Path) -> None:
    first = offered(tmp_path, "one")
    second = offered(tmp_path, "two")
    first.write_bytes(b"cut")
    with pytest.raises(ConfigError, match="segmenter-one.pt: is not the file that was trained"):
        roll_back(tmp_path, "segmenter")
    assert read_tuned(tmp_path, "segmenter").path == second


def test_the_command_lists_and_goes_back(run_cli, tmp_path: Path) -> None:
    run = tmp_path / "models" / "run"
    run.mkdir(parents=True)
    offered(run, "one")
    offered(run, "two")
    offered(run, "three", "detector")
    code, out, _ = run_cli("models", "--model-root", tmp_path / "models")
    assert code == 0
    assert "tuned from demo on 2 pictures, two, mean IoU from true boxes 0.250 to 0.500" in out
    code, out, _ = run_cli("models", run, "--json")
    assert [(row["kind"], row["made"], row["licence"]) for row in json.loads(out)] == [
        ("detector", "three", "Apache-2.0"),
        ("segmenter", "two", "Apache-2.0"),
    ]
    code, out, _ = run_cli("models", run, "--rollback", "--kind", "segmenter")
    assert (code, "segmenter: segmenter-one.pt again" in out) == (0, True)
    assert is_tuned(run, "detector")
    code, out, _ = run_cli("models", run, "--rollback")
    assert code == 0
    assert out.count("name its base") == 2
    for arguments in ((run,), (run, "--rollback"), ("--rollback",), ("--kind", "detector")):
        assert run_cli("models", *arguments)[0] == 2
