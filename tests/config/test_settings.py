"""Settings: precedence, all faults at once, upstream's keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.config.config_file import read_config
from backend.config.fields import settings_of
from backend.config.models import Settings, load_settings, read_names
from backend.config.service import ServiceSettings
from backend.errors import ConfigError

UPSTREAM = {
    "name": "YOLO_SAM2",
    "n_gpu": 1,
    "arch": {
        "yolo": "yolov8",
        "yolo_weights": "w/yolov8m.pt",
        "sam": "sam2",
        "sam_config": "configs/sam2.1/sam2.1_hiera_l.yaml",
        "sam_weights": "c/l.pt",
    },
    "dataset": {"num_classes": 31, "data_dir": "d", "split": "test", "conf": 0.3},
    "dataloader": {"batch_size": 16, "num_workers": 8},
    "predictor": {"save_dir": "masks/"},
    "auto_mask": {"save_dir": "annotations/"},
}


def test_defaults() -> None:
    assert load_settings({}, {}) == Settings()


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("conf: 0.1\nbatch: 3\ndevice: cpu\n")
    settings = load_settings(
        {"conf": "0.7"}, {"MODEL_SCORE_THRESHOLD": "0.5", "BATCH_SIZE": "5"}, config
    )
    assert (settings.conf, settings.batch, settings.device, settings.iou) == (0.7, 5, "cpu", 0.7)


def test_the_first_environment_name_wins() -> None:
    assert load_settings({}, {"SEGMENTER": "demo", "MODEL_CHECKPOINT": "x.pt"}).segmenter == "demo"
    assert (
        load_settings({}, {"MODEL_CHECKPOINT": "x.pt", "MODEL_CONFIG": "y.yaml"}).segmenter_config
        == "y.yaml"
    )


def test_a_stronger_segmenter_drops_a_weaker_configuration() -> None:
    container = {"MODEL_CHECKPOINT": "l.pt", "MODEL_CONFIG": "configs/sam2.1/sam2.1_hiera_l.yaml"}
    assert load_settings({}, container).segmenter_config == container["MODEL_CONFIG"]
    assert load_settings({"segmenter": "sam2.1_hiera_tiny"}, container).segmenter_config is None
    assert (
        load_settings(
            {"segmenter": "x.pt", "segmenter_config": "x.yaml"}, container
        ).segmenter_config
        == "x.yaml"
    )


def test_upstream_configuration_is_understood(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(UPSTREAM))
    settings = load_settings({}, {}, config)
    assert settings.detector == "w/yolov8m.pt"
    assert settings.segmenter == "c/l.pt"
    assert settings.segmenter_config == "configs/sam2.1/sam2.1_hiera_l.yaml"
    assert (settings.batch, settings.workers, settings.split, settings.conf) == (16, 8, "test", 0.3)


def test_all_faults_are_listed_with_their_source(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text('{"batch": 1.5, "max_det": true}')
    with pytest.raises(ConfigError) as caught:
        load_settings({"conf": "7", "prompts": "none.json"}, {"DEVICE": "tpu"}, config)
    said = str(caught.value)
    for words in (
        "--conf: expected 0 to 1, got '7'",
        "--prompts: no such file: none.json",
        "DEVICE: expected one of auto",
        "c.json: batch: expected",
        "max_det",
    ):
        assert words in said


UNKNOWN = '{"cnf": 1, "arch": {"yolo": "v", "foo": 2}}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "one mapping"),
        ("{", "neither valid JSON"),
        (UNKNOWN, "unknown setting cnf, arch.foo"),
    ],
)
def test_bad_config_files(tmp_path: Path, text: str, words: str) -> None:
    config = tmp_path / "c.json"
    config.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_config(config, settings_of(Settings))
    with pytest.raises(ConfigError, match="cannot read"):
        read_config(tmp_path / "none.json", settings_of(Settings))


def test_names_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("cat\n\nsea lion\n")
    assert read_names(str(path)) == ("cat", "sea lion")
    assert read_names("cat, dog") == ("cat", "dog")
    assert read_names(["cat"]) == ("cat",)
    for bad in ("cat,,dog", "cat,cat", "", 5):
        with pytest.raises(ValueError, match="named twice|expected"):
            read_names(bad)


@pytest.mark.parametrize(
    ("value", "expected"), [("none", None), ("off", None), ("0.05", 0.05), (0, 0.0)]
)
def test_box_margin(value: object, expected: float | None) -> None:
    assert load_settings({"box_margin": value}, {}).box_margin == expected


# A file of one run, and what must be typed to be meant.
FOR_ONE_RUN = {"prompts", "prompt_boxes", "split", "insecure"}


def test_every_setting_of_a_service_has_a_name_in_the_environment() -> None:
    for cls in (Settings, ServiceSettings):
        without = {name for name, one in settings_of(cls).items() if not one.environment}
        assert without <= FOR_ONE_RUN
    environ = {"NMS_IOU": "0.5", "AGNOSTIC_NMS": "false", "CLASS_NAMES": "a,b", "MIN_PART": "0.1"}
    made = load_settings({}, environ)
    assert (made.iou, made.agnostic_nms, made.classes, made.min_part) == (
        0.5,
        False,
        ("a", "b"),
        0.1,
    )


@pytest.mark.parametrize("wrong", ["500", "100", "big", 4096])
def test_the_segmenters_input_has_a_side_that_fits(wrong: object) -> None:
    assert load_settings({"segmenter_size": "512"}, {}).segmenter_size == 512
    with pytest.raises(ConfigError, match="--segmenter-size: expected"):
        load_settings({"segmenter_size": wrong}, {})
