"""From accepted pictures to weights that are offered because they are better."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from backend.config.models import Settings
from backend.errors import ConfigError, Unavailable
from backend.files.images import ImageLimits
from backend.labeling.load import box_margin_of
from backend.models.registry import load_segmenter
from backend.models.tuned import read_tuned
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG
from backend.training import segmenter_loop
from backend.training.accepted import Accepted, read_accepted
from backend.training.compare import NOT_SHOWN, WORSE, by_class, paired_difference
from backend.training.division import divide, record, with_hashes
from backend.training.finetune import finetune
from backend.training.request import FinetuneRequest, FinetuneSummary
from backend.training.segmenter import Recipe, SegmenterTrainer
from backend.training.segmenter_loop import Progress
from backend.training.views import bytes_of_view
from tests.support.cells import cells, write_cells

DEMO = Settings(segmenter="demo", device="cpu")
LIMITS = ImageLimits()


# In a process of its own: what a tuned segmenter makes of boxes.
_ELSEWHERE = """
import hashlib, pathlib, sys
import numpy as np
import torch
from backend.config.models import Settings
from backend.models.registry import load_segmenter
torch.set_num_threads({threads})
folder = pathlib.Path(sys.argv[2])
named = Settings(segmenter=sys.argv[1], device="cpu", runtime="torch")
boxes = np.load(folder / "boxes.npy")
[made] = load_segmenter(named, "cpu").segment([np.load(folder / "image.npy")], [boxes])
print(hashlib.sha256(made.logits.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cells")
    return write_cells(root / "voc", {"train": range(5), "val": (11, 12, 13)})


@pytest.fixture(scope="module")
def accepted(dataset: Path) -> Accepted:
    return read_accepted(dataset)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps of few objects."""
    monkeypatch.setattr(segmenter_loop, "_LEAST_STEPS", 5)
    monkeypatch.setattr(
        "backend.training.finetune.Recipe", lambda **given: Recipe(prompts=4, **given)
    )


def run(source: Path, out: Path, settings: Settings = DEMO, **changed: Any) -> FinetuneSummary:
    out.mkdir(exist_ok=True)
    request = FinetuneRequest(
        source=source, out=out, share=0.3, epochs=4, views=2, kinds=("segmenter",)
    )
    told: list[Progress] = []
    stop = changed.pop("stop", threading.Event())
    stop_after = changed.pop("stop_after", None)

    def tell(progress: Progress) -> None:
        told.append(progress)
        if progress.epoch == stop_after:
            stop.set()

    found = finetune(
        replace(request, **changed), settings, stop=stop, tell=tell, remark=lambda text: None
    )
    assert [one.epoch for one in told][-1:] == [found.segmenter.epochs][: len(told)]
    return found


@pytest.mark.usefixtures("quick")
def test_tuned_weights_are_better_and_taken_by_their_folder(dataset: Path, tmp_path: Path) -> None:
    """The folder stands for a segmenter; what it says is the same in any process, to the bit."""
    found = run(dataset, tmp_path / "run")
    every = found.segmenter.every
    assert (found.train + found.validation, found.held_out) == (5, 3)
    assert every.after > every.before + 0.02
    assert every.verdict == "better"
    assert found.offered
    tuned = read_tuned(tmp_path / "run", "segmenter")
    assert tuned.base == "demo"
    assert tuned.about["figures"]["iou_from_true_boxes"]["after"] == every.after
    lines = (tmp_path / "run/segmenter-log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(
        range(1, found.segmenter.epochs + 1)
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(
        [
            *("pictures.json", "segmenter.json", "segmenter-log.jsonl", "segmenter-validation.jpg"),
            *(".finetune.lock", tuned.path.name),
        ]
    )
    named = replace(DEMO, segmenter=str(tmp_path / "run"))
    assert tuned.about["box_margin"] == found.segmenter.margin
    assert box_margin_of(named) == found.segmenter.margin
    assert box_margin_of(replace(named, box_margin=0.3)) == 0.3
    assert box_margin_of(DEMO) is None
    image, masks = cells(12)
    boxes = np.array([[m.x, m.y, m.x + m.crop.shape[1], m.y + m.crop.shape[0]] for m in masks])
    (one,) = load_segmenter(named, "cpu").segment([image], [boxes.astype(np.float32)])
    (base,) = load_segmenter(DEMO, "cpu").segment([image], [boxes.astype(np.float32)])
    by_file = load_segmenter(
        replace(DEMO, segmenter=str(tuned.path), segmenter_config=_demo_config()), "cpu"
    )
    (other,) = by_file.segment([image], [boxes.astype(np.float32)])
    assert np.array_equal(one.logits, other.logits)
    assert not np.array_equal(one.logits, base.logits)
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "boxes.npy", boxes.astype(np.float32))
    command = [
        sys.executable,
        "-c",
        _ELSEWHERE.format(threads=torch.get_num_threads()),
        str(tmp_path / "run"),
        str(tmp_path),
    ]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert told.split()[-1] == sha256(one.logits.tobytes()).hexdigest()
    again = run(dataset, tmp_path / "again", settings=named, epochs=1)
    assert again.segmenter.every.before == pytest.approx(every.after, abs=1e-9)


def _demo_config() -> str:
    return str(DEMO_SAM2_CONFIG)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("views", "said"),
    [
        (9, "has room for 9 views, where 4 pictures have 6 each: 2 of each are encoded"),
        (2**70, ""),
        (3, "has room for 3 views, where 4 pictures have 6 each: each is encoded anew when it is"),
    ],
)
def test_a_small_disk_holds_fewer_encoded_views(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, views: int, said: str
) -> None:
    model = load_segmenter(DEMO, "cpu").model
    room = (views + 0.5) * bytes_of_view(model, torch.device("cpu"))
    found = run(dataset, tmp_path / "run", epochs=1, views=6, cache_bytes=room)
    assert said in caplog.text
    assert found.segmenter is not None
    assert found.segmenter.epochs == 1


@pytest.mark.usefixtures("quick")
def test_a_run_that_was_ended_goes_on(dataset: Path, tmp_path: Path) -> None:
    """As after a kill between two epochs: the weights are those of a run in one go."""
    whole = run(dataset, tmp_path / "whole", epochs=3)
    stop = threading.Event()
    counts: list[int] = []
    step = SegmenterTrainer.advance

    def counted(trainer: SegmenterTrainer, progress: float) -> float:
        counts.append(1)
        return step(trainer, progress)

    class Killed(Exception):
        pass

    def killed(trainer: SegmenterTrainer, progress: float) -> float:
        if len(counts) == 10:
            raise Killed
        return counted(trainer, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmenterTrainer, "advance", killed)
        with pytest.raises(Killed):
            run(dataset, tmp_path / "parts", epochs=3, stop=stop)
    assert (tmp_path / "parts/segmenter-state.pt").is_file()
    counts.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmenterTrainer, "advance", counted)
        rest = run(dataset, tmp_path / "parts", epochs=3)
    assert rest.segmenter.epochs == 3
    assert rest.segmenter.path.name == whole.segmenter.path.name, "the same, to the bit"


def test_lists_of_three_kinds(accepted: Accepted, tmp_path: Path) -> None:
    """The test list judges, val chooses, and neither is learned from, whichever is asked for."""
    pictures, hashes = with_hashes(accepted.pictures, LIMITS, [])
    names = ["train"] * 4 + ["val", "val", "test", "test"]
    pictures = [replace(one, split=name) for one, name in zip(pictures, names, strict=True)]
    found = {}
    for wanted in (None, "val"):
        parts = divide(pictures, hashes, tmp_path, share=0.2, seed=0, held_out_list=wanted)
        found[wanted] = [
            {one.split for one in some} for some in (parts.train, parts.validation, parts.held_out)
        ]
    assert found == {
        None: [{"train"}, {"val"}, {"test"}],
        "val": [{"train"}, {"train"}, {"val"}],
    }


def test_one_damaged_picture_costs_itself(dataset: Path, tmp_path: Path) -> None:
    source = tmp_path / "voc"
    shutil.copytree(dataset, source)
    path = next((source / "JPEGImages").glob("0_*.png"))
    path.write_bytes(path.read_bytes()[:-200])
    accepted = read_accepted(source)
    faults = list(accepted.faults)
    pictures, hashes = with_hashes(accepted.pictures, LIMITS, faults)
    assert (len(pictures), len(hashes), len(faults)) == (7, 7, 1)
    assert path.name in faults[0]


@pytest.mark.usefixtures("quick")
def test_nobody_else_trains_in_the_folder(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    own = out / "views-holiday"
    own.mkdir(parents=True)
    with (
        FileLock(out / ".finetune.lock"),
        pytest.raises(ConfigError, match="another training runs there"),
    ):
        run(dataset, out)
    run(dataset, out, epochs=1)
    assert own.is_dir(), "folders of a person stay"


@pytest.mark.usefixtures("quick")
def test_worse_weights_do_not_replace_better_ones(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = run(dataset, out, accept=True, epochs=4)
    offered = read_tuned(out, "segmenter").path
    second = run(dataset, out, epochs=1, views=1)
    assert second.segmenter.rival == pytest.approx(first.segmenter.every.after, abs=1e-9)
    assert second.segmenter.every.after < first.segmenter.every.after
    assert not second.offered
    assert read_tuned(out, "segmenter").path == offered


def test_a_configuration_runs_nothing_but_sam2(tmp_path: Path) -> None:
    """A tuned folder may come from anybody."""
    text = Path(_demo_config()).read_text()
    evil = tmp_path / "evil.yaml"
    for target in ("os.system", "sam2.build_sam.os.system", "sam2.modeling.sam2_base.torch.save"):
        evil.write_text(text.replace("sam2.modeling.sam2_base.SAM2Base", target))
        settings = replace(DEMO, segmenter=str(DEMO_SAM2), segmenter_config=str(evil))
        with pytest.raises(ConfigError, match=f"{target} is no module of sam2, and is not run"):
            load_segmenter(settings, "cpu")


@pytest.mark.usefixtures("quick")
def test_a_full_disk_in_between_ends_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(segmenter_loop, "_save_state", full)
    found = run(dataset, tmp_path / "run", epochs=1)
    assert "epoch 1 is not kept for a later run: the disk is full" in caplog.text
    assert found.segmenter.path.is_file()


@pytest.mark.usefixtures("quick")
def test_other_settings_begin_anew(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    torch.save({"key": "another"}, out / "segmenter-state.pt")
    assert run(dataset, out, epochs=1).segmenter.epochs == 1
    assert "training begins anew: it is of other pictures or settings" in caplog.text


@pytest.mark.usefixtures("quick")
def test_a_stop_keeps_the_best_so_far_and_can_be_gone_on_with(
    dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    found = run(dataset, out, stop_after=2)
    assert (found.segmenter.stopped, found.segmenter.epochs) == ("interrupted", 2)
    assert found.segmenter.every.after > found.segmenter.every.before
    again = run(dataset, out)
    assert again.segmenter.stopped is None
    lines = (out / "segmenter-log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.usefixtures("quick")
def test_a_stop_before_training_is_told(dataset: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unavailable, match="interrupted before training began"):
        run(dataset, tmp_path / "run", stop=stop)
    with pytest.raises(ConfigError, match="holds no tuned segmenter"):
        load_segmenter(replace(DEMO, segmenter=str(tmp_path / "run")), "cpu")


@pytest.mark.usefixtures("quick")
def test_a_loss_that_is_no_number_keeps_the_best(dataset: Path, tmp_path: Path) -> None:
    found = run(dataset, tmp_path / "run", rate=1e12, accept=True)
    assert found.segmenter.stopped is not None
    assert "a lower --rate may help" in found.segmenter.stopped
    assert found.segmenter.every.after == found.segmenter.every.before
    assert found.offered, "as it was asked for"


def test_weights_that_are_not_what_was_written_are_refused(tmp_path: Path) -> None:
    from backend.models.tuned import describe_tuned

    weights = tmp_path / "segmenter-1.pt"
    torch.save({"model": {}}, weights)
    describe_tuned(tmp_path, "segmenter", weights, "demo", None, {})
    named = replace(DEMO, segmenter=str(tmp_path))
    with pytest.raises(ConfigError, match="do not fit together"):
        load_segmenter(named, "cpu")
    renamed = torch.load(DEMO_SAM2, weights_only=True)["model"]
    renamed["image_encoder.trunk.pos_embedding"] = renamed.pop("image_encoder.trunk.pos_embed")
    torch.save({"model": renamed}, weights)
    describe_tuned(tmp_path, "segmenter", weights, "demo", None, {})
    with pytest.raises(ConfigError, match=f"{weights} .*do not fit together: .*pos_embed"):
        load_segmenter(named, "cpu")
    weights.write_bytes(b"no weights at all")
    describe_tuned(tmp_path, "segmenter", weights, "demo", None, {})
    with pytest.raises(ConfigError, match=f"{weights}: is no file of weights"):
        load_segmenter(named, "cpu")
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=f"{weights}: is not the file that was trained"):
        load_segmenter(named, "cpu")
    weights.unlink()
    with pytest.raises(ConfigError, match="its weights are missing"):
        load_segmenter(named, "cpu")
    (tmp_path / "segmenter.json").write_text("[]")
    with pytest.raises(ConfigError, match="does not describe a tuned segmenter"):
        load_segmenter(named, "cpu")


def test_lists_of_the_source_decide(accepted: Accepted, tmp_path: Path) -> None:
    _, hashes = with_hashes(accepted.pictures, LIMITS, [])
    parts = divide(accepted.pictures, hashes, tmp_path, share=0.2, seed=0)
    assert {one.split for one in parts.held_out} == {"val"}
    assert {one.split for one in (*parts.train, *parts.validation)} == {"train"}
    assert not {one.digest for one in parts.train} & {one.digest for one in parts.validation}
    other = divide(
        accepted.pictures, hashes, tmp_path / "b", share=0.2, seed=0, held_out_list="train"
    )
    assert {one.split for one in other.held_out} == {"train"}
    with pytest.raises(ConfigError, match="there is no list 'dev'; lists are train, val"):
        divide(accepted.pictures, hashes, tmp_path, share=0.2, seed=0, held_out_list="dev")


def test_a_list_that_leaks_is_told(accepted: Accepted, tmp_path: Path) -> None:
    _, hashes = with_hashes(accepted.pictures, LIMITS, [])
    hashes[-1] = hashes[0]
    parts = divide(accepted.pictures, hashes, tmp_path, share=0.2, seed=0)
    assert parts.leak == pytest.approx(1 / 3)
    assert any(text.startswith("33% of the held-out pictures") for text in parts.remarks)


def test_what_was_held_out_is_never_learned_from(accepted: Accepted, tmp_path: Path) -> None:
    """Also where it comes again under another name, in a larger source."""
    pictures, hashes = with_hashes(accepted.pictures, LIMITS, [])
    pictures = [replace(one, split=None) for one in pictures]
    first = divide(pictures[:5], hashes[:5], tmp_path, share=0.3, seed=0)
    record(tmp_path, first)
    held = {one.digest for one in first.held_out}
    learned = {one.digest for one in (*first.train, *first.validation)}
    for seed in range(4):
        renamed = [replace(one, name=one.name.with_stem(f"x{k}")) for k, one in enumerate(pictures)]
        parts = divide(renamed, hashes, tmp_path, share=0.3, seed=seed)
        now = {one.digest for one in parts.held_out}
        assert held <= now
        assert not learned & now
    others = divide(
        pictures, hashes, tmp_path / "b", share=0.3, seed=0, trained=[pictures[0].digest]
    )
    assert pictures[0].digest not in {one.digest for one in others.held_out}
    (tmp_path / "pictures.json").write_text("{")
    with pytest.raises(ConfigError, match="does not tell which pictures were held out"):
        divide(pictures, hashes, tmp_path, share=0.3, seed=0)


def test_only_what_was_accepted_is_read(run_cli, dataset: Path, tmp_path: Path) -> None:
    """A prediction that nobody changed is no example; one that somebody corrected is."""
    photos, labels = dataset / "JPEGImages", tmp_path / "labels"
    assert run_cli("convert", dataset, labels, "--to", "labelme", "--copy", "copy")[0] == 0
    own = read_accepted(labels)
    assert len(own.pictures) == 8
    assert {label for one in own.pictures for label in one.labels} == {"cell"}
    models = ("--detector", "demo", "--segmenter", "demo", "--no-progress")
    out = tmp_path / "predicted"
    assert run_cli("annotate", photos, "--out", out, *models)[0] == 0
    with pytest.raises(ConfigError, match="8 pictures whose predictions nobody changed"):
        read_accepted(out, photos)
    path = next(out.glob("*.json"))
    document = json.loads(path.read_text())
    document["flags"] = {"seen": True}
    path.write_text(json.dumps(document))
    corrected = read_accepted(out, photos)
    assert [one.name.stem for one in corrected.pictures] == [path.stem]
    assert corrected.left_out == {"pictures whose predictions nobody changed": 7}


def test_classes_choose_objects_and_others_make_negatives(dataset: Path) -> None:
    found = read_accepted(dataset, classes=("nosuch",))
    assert all(one.objects == () for one in found.pictures)
    assert found.left_out["objects of other classes"] > 50


def test_verdicts_need_an_interval_without_zero() -> None:
    before = [[0.5, 0.6], [0.7], [0.4, 0.4, 0.4]]
    better = [[value + 0.1 for value in one] for one in before]
    assert paired_difference(before, better).verdict == "better"
    assert paired_difference(better, before).verdict == WORSE
    mixed = [[0.6, 0.5], [0.7], [0.5, 0.3, 0.4]]
    assert paired_difference(before, mixed).verdict == NOT_SHOWN
    assert paired_difference(before[:1], better[:1]).interval is None
    labels = [["a", "b"], ["b"], ["a", "a", "b"]]
    found = by_class(labels, before, better)
    assert {name: (one.objects, one.pictures) for name, one in found.items()} == {
        "a": (3, 2),
        "b": (3, 3),
    }
    assert found["b"].before == pytest.approx((0.6 + 0.7 + 0.4) / 3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--share", "1"), "--share: expected a number between 0 and 1"),
        (("--minutes", "0"), "--minutes: expected a number above 0"),
        (("--rate", "-1"), "--rate: expected a number above 0"),
        (("--epochs", "0"), "--epochs: expected at least 1"),
        (("--cache-gb", "-1"), "--cache-gb: expected a number, 0 or above, got -1"),
        (("--held-out", "nosuch"), "there is no list 'nosuch'"),
        (("--classes", "nosuch"), "no picture to train on has an outlined object"),
    ],
)
def test_what_makes_no_sense_is_told(
    run_cli, dataset: Path, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    arguments = ("finetune", dataset, "--out", tmp_path / "run", "--segmenter", "demo")
    arguments = (*arguments, "--what", "segmenter")
    code, _, err = run_cli(*arguments, "--device", "cpu", *more)
    assert (code, said in err) == (2, True), err


@pytest.mark.usefixtures("quick")
def test_the_command_prints_what_was_proved(run_cli, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("finetune", dataset, "--out", out, "--segmenter", "demo", "--device", "cpu")
    arguments = (*arguments, "--what", "segmenter")
    code, text, err = run_cli(*arguments, "--epochs", "3", "--views", "1", "--no-progress")
    assert code == 0, err
    assert "learned from 4 pictures, chose by 1, judged by 3 held-out ones" in text
    assert "segmenter, 3 epochs" in text
    assert "all " in text
    assert "cell " in text
    assert f"--segmenter {out}" in text
    code, text, _ = run_cli(*arguments, "--epochs", "1", "--views", "1", "--json", "--no-progress")
    document = json.loads(text)
    assert document["pictures"] == {"train": 4, "validation": 1, "held_out": 3}
    assert document["segmenter"]["iou_from_true_boxes"]["objects"] > 20
