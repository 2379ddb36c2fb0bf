"""A detector that learns classes it never saw, by Ultralytics' trainer, and what may befall it."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from backend.config.models import Settings
from backend.core import calibrator
from backend.core.calibrator import read_calibrator
from backend.core.masks import mask_from_full, mask_xyxy, pack_mask, unpack_mask
from backend.core.types import Instance, Prediction
from backend.errors import ConfigError, Unavailable
from backend.files.images import ImageLimits, read_image
from backend.files.picture_data import header_of
from backend.formats.yolo.labels import read_line
from backend.models.registry import detector_file, load_detector
from backend.models.tuned import read_tuned
from backend.models.weights import DEMO_YOLO
from backend.training import cascades, segmenter_loop
from backend.training.accepted import AcceptedPicture, read_accepted
from backend.training.cascades import AFTER, ALONE, BEFORE, OFFERED, compare_cascades
from backend.training.detector_data import write_detector_data
from backend.training.division import Parts, divide, with_hashes
from backend.training.finetune import finetune
from backend.training.request import FinetuneRequest, FinetuneSummary
from backend.training.segmenter import Recipe
from backend.training.segmenter_loop import Progress, TuneOptions
from backend.training.tune_detector import STATE_FOLDER, TunedDetector, tune_detector
from tests.support.cells import write_cells

LIMITS = ImageLimits()
DEMO = Settings(detector="demo", segmenter="demo", device="cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cells")
    return write_cells(root / "voc", {"train": range(8), "val": (11, 12, 13)})


@pytest.fixture(scope="module")
def parts(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    pictures, hashes = with_hashes(read_accepted(dataset).pictures, LIMITS, [])
    return divide(pictures, hashes, tmp_path_factory.mktemp("run"), share=0.3, seed=0)


def tuned(
    parts: Parts, out: Path, epochs: int, stop_after: int | None = None, **more: Any
) -> tuple[TunedDetector, list[Progress]]:
    out.mkdir(exist_ok=True)
    told: list[Progress] = []
    stop = threading.Event()

    def tell(progress: Progress) -> None:
        told.append(progress)
        if progress.epoch == stop_after:
            stop.set()

    found = tune_detector(
        DEMO_YOLO,
        parts,
        out,
        TuneOptions(epochs=epochs, limits=LIMITS, **more),
        device="cpu",
        scratch=False,
        stop=stop,
        tell=tell,
    )
    return found, told


def test_it_learns_without_a_network_and_is_told_of(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("somebody reaches for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    found, told = tuned(parts, tmp_path / "run", epochs=2)
    assert found.names == ("cell",)
    assert [one.epoch for one in told] == [1, 2]
    assert all(one.what == "detector" and np.isfinite(one.loss) for one in told)
    assert (found.epochs, found.stopped, told[-1].done) == (2, None, 1.0)
    lines = (tmp_path / "run/detector-log.jsonl").read_text().splitlines()
    assert [json.loads(line)["validation"] for line in lines] == [one.validation for one in told]
    detector = load_detector(Settings(detector=str(found.path), device="cpu"), "cpu")
    assert dict(detector.names) == {0: "cell"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing lies about elsewhere"


def test_what_was_cut_off_goes_on(parts: Parts, tmp_path: Path) -> None:
    found, told = tuned(parts, tmp_path / "run", epochs=3, stop_after=1)
    assert (found.epochs, found.stopped, found.path.is_file()) == (1, "interrupted", True)
    again, more = tuned(parts, tmp_path / "run", epochs=3)
    assert [one.epoch for one in (*told, *more)] == [1, 2, 3]
    assert again.stopped is None
    third, none = tuned(parts, tmp_path / "run", epochs=3)
    assert (third, none) == (again, []), "what ended is not done again"
    last = tmp_path / "run" / STATE_FOLDER / "run/weights/last.pt"
    (tmp_path / "run" / STATE_FOLDER / "done.json").unlink()
    last.write_bytes(last.read_bytes()[:1000])
    _, more = tuned(parts, tmp_path / "run", epochs=3)
    assert [one.epoch for one in more] == [1, 2, 3], "a cut file begins anew"
    (tmp_path / "run" / STATE_FOLDER / "done.json").unlink()
    ended, none = tuned(parts, tmp_path / "run", epochs=3)
    assert (ended.epochs, none) == (3, []), "a kill behind the last epoch loses none"
    assert ended.best == pytest.approx(max(one.validation for one in more), abs=1e-4)


def test_a_time_is_kept(parts: Parts, tmp_path: Path) -> None:
    found, told = tuned(parts, tmp_path / "run", epochs=500, minutes=0.15)
    assert 1 <= found.epochs < 100
    assert (told[-1].done, found.stopped) == (1.0, None)


def test_a_stop_before_the_first_epoch_is_told(parts: Parts, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unavailable, match="stopped before its first epoch"):
        tune_detector(
            DEMO_YOLO,
            parts,
            tmp_path,
            TuneOptions(epochs=2),
            device="cpu",
            scratch=True,
            stop=stop,
            tell=lambda _: None,
        )


def test_boxes_alone_teach_a_detector_and_no_segmenter(tmp_path: Path, dataset: Path) -> None:
    """A line of four numbers is a box that somebody drew, not the outline of an object."""
    labels = tmp_path / "yolo"
    for folder in ("images/train", "labels/train"):
        (labels / folder).mkdir(parents=True)
    (labels / "data.yaml").write_text("names: [cell, wall]\ntrain: images/train\n")
    for k in range(2):
        source = dataset / f"JPEGImages/{k}_cells.png"
        (labels / f"images/train/{k}.png").write_bytes(source.read_bytes())
        (labels / f"labels/train/{k}.txt").write_text(
            "0 0.5 0.5 0.2 0.25\n1 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n"
        )
    found = read_accepted(labels)
    assert [one.labels for one in found.pictures] == [["wall"]] * 2
    assert [one.every_label for one in found.pictures] == [["wall", "cell"]] * 2
    (label, xyxy), *_ = found.pictures[0].boxes
    assert (label, xyxy) == ("cell", (80, 60, 120, 100))
    parts = Parts(found.pictures[:1], found.pictures[1:], (), (), 0.0)
    listed = write_detector_data(parts, ["cell", "wall"], tmp_path / "out", LIMITS, [])
    [path] = (listed.parent / "labels/train").iterdir()
    rows = [read_line(text, (160, 200), 2, "") for text in path.read_text().splitlines()]
    assert sorted(row.class_id for row in rows) == [0, 1]
    areas = {row.class_id: int(row.mask.crop.sum()) for row in rows if row.mask is not None}
    assert areas[0] == 40 * 40


def test_rectangles_of_labelme_are_boxes(tmp_path: Path, dataset: Path) -> None:
    source = dataset / "JPEGImages/1_cells.png"
    (tmp_path / "a.png").write_bytes(source.read_bytes())
    shapes = [
        {"label": "cell", "shape_type": "rectangle", "points": [[10, 10], [50, 40]]},
        {"label": "cell", "shape_type": "polygon", "points": [[60, 10], [90, 10], [90, 40]]},
    ]
    document = {"imagePath": "a.png", "imageHeight": 160, "imageWidth": 200, "shapes": shapes}
    (tmp_path / "a.json").write_text(json.dumps({**document, "imageData": None, "flags": {}}))
    [one] = read_accepted(tmp_path).pictures
    assert (len(one.objects), len(one.boxes)) == (1, 1)


def test_what_is_to_be_ignored_teaches_nothing(parts: Parts, tmp_path: Path) -> None:
    """Not even that nothing is there: it is grey, but for objects and what is around them."""
    one = parts.train[0]
    cell = max(one.masks, key=lambda mask: mask.x)
    kept = replace(one, objects=(("cell", pack_mask(cell)),))
    frame = np.zeros(one.image(LIMITS).shape[:2], np.bool_)
    frame[:, : cell.x + 2] = True
    frame[:40, :60] = False
    around = mask_from_full(frame)
    assert around is not None
    changed = replace(kept, ignored=(pack_mask(around),))
    some = replace(parts, train=(changed,), validation=(kept,))
    write_detector_data(some, ["cell"], tmp_path / "out", LIMITS, [])
    [path] = (tmp_path / "out" / "images" / "train").iterdir()
    found, before = read_image(path, LIMITS), one.image(LIMITS)
    changed_pixels = (found != before).any(2)
    assert (found[changed_pixels] == 114).all()
    assert not (changed_pixels & ~frame).any()
    assert changed_pixels[:, : cell.x - 10].sum() > 0.9 * frame[:, : cell.x - 10].sum()
    rows = slice(cell.y, cell.y + cell.crop.shape[0])
    assert not changed_pixels[rows, cell.x :].any()
    [written] = (tmp_path / "out" / "labels" / "train").iterdir()
    assert len(written.read_text().splitlines()) == 1


def test_a_line_around_an_object_stays(parts: Parts, tmp_path: Path) -> None:
    """VOC has one around each."""
    one = parts.train[0]
    masks = np.zeros(one.image(LIMITS).shape[:2], np.uint8)
    for mask in one.masks:
        height, width = mask.crop.shape
        masks[mask.y : mask.y + height, mask.x : mask.x + width][mask.crop] = 1
    line = mask_from_full((cv2.dilate(masks, np.ones((9, 9))) > 0) & (masks == 0))
    assert line is not None
    some = replace(parts, train=(replace(one, ignored=(pack_mask(line),)),), validation=(one,))
    write_detector_data(some, ["cell"], tmp_path / "out", LIMITS, [])
    [path] = (tmp_path / "out" / "images" / "train").iterdir()
    assert path.is_symlink()  # the picture as it is


def test_pictures_of_other_formats_become_what_ultralytics_reads(
    parts: Parts, tmp_path: Path
) -> None:
    first: AcceptedPicture = parts.train[0]
    gif = tmp_path / "a.gif"
    assert isinstance(first.picture, Path)
    with Image.open(first.picture) as held:
        held.save(gif)
    odd = replace(first, name=PurePosixPath("a.gif"), picture=gif, digest="f" * 64)
    faults: list[str] = []
    write_detector_data(
        Parts((odd,), parts.validation, (), (), 0.0), ["cell"], tmp_path / "out", LIMITS, faults
    )
    assert faults == []
    [path] = (tmp_path / "out/images/train").iterdir()
    assert path.suffix == ".png"
    assert header_of(path, "").size_hw == (160, 200)


@pytest.fixture(scope="module")
def both(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FinetuneSummary, Path]:
    out = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_loop, "_LEAST_STEPS", 4)
        patch.setattr(
            "backend.training.finetune.Recipe", lambda **given: Recipe(prompts=4, **given)
        )
        return finetuned(dataset, out, epochs=4), out


def finetuned(source: Path, out: Path, **changed: Any) -> FinetuneSummary:
    out.mkdir(exist_ok=True)
    stop = changed.pop("stop", threading.Event())
    tell = changed.pop("tell", lambda _: None)
    settings = changed.pop("settings", DEMO)
    request = FinetuneRequest(source=source, out=out, share=0.3, epochs=1, views=1, accept=True)
    return finetune(
        replace(request, **changed), settings, stop=stop, tell=tell, remark=lambda _: None
    )


def test_both_models_are_judged_together_and_named_by_their_folder(
    both: tuple[FinetuneSummary, Path],
) -> None:
    found, out = both
    assert set(found.offered) == {"detector", "segmenter"}
    assert found.together is not None
    compared = found.as_dict()["together"]
    assert {row["name"] for row in compared["iou_by_class"]} == {"background", "cell"}
    assert set(compared["versions"]) == {BEFORE, AFTER, ALONE}, "one of them for what decides"
    for name in ("boundary_f", "AP", "recall_50"):
        assert name in compared["versions"]["after"]
    tuned = read_tuned(out, "detector")
    assert (tuned.base, tuned.about["classes"]) == ("demo", ["cell"])
    assert tuned.about["figures"]["versions"] == compared["versions"]
    assert "untouched" in (out / "report.html").read_text()
    assert compared["decides"] == "mean_iou_without_background"
    assert not (out / STATE_FOLDER).exists()
    detector = load_detector(Settings(detector=str(out), device="cpu"), "cpu")
    assert dict(detector.names) == {0: "cell"}


def test_what_is_not_better_is_kept_and_not_offered(
    both: tuple[FinetuneSummary, Path], dataset: Path, tmp_path: Path
) -> None:
    """An epoch from nothing cannot be better than what a folder offers."""
    out = tmp_path / "run"
    shutil.copytree(both[1], out)
    before = (out / "detector.json").read_text()
    found = finetuned(dataset, out, epochs=1, kinds=("detector",), scratch=True, accept=False)
    assert found.detector is not None
    assert (found.detector.path.is_file(), found.offered) == (True, ())
    assert (out / "detector.json").read_text() == before
    assert found.together is not None
    assert found.together.value(OFFERED) == pytest.approx(
        json.loads(before)["figures"]["versions"]["after"]["mean_iou_without_background"], abs=1e-6
    )


def test_how_often_a_detector_is_right_counts_what_can_be_judged(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label that was never learned, boxes alone and regions to ignore make nothing wrong."""
    known = read_accepted(dataset).pictures
    pictures = []
    for one in known:
        (first, second, third), rest = one.objects[:3], one.objects[3:]
        box = (second[0], tuple(mask_xyxy(unpack_mask(second[1])).tolist()))
        pictures.append(replace(one, objects=(first, *rest), boxes=(box,), ignored=(third[1],)))
    odd = replace(known[0], objects=(("rare", known[0].objects[0][1]),))
    by_name = {one.name: one for one in known}

    def found_in(cascade: Any, asked: Any, *_: Any) -> Any:
        for one in asked:
            masks = by_name[one.name].masks[:3]
            instances = tuple(
                Instance("cell", 0, 0.9, mask_xyxy(mask).astype(np.float32), mask) for mask in masks
            )
            yield one, Prediction(instances, one.image(LIMITS).shape[:2], "v")

    monkeypatch.setattr(cascades, "found_in", found_in)
    monkeypatch.setattr(calibrator, "LEAST", 8)
    trusted = cascades.trust_in(DEMO, pictures, LIMITS, threading.Event())
    found = trusted.calibration
    assert trusted.conf == 0.05  # all of the same score, and right
    assert found is not None
    assert found["segmenter"].startswith("demo_sam2.1-")
    curve = read_calibrator(found)
    assert curve is not None
    assert curve.chance("cell", 0.9) > 0.85  # one in each picture counts, and is right
    rare = cascades.trust_in(DEMO, [*pictures, odd], LIMITS, threading.Event())
    assert rare.calibration is not None


