"""Detectors that look for words: the library's own answers, sentences, synonyms, thresholds, and
what is said of folders and files that are none of these.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.config.models import Settings
from backend.core.naming import Words
from backend.core.types import Image
from backend.errors import ConfigError
from backend.models.open_vocabulary import OpenVocabularyDetector
from backend.models.registry import check_names, load_detector, takes_names
from backend.models.yolo import quiet_ultralytics
from backend.models.yolo_words import TEXT_MODEL, text_features
from tests.models.test_contract import check_detections, pictures
from tests.support.namers import write_clip
from tests.support.word_detectors import write_grounding_dino, write_owlv2

CLASSES = (Words("car"), Words("bus", ("red bus",)))


@pytest.fixture(scope="module", params=["grounding-dino", "owlv2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("words") / str(request.param)
    return (write_owlv2 if request.param == "owlv2" else write_grounding_dino_small)(made)


def write_grounding_dino_small(folder: Path) -> Path:
    return write_grounding_dino(folder, small=True)


def settings_of(folder: Path, **more: object) -> Settings:
    given = Settings(detector=str(folder), names=CLASSES, conf=0.0, max_det=20, iou=1.0)
    return replace(given, **more)  # type: ignore[arg-type]


def test_it_keeps_the_promises_of_detectors(folder: Path) -> None:
    settings = settings_of(folder)
    check_names(settings)
    assert takes_names(settings)
    detector = load_detector(settings, "cpu")
    assert dict(detector.names) == {0: "car", 1: "bus"}
    assert detector.version.startswith(f"{folder.name}-")
    assert detector.detect([]) == []
    images = pictures()
    found = detector.detect(images)
    for image, one in zip(images, found, strict=True):
        check_detections(one, detector)
        assert len(one)
        sides = [image.shape[1], image.shape[0]] * 2
        assert (one.xyxy >= 0).all()
        assert (one.xyxy <= sides).all()
    for one, alone in zip(reversed(found), detector.detect(images[::-1]), strict=True):
        assert np.allclose(one.xyxy, alone.xyxy, atol=1e-2), "order and neighbours do not matter"
        assert np.allclose(one.scores, alone.scores, atol=1e-4)


def test_answers_are_those_of_the_library(tmp_path: Path) -> None:
    """OWLv2's own processor and post-processing give the same boxes and scores."""
    from transformers import AutoImageProcessor, AutoTokenizer, Owlv2ForObjectDetection
    from transformers.models.owlv2 import Owlv2Processor

    folder = write_owlv2(tmp_path / "owlv2")
    detector = load_detector(settings_of(folder, max_det=1000, agnostic_nms=False), "cpu")
    processor = Owlv2Processor(
        AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    )
    model = Owlv2ForObjectDetection.from_pretrained(folder).eval()
    image = pictures()[2]
    words = ["car", "bus", "red bus"]
    given = processor(
        text=[words],
        images=[image],
        return_tensors="pt",
        input_data_format="channels_last",
        max_length=16,
    )
    with torch.inference_mode():
        outputs = model(**given)
    (expected,) = processor.post_process_grounded_object_detection(
        outputs, threshold=0.0, target_sizes=[image.shape[:2]]
    )
    (found,) = detector.detect([image])
    order = torch.argsort(-expected["scores"], stable=True)
    assert np.allclose(found.scores, expected["scores"][order].numpy(), atol=1e-5)
    boxes = expected["boxes"][order].clamp(min=0).numpy()
    boxes = np.minimum(boxes, [image.shape[1], image.shape[0]] * 2)
    assert np.allclose(found.xyxy, boxes, atol=1e-2)
    of_words = np.array([0, 1, 1])[expected["labels"][order].numpy()]
    assert found.class_ids.tolist() == of_words.tolist()


def test_a_sentence_gives_the_best_token_of_each_word(tmp_path: Path) -> None:
    """Grounding DINO's logits of one sentence, read word by word."""
    from transformers import AutoTokenizer, GroundingDinoForObjectDetection

    folder = write_grounding_dino_small(tmp_path / "dino")
    detector = load_detector(settings_of(folder), "cpu")
    assert isinstance(detector, OpenVocabularyDetector)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    image = pictures()[0]
    given = tokenizer("car . bus . red bus .", return_tensors="pt")
    pixels = detector._images(
        images=[image], input_data_format="channels_last", return_tensors="pt"
    )
    with torch.inference_mode():
        shares = model(**given, **pixels).logits[0].sigmoid()
    # [CLS] car . bus . red bus . [SEP]
    of_classes = torch.stack([shares[:, 1], shares[:, [3, 5, 6]].max(1).values], 1)
    (found,) = detector.detect([image])
    expected = np.sort(of_classes.max(1).values.numpy())[::-1]
    assert np.allclose(found.scores, expected[: len(found)], atol=1e-5)


def test_many_words_make_several_sentences(tmp_path: Path) -> None:
    folder = write_grounding_dino_small(tmp_path / "dino")
    many = tuple(Words(f"thing {k}") for k in range(200))
    detector = load_detector(settings_of(folder, names=many), "cpu")
    assert isinstance(detector, OpenVocabularyDetector)
    assert len(detector._asked) > 1
    asked = [k for _, columns in detector._asked for k in columns.tolist() if k >= 0]
    assert sorted(set(asked)) == list(range(200))
    assert all(one["input_ids"].shape[1] <= 256 for one, _ in detector._asked)
    check_detections(detector.detect(pictures(1))[0], detector)
    with pytest.raises(ConfigError, match="cannot look for"):
        load_detector(settings_of(folder, names=(Words("car"), Words("..."))), "cpu")


