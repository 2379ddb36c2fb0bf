"""Names learned from masks that people named: what is read, what is learned, and which of words and
examples decide.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backend.config.models import Settings
from backend.core.naming import Words
from backend.demo.dataset import write_voc
from backend.demo.scenes.objects import CLASS_NAMES
from backend.errors import ConfigError
from backend.files.images import ImageLimits
from backend.labeling.examples import read_examples
from backend.labeling.namers import NamersWithExamples
from backend.models.clip import ClipNamer
from backend.models.namers import load_namer
from backend.models.probe import BOTH, EXAMPLES, NOTHING, WORDS, HeldOut, NamedFeatures, learn_names

# The classes of scenes under names that no model knows.
ALIENS = [f"kind {k}" for k in range(len(CLASS_NAMES))]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examples") / "voc"
    write_voc(root, seed=3_000_060, count=24)
    (root / "class_names.txt").write_text("\n".join(ALIENS) + "\n")
    return root


@pytest.fixture(scope="module")
def namer() -> ClipNamer:
    made = load_namer(Settings(namer="demo"), "cpu", [Words(name) for name in ALIENS])
    assert isinstance(made, ClipNamer)
    return made


@pytest.fixture(scope="module")
def found(namer: ClipNamer, dataset: Path) -> NamedFeatures:
    return read_examples(namer, dataset, None, None, ImageLimits(), progress=False)


def test_examples_are_all_named_masks(found: NamedFeatures, dataset: Path) -> None:
    n = len(found.labels)
    n_beside = found.labels.count(NOTHING)
    assert n - n_beside > 60
    assert n_beside > 30, "places that nobody named are examples of nothing"
    assert found.features.shape[0] == len(found.pictures) == n
    assert set(found.labels) == {*ALIENS, NOTHING}
    assert np.allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-4)
    assert len(set(found.pictures.tolist())) == 24


def test_few_examples_beat_words_that_say_nothing(namer: ClipNamer, found: NamedFeatures) -> None:
    classes = [Words(name) for name in ALIENS]
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(np.array(found.labels) == name))[:10] for name in ALIENS]
    )
    ten = NamedFeatures(
        found.features[rows], tuple(found.labels[k] for k in rows), found.pictures[rows], "ten"
    )
    learned, held_out = learn_names(namer, classes, ten)
    assert held_out.accuracy is not None
    assert held_out.accuracy[EXAMPLES] > held_out.accuracy[WORDS] + 0.3
    assert held_out.best in (EXAMPLES, BOTH)
    named = np.flatnonzero(np.array(found.labels) != NOTHING)
    others = np.setdiff1d(named, rows)
    right = [
        learned._probe.classes_[k] == ALIENS.index(found.labels[row])
        for k, row in zip(
            learned._probe.predict_proba(found.features[others]).argmax(1), others, strict=True
        )
    ]
    assert np.mean(right) > 0.85
    assert learned.version.startswith("demo_clip-examples-")
    assert learned.version != learn_names(namer, classes, found)[0].version


def test_words_stay_where_they_are_better(found: NamedFeatures) -> None:
    """Names that the namer knows, and examples that are wrong half of the time."""
    classes = [Words(name) for name in CLASS_NAMES]
    namer = load_namer(Settings(namer="demo"), "cpu", classes)
    assert isinstance(namer, ClipNamer)
    rng = np.random.default_rng(1)
    named = np.flatnonzero(np.array(found.labels) != NOTHING)
    few = rng.permutation(named)[:24]
    true = [CLASS_NAMES[ALIENS.index(found.labels[k])] for k in few]
    wrong = [name if i % 2 else CLASS_NAMES[rng.integers(6)] for i, name in enumerate(true)]
    told = NamedFeatures(found.features[few], tuple(wrong), found.pictures[few], "few")
    learned, held_out = learn_names(namer, classes, told)
    assert held_out.accuracy is not None
    assert held_out.best == WORDS
    assert "words decide" in held_out.sentence()
    image = np.zeros((20, 20, 3), np.uint8)
    assert learned.name([image], [[]])[0].probabilities.shape == (0, 6)
    assert learned.name([], []) == []


def test_classes_without_an_example_keep_their_words(found: NamedFeatures) -> None:
    classes = [*(Words(name) for name in ALIENS[:3]), Words("ball")]
    namer = load_namer(Settings(namer="demo"), "cpu", classes)
    assert isinstance(namer, ClipNamer)
    learned, _ = learn_names(namer, classes, found)
    words = namer.compare(found.features)
    shares = learned._probe.predict_proba(found.features).astype(np.float32)
    from backend.models.probe import _mixed

    for how in (EXAMPLES, BOTH):
        mixed = _mixed(words, shares, learned._kinds, how)
        assert np.allclose(mixed.probabilities[:, 3], words.probabilities[:, 3])
        assert np.allclose(mixed.probabilities.sum(1) + mixed.background, 1, atol=1e-5)
    # Labels that are none of the classes are examples of what shows none.
    assert learned._kinds.tolist() == [-1, 0, 1, 2]


def test_too_few_to_hold_out_is_said(namer: ClipNamer, found: NamedFeatures) -> None:
    of_one = (found.pictures == found.pictures[0]) & (np.array(found.labels) != NOTHING)
    # One mask of each class: no class can be held out and learned.
    _, firsts = np.unique(np.array(found.labels), return_index=True)
    of_one &= np.isin(np.arange(len(of_one)), firsts)
    labels = tuple(np.array(found.labels)[of_one])
    if len(set(labels)) < 2:
        pytest.fail("the first scene should show several classes")
    one = NamedFeatures(found.features[of_one], labels, found.pictures[of_one], "one")
    _, held_out = learn_names(namer, [Words(name) for name in ALIENS], one)
    assert held_out == HeldOut(0, None, BOTH)
    assert "too few examples" in held_out.sentence()


def test_what_cannot_be_learned_from_is_told(
    namer: ClipNamer, found: NamedFeatures, tmp_path: Path
) -> None:
    same = NamedFeatures(found.features, ("kind 0",) * len(found.labels), found.pictures, "same")
    with pytest.raises(ConfigError, match="none of its labels is a name; labels: kind 0; names: x"):
        learn_names(namer, [Words("x"), Words("y")], same)
    with pytest.raises(ConfigError, match="examples of one class alone"):
        learn_names(namer, [Words("kind 0"), Words("kind 1")], same)
    with pytest.raises(ConfigError, match="--examples: no such file or folder"):
        read_examples(namer, tmp_path / "none", None, None, ImageLimits(), progress=False)
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [], "imagePath": "a.jpg"}))
    with pytest.raises(ConfigError, match="has no named mask with its picture"):
        read_examples(namer, tmp_path / "a.json", None, None, ImageLimits(), progress=False)


def test_annotate_learns_and_says_what_was_better(
    run_cli: Run, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((dataset / "JPEGImages").iterdir())[:2]:
        shutil.copy(path, photos)
    code, _, err = run_cli(
        *("annotate", photos, "--out", tmp_path / "out", "--mode", "automatic"),
        *("--examples", dataset, "--segmenter", "demo", "--device", "cpu", "--no-progress"),
        *("--points-per-side", "10"),
    )
    assert code == 0, err
    assert "right on" in err + caplog.text
    labels = [
        shape["label"]
        for path in (tmp_path / "out").rglob("*.json")
        for shape in json.loads(path.read_text())["shapes"]
    ]
    assert len(set(labels) & set(ALIENS)) >= 2
    code, _, err = run_cli(
        *("annotate", photos, "--out", tmp_path / "o2", "--examples", dataset, "--no-progress"),
        *("--detector", "demo", "--segmenter", "demo"),
    )
    assert (code, "--examples: is about automatic masks" in err) == (2, True)


def test_one_reading_serves_all_words(dataset: Path) -> None:
    settings = Settings(namer="demo", examples=dataset, examples_split="val", device="cpu")
    namers = NamersWithExamples(settings, "cpu")
    assert sorted(namers.of(None).names.values()) == sorted(ALIENS)
    first = namers._examples
    assert list(namers.of([Words("kind 0"), Words("kind 1")]).names.values()) == ALIENS[:2]
    assert namers._examples is first