def test_a_stop_while_judging_offers_nothing(dataset: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def tell(_: Progress) -> None:
        stop.set()  # at the end of the only epoch

    found = finetuned(dataset, tmp_path, epochs=1, kinds=("detector",), stop=stop, tell=tell)
    assert (found.together, found.offered) == (None, ())
    assert found.detector is not None
    assert found.detector.path.is_file()
    assert not (tmp_path / "detector.json").exists()
    assert (tmp_path / STATE_FOLDER / "done.json").is_file(), "the same command judges it"


def test_boxes_are_judged_as_boxes(dataset: Path, tmp_path: Path) -> None:
    labels = write_boxes(tmp_path / "yolo", dataset, {"train": range(6), "val": (11, 12, 13)})
    found = finetuned(labels, tmp_path / "run", epochs=2)
    assert found.segmenter is None
    assert "nothing is outlined, so only the detector learns" in found.remarks
    assert found.together is not None
    assert (found.together.of_boxes, found.together.figure) == (True, "f1_50")
    assert found.as_dict()["together"]["versions"]["after"]["f1_50"] is not None
    [view] = [v for v in found.together.document["views"] if v["model_version"] == BEFORE]
    cells = sum(len(one.boxes) for one in read_accepted(labels).pictures if one.split == "val")
    assert (
        sum(row["instances"]["true"] for row in view["classes"] if row["name"] == "cell") == cells
    )


def write_boxes(root: Path, dataset: Path, lists: dict[str, Sequence[int]]) -> Path:
    """The cells of a dataset as boxes of YOLO."""
    accepted = {one.name.stem: one for one in read_accepted(dataset).pictures}
    for name, seeds in lists.items():
        for folder in ("images", "labels"):
            (root / folder / name).mkdir(parents=True)
        for seed in seeds:
            one = accepted[f"{seed}_cells"]
            assert isinstance(one.picture, Path)
            shutil.copy(one.picture, root / "images" / name)
            corners = [mask_xyxy(mask) / (200, 160, 200, 160) for mask in one.masks]
            rows = [(*(c[:2] + c[2:]) / 2, *(c[2:] - c[:2])) for c in corners]
            text = "".join("0 " + " ".join(f"{v:.6f}" for v in row) + "\n" for row in rows)
            (root / "labels" / name / f"{seed}_cells.txt").write_text(text)
    splits = "".join(f"{name}: images/{name}\n" for name in lists)
    (root / "data.yaml").write_text(f"names: [cell]\n{splits}")
    return root


def test_a_cut_file_of_weights_is_refused_by_name(
    both: tuple[FinetuneSummary, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(both[1], copy)
    path = read_tuned(copy, "detector").path
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=path.name):
        load_detector(Settings(detector=str(copy), device="cpu"), "cpu")


def test_what_finds_words_does_not_learn(tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="only a YOLO of Ultralytics can be fine-tuned"):
        detector_file(Settings(detector=str(folder), device="cpu"))


def test_what_a_folder_offers_anew_is_not_what_it_was(dataset: Path, tmp_path: Path) -> None:
    """A run into the folder that its base lies in is compared with what lay there before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_loop, "_LEAST_STEPS", 4)
        finetuned(dataset, tmp_path, epochs=1, kinds=("segmenter",))
        first = read_tuned(tmp_path, "segmenter").path
        seen: list[dict[str, Settings]] = []

        def watched(versions: Any, *rest: Any) -> Any:
            seen.append(dict(versions))
            return compare_cascades(versions, *rest)

        patch.setattr("backend.training.models_run.compare_cascades", watched)
        again = replace(DEMO, segmenter=str(tmp_path))
        finetuned(dataset, tmp_path, settings=again, epochs=1)
    [versions] = seen
    assert read_tuned(tmp_path, "segmenter").path != first
    assert versions[BEFORE].segmenter == str(first)
    assert versions[AFTER].segmenter == versions[ALONE].segmenter == str(tmp_path)
