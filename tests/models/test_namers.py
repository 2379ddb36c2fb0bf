"""What names masks: CLIP and SigLIP of full size, a person's classifier, and what is said of
folders that are none of these.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.config.models import Settings
from backend.core.masks import tidy_mask
from backend.core.naming import BACKGROUND, TEMPLATES, Words
from backend.core.types import Image, Mask
from backend.core.views import alone, in_context
from backend.errors import ConfigError
from backend.models.clip import SPECK
from backend.models.namers import DEFAULT_NAMER, load_namer, namer_of
from tests.support.namers import write_classifier, write_clip

CLASSES = (Words("car"), Words("bus", ("red bus",)))


def pictures() -> tuple[list[Image], list[list[Mask]]]:
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((60, 80), (31, 17))]
    masks = [
        [Mask(0, 0, np.ones((20, 30), np.bool_)), Mask(70, 50, np.ones((10, 10), np.bool_))],
        [Mask(3, 4, rng.random((9, 7)) > 0.4)],
    ]
    return [*images, images[0]], [*masks, []]


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with few layers, for what does not depend on the size."""
    folder = tmp_path_factory.mktemp("small") / "small-clip"
    return write_clip(folder, "clip", small=True)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.slow
def test_models_of_full_size_name_masks(kind: str, tmp_path: Path) -> None:
    folder = write_clip(tmp_path / f"random-{kind}", kind)
    settings = Settings(namer=str(folder), background=("background",))
    namer = load_namer(settings, "cpu", CLASSES)
    assert dict(namer.names) == {0: "car", 1: "bus"}
    assert namer.version.startswith(f"random-{kind}-")
    found = namer.name(*pictures())
    assert [len(one.background) for one in found] == [2, 1, 0]
    for one in found:
        assert one.probabilities.shape == (len(one.background), 2)
        assert np.allclose(one.probabilities.sum(1) + one.background, 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_names_are_those_that_the_library_gives(kind: str, tmp_path: Path) -> None:
    """The same probabilities by calls of the library, one view and one caption at a time."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    folder = write_clip(tmp_path / kind, kind, small=True)
    namer = load_namer(Settings(namer=str(folder)), "cpu", CLASSES)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    side = model.config.vision_config.image_size
    names = "CLIPImageProcessor" if kind == "clip" else "SiglipImageProcessor"
    told = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(
        json.dumps({**told, "image_processor_type": names})
    )
    processor = AutoImageProcessor.from_pretrained(folder)
    unit = torch.nn.functional.normalize
    rows = []
    with torch.inference_mode():
        for words in [one.all for one in CLASSES] + [(phrase,) for phrase in BACKGROUND]:
            of_class = []
            for word in words:
                for template in TEMPLATES:
                    given = tokenizer(
                        [template.format(word)],
                        return_tensors="pt",
                        **({} if kind == "clip" else {"padding": "max_length", "max_length": 64}),
                    )
                    of_class.append(unit(model.get_text_features(**given).pooler_output[0], dim=0))
            rows.append(unit(torch.stack(of_class).mean(0), dim=0))
        text = torch.stack(rows)
        images, masks = pictures()
        for image, own, found in zip(images, masks, namer.name(images, masks), strict=True):
            for k, mask in enumerate(own):
                views = [
                    processor(look(image, tidy_mask(mask, SPECK), side), return_tensors="pt")
                    for look in (in_context, alone)
                ]
                seen = [unit(model.get_image_features(**v).pooler_output[0], dim=0) for v in views]
                image_row = unit(torch.stack(seen).mean(0), dim=0)
                expected = (model.logit_scale.exp() * text @ image_row).softmax(0).numpy()
                assert np.allclose(found.probabilities[k], expected[:2], atol=2e-4)
                assert np.isclose(found.background[k], expected[2:].sum(), atol=2e-4)


def test_masks_are_named_alone_as_among_others(small_clip: Path) -> None:
    namer = load_namer(Settings(namer=str(small_clip)), "cpu", CLASSES)
    images, masks = pictures()
    together = namer.name(images, masks)
    for image, own, found in zip(images, masks, together, strict=True):
        (one,) = namer.name([image], [own])
        assert np.allclose(one.probabilities, found.probabilities, atol=1e-5)
    assert namer.name([], []) == []


def test_the_version_tells_weights_and_words(small_clip: Path, tmp_path: Path) -> None:
    settings = Settings(namer=str(small_clip))
    version = load_namer(settings, "cpu", CLASSES).version
    assert load_namer(settings, "cpu", CLASSES[:1]).version != version
    other = tmp_path / small_clip.name
    shutil.copytree(small_clip, other)
    assert load_namer(Settings(namer=str(other)), "cpu", CLASSES).version == version


def test_a_folder_below_the_model_root_is_found(small_clip: Path) -> None:
    settings = Settings(namer=small_clip.name, model_root=small_clip.parent)
    assert load_namer(settings, "cpu", CLASSES).version.startswith("small-clip-")


def test_which_namer_goes_with_what() -> None:
    assert namer_of(Settings(segmenter="demo")) == "demo"
    assert namer_of(Settings()) == DEFAULT_NAMER
    assert namer_of(Settings(segmenter="demo", namer="x/y")) == "x/y"


def said(settings: Settings, classes: tuple[Words, ...] | None = CLASSES) -> str:
    with pytest.raises(ConfigError) as caught:
        load_namer(settings, "cpu", classes)
    return str(caught.value)


def test_what_cannot_name_is_told_in_a_sentence(
    small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "no such folder: nothing, here or in" in said(Settings(namer="nothing"))
    missing = said(Settings(namer="somebody/some-clip", model_root=tmp_path / "models"))
    assert "model somebody/some-clip is not on disk and could not be fetched" in missing
    assert "or name `demo` to use the embedded model" in missing
    assert "give some with --names a,b,c" in said(Settings(namer=str(small_clip)), None)
    assert "has no names to choose from" in said(Settings(namer=str(small_clip)), ())

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json cannot be read" in said(Settings(namer=str(empty)))

    def broken(name: str) -> Path:
        copy = tmp_path / name
        shutil.copytree(small_clip, copy)
        return copy

    other = broken("other")
    config = json.loads((other / "config.json").read_text())
    config |= {"model_type": "bert", "architectures": ["BertModel"]}
    (other / "config.json").write_text(json.dumps(config))
    assert "is a BertModel; expected a CLIP, a SigLIP or an image classifier" in said(
        Settings(namer=str(other))
    )
    cut = broken("cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert f"{cut} does not load" in said(Settings(namer=str(cut)))
    bare = broken("bare")
    (bare / "preprocessor_config.json").unlink()
    assert "does not tell how square pictures go in" in said(Settings(namer=str(bare)))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's own: a small ViT that knows four things."""
    folder = tmp_path_factory.mktemp("own") / "own-classifier"
    return write_classifier(folder, ("cat", "dog", "Car", "tree"))


def test_a_classifier_of_ones_own_names_masks(classifier: Path) -> None:
    settings = Settings(namer=str(classifier))
    every = load_namer(settings, "cpu", None)
    assert list(every.names.values()) == ["cat", "dog", "Car", "tree"]
    some = load_namer(settings, "cpu", (Words("car"), Words("pet", ("cat", "dog"))))
    images, masks = pictures()
    for whole, part in zip(every.name(images, masks), some.name(images, masks), strict=True):
        assert np.allclose(part.probabilities[:, 0], whole.probabilities[:, 2])
        assert np.allclose(part.probabilities[:, 1], whole.probabilities[:, :2].sum(1))
        assert np.allclose(part.background, whole.probabilities[:, 3], atol=1e-6)
    assert "does not know 'bus'; it knows cat, dog, Car, tree" in said(settings)
    assert [len(part.background) for part in every.name(images[:1], [[]])] == [0]
    assert every.name([], []) == []


def test_two_columns_of_one_name_are_one_class(classifier: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cranes"
    shutil.copytree(classifier, copy)
    config = json.loads((copy / "config.json").read_text())
    config["id2label"] = {"0": "crane", "1": "crane", "2": "car", "3": "tree"}
    (copy / "config.json").write_text(json.dumps(config))
    images, masks = pictures()
    before = load_namer(Settings(namer=str(classifier)), "cpu", None).name(images, masks)
    namer = load_namer(Settings(namer=str(copy)), "cpu", None)
    assert list(namer.names.values()) == ["crane", "car", "tree"]
    for one, other in zip(namer.name(images, masks), before, strict=True):
        assert np.allclose(one.probabilities[:, 0], other.probabilities[:, :2].sum(1))
        assert np.allclose(one.probabilities.sum(1), 1, atol=1e-5)


def test_a_classifier_without_its_head_is_refused(classifier: Path, tmp_path: Path) -> None:
    """Its head would be random, and another one each time."""
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "headless"
    shutil.copytree(classifier, copy)
    weights = load_file(copy / "model.safetensors")
    body = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(body, copy / "model.safetensors", metadata={"format": "pt"})
    told = said(Settings(namer=str(copy)), None)
    assert "headless lacks 2 of the model's weights, such as classifier.bias" in told


def test_no_code_of_a_folder_is_run(classifier: Path, tmp_path: Path) -> None:
    copy = tmp_path / "evil"
    shutil.copytree(classifier, copy)
    ran = tmp_path / "ran"
    (copy / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {
            "AutoConfig": "evil.EvilConfig",
            "AutoModelForImageClassification": "evil.Evil",
        },
    }
    (copy / "config.json").write_text(json.dumps(config))
    assert "does not load" in said(Settings(namer=str(copy)), None)
    assert not ran.exists()


def test_the_version_of_a_classifier_tells_which_classes_make_up_a_name(classifier: Path) -> None:
    settings = Settings(namer=str(classifier))
    one, other = (
        load_namer(settings, "cpu", (Words("pet", synonyms),)).version
        for synonyms in (("cat",), ("cat", "dog"))
    )
    assert one.startswith("own-classifier-")
    assert one != other


def test_a_download_that_failed_is_tried_again(
    small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(namer="somebody/some-clip", model_root=tmp_path)

    def breaks(name: str, folder: Path) -> None:
        shutil.copy(small_clip / "config.json", folder)
        raise OSError("the line was cut")

    monkeypatch.setattr("backend.models.weights._download_folder", breaks)
    for _ in range(2):
        assert "could not be fetched: put its files into" in said(settings)

    def works(name: str, folder: Path) -> None:
        shutil.copytree(small_clip, folder, dirs_exist_ok=True)

    monkeypatch.setattr("backend.models.weights._download_folder", works)
    assert load_namer(settings, "cpu", CLASSES).version.startswith("some-clip-")
    assert not (tmp_path / "somebody" / "some-clip.part").exists()


def test_a_processor_among_others_is_read(small_clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "joined"
    shutil.copytree(small_clip, copy)
    path = copy / "preprocessor_config.json"
    own = json.loads(path.read_text())
    path.unlink()
    (copy / "processor_config.json").write_text(json.dumps({"image_processor": own}))
    images, masks = pictures()
    found = load_namer(Settings(namer=str(copy)), "cpu", CLASSES).name(images, masks)
    expected = load_namer(Settings(namer=str(small_clip)), "cpu", CLASSES).name(images, masks)
    for one, other in zip(found, expected, strict=True):
        assert np.allclose(one.probabilities, other.probabilities)


def test_one_class_without_anything_to_tell_it_from_is_refused(small_clip: Path) -> None:
    settings = Settings(namer=str(small_clip), background=("surface",))
    assert "with 'surface' alone every mask is one" in said(settings, (Words("surface"),))


def test_a_classifier_of_ultralytics_names_masks(tmp_path: Path) -> None:
    from backend.models.yolo import quiet_ultralytics

    quiet_ultralytics(offline=True)
    from ultralytics import YOLO

    torch.manual_seed(0)
    path = tmp_path / "own-cls.pt"
    YOLO("yolov8n-cls.yaml").save(path)
    known = load_namer(Settings(namer=str(path)), "cpu", None)
    assert len(known.names) == 1000
    first = known.names[0]
    one = load_namer(Settings(namer=str(path)), "cpu", (Words(first),))
    assert [len(part.background) for part in one.name(pictures()[0][:1], [[]])] == [0]
    assert one.name([], []) == []
    found = one.name(*pictures())
    assert [len(part.background) for part in found] == [2, 1, 0]
    assert np.allclose(found[0].probabilities[:, 0] + found[0].background, 1, atol=1e-5)
    path = tmp_path / "boxes.pt"
    YOLO("yolov8n.yaml").save(path)
    assert "is a YOLO model for detect, expected one for classify" in said(
        Settings(namer=str(path))
    )