def test_very_narrow_pictures_are_seen(folder: Path) -> None:
    detector = load_detector(settings_of(folder), "cpu")
    for size in ((1, 1), (1, 300), (300, 1)):
        image = np.full((*size, 3), 90, np.uint8)
        (found,) = detector.detect([image])
        check_detections(found, detector)
        assert (found.xyxy <= [size[1], size[0]] * 2).all()


def test_thresholds_decide_what_is_kept(folder: Path) -> None:
    every = load_detector(settings_of(folder), "cpu").detect(pictures(1))[0]
    least = float(np.median(every.scores))
    fewer = load_detector(settings_of(folder, conf=least), "cpu").detect(pictures(1))[0]
    assert fewer.scores.tolist() == every.scores[every.scores >= least].tolist()
    (one,) = load_detector(settings_of(folder, max_det=1), "cpu").detect(pictures(1))
    assert one.scores.tolist() == every.scores[:1].tolist()
    many, apart = (
        load_detector(settings_of(folder, iou=iou, max_det=300), "cpu").detect(pictures(1))[0]
        for iou in (1.0, 0.01)
    )
    assert len(apart) < len(many)


def test_the_version_tells_words_and_thresholds(folder: Path) -> None:
    versions = {
        load_detector(settings_of(folder, **more), "cpu").version
        for more in ({}, {"names": CLASSES[:1]}, {"conf": 0.5}, {"iou": 0.3})
    }
    assert len(versions) == 4


def test_what_is_missing_is_told_in_a_sentence(tmp_path: Path) -> None:
    folder = write_owlv2(tmp_path / "owlv2")
    with pytest.raises(ConfigError, match="looks for words; give some with --names"):
        load_detector(settings_of(folder, names=None), "cpu")
    with pytest.raises(ConfigError, match="--classes: chooses among the classes"):
        load_detector(settings_of(folder, classes=("car",)), "cpu")
    other = write_clip(tmp_path / "clip", "clip", small=True)
    with pytest.raises(ConfigError, match="is a clip; expected a Grounding DINO"):
        load_detector(settings_of(other), "cpu")
    told = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**told, "size": "large"}))
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"--detector: .*owlv2 does not load"):
        load_detector(settings_of(folder), "cpu")
    with pytest.raises(ConfigError, match="no such file: no/where"):
        load_detector(settings_of(Path("no/where")), "cpu")
    absent = Settings(detector="grounding-dino-tiny", names=CLASSES, model_root=tmp_path / "none")
    with pytest.raises(ConfigError, match="IDEA-Research/grounding-dino-tiny is not on disk"):
        load_detector(absent, "cpu")


def test_published_ones_are_found_below_the_model_root(tmp_path: Path) -> None:
    write_grounding_dino_small(tmp_path / "IDEA-Research" / "grounding-dino-tiny")
    for name in ("grounding-dino-tiny", "IDEA-Research/grounding-dino-tiny"):
        detector = load_detector(Settings(detector=name, names=CLASSES, model_root=tmp_path), "cpu")
        assert detector.version.startswith("grounding-dino-tiny-")


@pytest.mark.slow
def test_a_grounding_dino_of_full_size(tmp_path: Path) -> None:
    folder = write_grounding_dino(tmp_path / "full-size")
    detector = load_detector(settings_of(folder), "cpu")
    rng = np.random.default_rng(0)
    picture: Image = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    (found,) = detector.detect([picture])
    check_detections(found, detector)
    assert len(found)


def world_file(path: Path) -> Path:
    """A YOLO-World without training."""
    quiet_ultralytics(offline=True)
    from ultralytics import YOLOWorld

    torch.manual_seed(0)
    model = YOLOWorld("yolov8s-world.yaml")
    model.save(path)
    return path


@pytest.mark.slow
def test_yolo_world_looks_for_words(tmp_path: Path) -> None:
    """With the features of a CLIP of ``transformers`` instead of Ultralytics' own package."""
    file = world_file(tmp_path / "mine.pt")
    write_clip(tmp_path / TEXT_MODEL, "clip", small=True, projection=512)
    settings = settings_of(file, model_root=tmp_path)
    assert takes_names(settings)
    detector = load_detector(settings, "cpu")
    assert dict(detector.names) == {0: "car", 1: "bus"}
    (found,) = detector.detect(pictures(1))
    check_detections(found, detector)
    (only,) = load_detector(replace(settings, classes=("bus",)), "cpu").detect(pictures(1))
    assert set(only.class_ids.tolist()) <= {1}
    other = load_detector(replace(settings, names=CLASSES[:1]), "cpu")
    assert other.version != detector.version
    features = text_features(tmp_path / TEXT_MODEL, ["car", "bus", "red bus"])
    assert torch.equal(detector._model.model.txt_feats.cpu(), features)  # type: ignore[attr-defined]
    write_clip(tmp_path / TEXT_MODEL, "clip", small=True, projection=32)
    with pytest.raises(ConfigError, match="takes words as 512 numbers"):
        load_detector(settings, "cpu")
