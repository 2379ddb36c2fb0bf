"""Tracks of generated videos, with the truth in the place of both models: what goes wrong here is
the joining alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from backend.core.masks import full_frame, mask_from_full, mask_iou, mask_xyxy
from backend.core.protocols import Frames
from backend.core.tracks import PackedInstances, Track
from backend.core.types import (
    Detections,
    FrameMasks,
    Image,
    Instance,
    Mask,
    Masks,
    Prediction,
    Prompts,
)
from backend.demo.dataset import true_detections
from backend.demo.scenes.clips import Clip, ClipFrame
from backend.demo.scenes.compose import Scene
from backend.demo.scenes.objects import CLASS_NAMES
from backend.errors import ConfigError
from backend.evaluation.identity import IdentityCounts, count_identities, overlaps_of
from backend.labeling.checkpoint import Checkpoint, State
from backend.labeling.follow import Follower, FollowOptions
from backend.labeling.followed import Followed
from backend.labeling.identities import IdentityOptions
from backend.labeling.stream import Recent, Scenes

N_FRAMES = 60
SEEDS = range(4_000_000, 4_000_008)
_VISIBLE = 60  # pixels


class Played:
    """A clip whose frames are made once."""

    def __init__(self, seed: int) -> None:
        clip = Clip(seed)
        self.class_ids = clip.class_ids
        self._frames = list(clip.frames(N_FRAMES))

    def frames(self, n_frames: int) -> Iterator[ClipFrame]:
        yield from self._frames[:n_frames]

    def frame(self, number: int) -> ClipFrame:
        return self._frames[number]


@lru_cache(maxsize=8)
def played(seed: int) -> Played:
    return Played(seed)


class OracleSession:
    """Follows whatever of the truth a prompt lies on."""

    def __init__(self, clip: Played, frames: Frames, saved: bytes | None) -> None:
        self._clip = clip
        self._frames = frames
        at, followed = (-1, []) if saved is None else json.loads(saved)
        self._followed: dict[int, int | None] = dict(followed)
        self._at = at

    def prompt(self, frame: int, object_id: int, prompts: Prompts) -> FrameMasks:
        raise NotImplementedError

    def prompt_mask(self, frame: int, object_id: int, mask: Mask) -> FrameMasks:
        objects = self._clip.frame(frame).objects
        best = max(
            ((mask_iou(mask, one), k) for k, one in _masks(objects).items()), default=(0.0, 0)
        )
        self._followed[object_id] = best[1] if best[0] > 0.2 else None
        self._at = frame
        return self._answer(frame, [object_id])

    def step(self, *, backward: bool = False) -> FrameMasks | None:
        self._at += -1 if backward else 1
        try:
            _ = self._frames[self._at]
        except IndexError:
            return None
        return self._answer(self._at, list(self._followed))

    def drop(self, object_id: int) -> None:
        self._followed.pop(object_id, None)

    def forget(self, before: int) -> None:
        """Nothing is kept."""

    def saved(self) -> bytes:
        return json.dumps([self._at, list(self._followed.items())]).encode()

    def _answer(self, frame: int, ids: Sequence[int]) -> FrameMasks:
        objects = self._clip.frame(frame).objects
        there = [np.where(objects == (self._followed[k] or 999), 8.0, -8.0) for k in ids]
        seen = [float((one > 0).sum() >= _VISIBLE) for one in there]
        logits = np.array(there, np.float16).reshape(-1, *objects.shape)
        masks = Masks(logits, np.array(seen, np.float32), (objects.shape[0], objects.shape[1]))
        return FrameMasks(frame, tuple(ids), masks)


class OracleSegmenter:
    version = "oracle"

    def __init__(self, clip: Played) -> None:
        self._clip = clip

    def start(self, frames: Frames, saved: bytes | None = None) -> OracleSession:
        return OracleSession(self._clip, frames, saved)


class OracleLabeler:
    """Outlines a given box with the object that fills most of it, else with the box itself."""

    names: ClassVar[Mapping[int, str]] = dict(enumerate(CLASS_NAMES))
    model_version = "oracle"
    point_segmenter = None

    def __init__(self, clip: Played) -> None:
        self._clip = clip

    def infer(
        self,
        images: Sequence[Image],
        given: Sequence[Detections | None] | None = None,
        thresholds: Mapping[int, float] | None = None,
    ) -> list[Any]:
        assert given is not None
        (image,) = images
        return [(image, given[0])]

    def finish(self, raw: Any) -> Prediction:
        image, detections = raw
        objects = next(
            frame.objects
            for frame in self._clip.frames(N_FRAMES)
            if frame.image.shape == image.shape and (frame.image == image).all()
        )
        masks = _masks(objects)
        instances = []
        for box, class_id, score in zip(
            detections.xyxy, detections.class_ids, detections.scores, strict=True
        ):
            x0, y0, x1, y1 = (int(v) for v in np.clip(box, 0, 10_000))
            square = mask_from_full(_square(objects.shape, x0, y0, x1, y1))
            if square is None:
                continue
            overlaps = [(_box_iou(box, mask_xyxy(one)), k) for k, one in masks.items()]
            best = max(overlaps, default=(0.0, 0))
            mask = masks[best[1]] if best[0] > 0.5 else square
            name = CLASS_NAMES[int(class_id)]
            instances.append(Instance(name, int(class_id), float(score), box, mask))
        return Prediction(tuple(instances), (objects.shape[0], objects.shape[1]), "oracle")

    def outline(self, masks: Masks) -> list[Mask | None]:
        return [mask_from_full(one > 0) for one in masks.logits]


def _square(shape: tuple[int, ...], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    full = np.zeros(shape, np.bool_)
    full[y0:y1, x0:x1] = True
    return full


def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(a[2:], b[2:])
    both = float(np.prod(np.clip(high - low, 0, None)))
    return both / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


def _masks(objects: np.ndarray) -> dict[int, Mask]:
    found = {k: mask_from_full(objects == k) for k in range(1, int(objects.max()) + 1)}
    return {k: one for k, one in found.items() if one is not None and one.crop.sum() >= _VISIBLE}


def noisy(clip: Played, seed: int, every: int = 12) -> dict[int, Detections]:
    """The truth with jitter, 15 % missed and 5 % invented."""
    rng = np.random.default_rng(seed)
    given = {}
    for number in range(0, N_FRAMES, every):
        frame = clip.frame(number)
        true = true_detections(Scene(frame.image, frame.objects, clip.class_ids))
        true = true.keep(np.prod(true.xyxy[:, 2:] - true.xyxy[:, :2], axis=1) > 200)
        true = true.keep(rng.random(len(true)) >= 0.15)
        sides = np.concatenate([true.xyxy[:, 2:] - true.xyxy[:, :2]] * 2, axis=1)
        boxes = true.xyxy + rng.normal(0, 0.03, true.xyxy.shape) * sides
        classes = true.class_ids
        scores = rng.uniform(0.6, 0.99, len(true)).astype(np.float32)
        if rng.random() < 0.05 * len(true):
            x, y = rng.uniform(0, 250), rng.uniform(0, 170)
            boxes = np.concatenate([boxes, [[x, y, x + 60, y + 60]]])
            classes = np.append(classes, rng.integers(len(CLASS_NAMES)))
            scores = np.append(scores, np.float32(0.6))
        given[number] = Detections(boxes.astype(np.float32), classes, scores)
    return given


def follow(
    clip: Played, given: Mapping[int, Detections], options: FollowOptions | None = None
) -> Followed:
    images = (frame.image for frame in clip.frames(N_FRAMES))
    follower = Follower(OracleLabeler(clip), OracleSegmenter(clip), options)
    return follower.run(images, given)


def rows(found: Followed) -> list[Any]:
    return [
        (track.id, track.label, frame, one.score, one.mask.x, one.mask.y, one.mask.crop.tolist())
        for track in found.tracks
        for frame, one in sorted(track.seen.items())
        if one.mask is not None
    ]


class Killed(BaseException):
    """Nobody gets to clean up after it."""


@pytest.mark.parametrize("seed", list(SEEDS)[:3])
@pytest.mark.parametrize("stop", [9, 10, 25, 50, 59])
def test_a_run_that_was_killed_goes_on(seed: int, stop: int, tmp_path: Path) -> None:
    clip = played(seed)
    given = noisy(clip, seed)
    expected = follow(clip, given)
    path = tmp_path / "tracks" / ".clip.partial"
    n_asked = 0

    def images(last: int) -> Iterator[Image]:
        for frame in clip.frames(last):
            yield frame.image

    class Kept(Checkpoint):
        def save(self, state: State, back: int) -> None:
            super().save(state, back)
            if state.number >= stop // 10 * 10:
                raise Killed

    class Asked(OracleLabeler):
        def infer(self, *args: Any, **options: Any) -> list[Any]:
            nonlocal n_asked
            n_asked += 1
            return super().infer(*args, **options)

    first = Follower(OracleLabeler(clip), OracleSegmenter(clip))
    if stop < 10:  # nothing was kept yet
        with pytest.raises(Killed):
            first.run(_until(images(N_FRAMES), stop), given, Checkpoint(path, "same", 100))
    else:
        with pytest.raises(Killed):
            first.run(images(N_FRAMES), given, Kept(path, "same", 10))
    again = Follower(Asked(clip), OracleSegmenter(clip))
    found = again.run(images(N_FRAMES), given, Checkpoint(path, "same", 10))
    assert rows(found) == rows(expected)
    assert found.flips == expected.flips
    assert (found.n_looks, found.n_cuts) == (expected.n_looks, expected.n_cuts)
    assert n_asked == expected.n_looks - len([k for k in given if k < (stop // 10 * 10 or stop)])


def _until(images: Iterator[Image], stop: int) -> Iterator[Image]:
    for number, image in enumerate(images):
        if number == stop:
            raise Killed  # the checkpoint is written all the same, as after Ctrl-C
        yield image


def test_work_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    clip = played(SEEDS[0])
    given = noisy(clip, 0)
    path = tmp_path / ".clip.partial"
    images = (frame.image for frame in clip.frames(N_FRAMES))
    follower = Follower(OracleLabeler(clip), OracleSegmenter(clip))
    follower.run(images, given, Checkpoint(path, "one", 10))
    assert Checkpoint(path, "one").load() is not None
    assert Checkpoint(path, "two").load() is None
    images = (frame.image for frame in clip.frames(N_FRAMES))
    again = Follower(OracleLabeler(clip), OracleSegmenter(clip))
    found = again.run(images, given, Checkpoint(path, "two", 10))
    assert rows(found) == rows(follow(clip, given))
    assert Checkpoint(path, "one").load() is None
    path.write_bytes(b"not a database" * 100)
    assert Checkpoint(path, "two").load() is None  # damaged: begun anew
    images = (frame.image for frame in clip.frames(N_FRAMES))
    third = Follower(OracleLabeler(clip), OracleSegmenter(clip))
    assert rows(third.run(images, given, Checkpoint(path, "two", 10))) == rows(found)
    Checkpoint(path, "two").clear()
    assert not list(tmp_path.iterdir())


def owners(clip: Played, found: Followed) -> dict[int, list[int | None]]:
    """Of every object, which track lies on it in each frame that it is seen in."""
    owner: dict[int, list[int | None]] = {}
    for number in range(N_FRAMES):
        there = [(one.id, one.seen[number].mask) for one in found.tracks if number in one.seen]
        for k, mask in _masks(clip.frame(number).objects).items():
            hits = [track for track, one in there if one is not None and mask_iou(one, mask) > 0.5]
            owner.setdefault(k, []).append(hits[0] if hits else None)
    return owner


@pytest.mark.parametrize("seed", SEEDS)
def test_objects_keep_their_numbers(seed: int) -> None:
    clip = played(seed)
    found = follow(clip, noisy(clip, seed))
    for k, tracks in owners(clip, found).items():
        if len(tracks) < 20:
            continue  # may be gone before two looks found it
        numbers = {one for one in tracks if one is not None}
        assert len(numbers) == 1, f"object {k}"
        assert sum(one is None for one in tracks) <= 3, f"object {k}"
    assert len(found.tracks) <= len(clip.class_ids)


def test_identities_by_the_figures_of_the_field() -> None:
    """HOTA, IDF1 and switches over all of them; the masks are the truth's."""
    total: IdentityCounts | None = None
    for seed in SEEDS:
        clip = played(seed)
        found = follow(clip, noisy(clip, seed)).as_video("found", 25.0, "")
        tracks = []
        for k in range(1, len(clip.class_ids) + 1):
            label = CLASS_NAMES[clip.class_ids[k - 1]]
            seen = PackedInstances(label, 0)
            for frame in clip.frames(N_FRAMES):
                mask = _masks(frame.objects).get(k)
                if mask is not None:
                    seen.add(frame.number, mask, 1.0)
            tracks.append(Track(id=k, label=label, seen=seen))
        truth = replace(found, tracks=tuple(tracks))
        counts = count_identities(overlaps_of(truth, found))
        total = counts if total is None else total + counts
    assert total is not None
    figures = total.figures
    assert figures.hota >= 0.95
    assert figures.idf1 >= 0.95
    assert figures.switches == 0


class Drifting(OracleSession):
    """Its masks are off by some pixels until somebody sets them right."""

    def step(self, *, backward: bool = False) -> FrameMasks | None:
        answer = super().step(backward=backward)
        if answer is None:
            return None
        moved = np.roll(answer.masks.logits, 14, axis=2)
        return replace(answer, masks=replace(answer.masks, logits=moved))


def test_an_object_that_drifts_is_set_right_by_its_detection() -> None:
    clip = played(SEEDS[1])

    class Segmenter(OracleSegmenter):
        def start(self, frames: Frames, saved: bytes | None = None) -> OracleSession:
            return Drifting(clip, frames, saved)

    def figures(options: FollowOptions) -> list[float]:
        images = (frame.image for frame in clip.frames(N_FRAMES))
        follower = Follower(OracleLabeler(clip), Segmenter(clip), options)
        found = follower.run(images, noisy(clip, 1))
        ious = []
        for number in (24, 36, 48):
            for k, mask in _masks(clip.frame(number).objects).items():
                there = [t.seen[number].mask for t in found.tracks if number in t.seen]
                best = max((mask_iou(mask, one) for one in there if one is not None), default=0)
                ious.append(best if k else 0.0)
        return ious

    without = np.mean(figures(FollowOptions(anchor_iou=0.0)))
    assert np.mean(figures(FollowOptions())) > without + 0.1


class Slipping(OracleSession):
    """Its masks slip off step by step between two looks, but not backwards."""

    def step(self, *, backward: bool = False) -> FrameMasks | None:
        answer = super().step(backward=backward)
        if answer is None or backward:
            return answer
        moved = np.roll(answer.masks.logits, (answer.frame - 1) % 12, axis=2)
        return replace(answer, masks=replace(answer.masks, logits=moved))


class Losing(OracleSession):
    """It loses what was prompted before frame 27 there, and finds it no more."""

    def __init__(self, clip: Played, frames: Frames, saved: bytes | None) -> None:
        super().__init__(clip, frames, saved)
        self._prompted: dict[int, int] = {}

    def prompt_mask(self, frame: int, object_id: int, mask: Mask) -> FrameMasks:
        self._prompted[object_id] = frame
        return super().prompt_mask(frame, object_id, mask)

    def step(self, *, backward: bool = False) -> FrameMasks | None:
        answer = super().step(backward=backward)
        if answer is None or backward or answer.frame < 27:
            return answer
        is_lost = np.array([self._prompted[k] < 27 for k in answer.object_ids])
        logits = np.where(is_lost[:, None, None], -8, answer.masks.logits).astype(np.float16)
        seen = np.where(is_lost, 0, answer.masks.quality).astype(np.float32)
        return replace(answer, masks=replace(answer.masks, logits=logits, quality=seen))


def true_boxes(clip: Played, numbers: Iterable[int]) -> dict[int, Detections]:
    frames = [clip.frame(number) for number in numbers]
    return {
        one.number: true_detections(Scene(one.image, one.objects, clip.class_ids)) for one in frames
    }


def follow_with(
    kind: type[OracleSession], clip: Played, given: Mapping[int, Detections], **options: Any
) -> Followed:
    class Segmenter(OracleSegmenter):
        def start(self, frames: Frames, saved: bytes | None = None) -> OracleSession:
            return kind(clip, frames, saved)

    images = (frame.image for frame in clip.frames(N_FRAMES))
    follower = Follower(OracleLabeler(clip), Segmenter(clip), FollowOptions(**options))
    return follower.run(images, given)


def test_drift_is_set_right_back_to_where_it_began() -> None:
    clip = played(SEEDS[6])
    given = true_boxes(clip, range(0, N_FRAMES, 12))
    ious = {}
    for anchor_iou in (0.0, 0.75):
        found = follow_with(Slipping, clip, given, anchor_iou=anchor_iou)
        ious[anchor_iou] = [
            max(mask_iou(mask, t.seen[number].mask) for t in found.tracks if number in t.seen)
            for number in range(1, 48)
            for mask in _masks(clip.frame(number).objects).values()
        ]
    assert min(ious[0.0]) < 0.6, "it does slip"
    assert min(ious[0.75]) >= 0.75


def test_a_lost_object_that_is_detected_again_keeps_its_number() -> None:
    clip = played(SEEDS[6])
    given = true_boxes(clip, range(0, N_FRAMES, 12))
    found = follow_with(Losing, clip, given)
    assert len(found.tracks) == len(clip.class_ids)
    for tracks in owners(clip, found).values():
        assert len({one for one in tracks if one is not None}) == 1
        assert None not in tracks, "the gap is filled from behind"


def test_a_lost_object_is_not_one_of_another_class() -> None:
    clip = played(SEEDS[6])
    given = true_boxes(clip, range(0, N_FRAMES, 12))
    given |= {
        number: replace(one, class_ids=(one.class_ids + 1) % len(CLASS_NAMES))
        for number, one in given.items()
        if number >= 36
    }
    found = follow_with(Losing, clip, given)
    assert len(found.tracks) == 2 * len(clip.class_ids)


def test_detections_of_a_lost_object_count_together() -> None:
    """Each look finds it, and between them it is lost every time."""

    class Forgetful(OracleSession):
        def step(self, *, backward: bool = False) -> FrameMasks | None:
            answer = super().step(backward=backward)
            if answer is None or backward or answer.frame % 12 in (1, 2, 3, 4):
                return answer
            nothing = np.full_like(answer.masks.logits, -8)
            gone = np.zeros_like(answer.masks.quality)
            return replace(answer, masks=replace(answer.masks, logits=nothing, quality=gone))

    clip = played(SEEDS[6])
    given = true_boxes(clip, range(0, N_FRAMES, 12))
    found = follow_with(Forgetful, clip, given)
    assert len(found.tracks) == len(clip.class_ids)
    for tracks in owners(clip, found).values():
        assert len({one for one in tracks[:48] if one is not None}) == 1
        assert None not in tracks[:44]


def test_what_was_lost_holds_no_old_prompts() -> None:
    clip = played(SEEDS[6])
    prompted: list[tuple[int, str]] = []

    class Watched(Losing):
        def prompt_mask(self, frame: int, object_id: int, mask: Mask) -> FrameMasks:
            prompted.append((object_id, "prompt"))
            return super().prompt_mask(frame, object_id, mask)

        def drop(self, object_id: int) -> None:
            prompted.append((object_id, "drop"))
            super().drop(object_id)

    follow_with(Watched, clip, true_boxes(clip, range(0, N_FRAMES, 12)))
    of_first = [what for k, what in prompted if k == 1]
    assert of_first[:3] == ["prompt", "drop", "prompt"]


@pytest.mark.parametrize("is_cut", [False, True])
def test_nothing_is_followed_back_over_a_change_of_scene(
    is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the same place after a cut is another object."""
    clip = played(SEEDS[6])
    numbers = iter(range(N_FRAMES))
    monkeypatch.setattr(Scenes, "changed", lambda *_: next(numbers) == 36 and is_cut)
    found = follow_with(Losing, clip, true_boxes(clip, range(0, N_FRAMES, 12)))
    count = len(clip.class_ids)
    assert len(found.tracks) == count * (2 if is_cut else 1)
    assert all(min(track.seen) >= 36 for track in found.tracks[count:])


def test_what_one_look_invents_is_not_shown() -> None:
    clip = played(SEEDS[0])
    given = noisy(clip, 1)
    ghost = np.array([[5, 5, 45, 45]], np.float32)
    one = given[24]
    given[24] = Detections(
        np.concatenate([one.xyxy, ghost]),
        np.append(one.class_ids, 0),
        np.append(one.scores, np.float32(0.99)),
    )
    found = follow(clip, given)
    for track in found.tracks:
        for number in track.seen:
            mask = track.seen[number].mask
            assert mask is not None
            objects = clip.frame(number).objects
            covered = (objects > 0)[full_frame(mask, found.size_hw)].mean()
            assert covered > 0.9, f"track {track.id}, frame {number}"


def test_late_objects_are_followed_back_to_their_first_frame() -> None:
    clip = played(SEEDS[1])
    every = noisy(clip, 2)
    given = {0: every[0].keep(np.arange(len(every[0])) < 1)}
    given |= {number: one for number, one in every.items() if number >= 24}
    found = follow(clip, given, FollowOptions(back=36))
    seen_from = {
        k: next(n for n in range(N_FRAMES) if k in _masks(clip.frame(n).objects))
        for k in owners(clip, found)
    }
    checked = 0
    for k, tracks in owners(clip, found).items():
        numbers = [one for one in tracks if one is not None]
        if len(tracks) >= 45 and numbers:
            track = next(one for one in found.tracks if one.id == numbers[0])
            assert min(track.seen) == seen_from[k]
            checked += 1
    assert checked >= 2


def test_class_is_that_of_most_votes_and_flips_are_told() -> None:
    clip = played(SEEDS[1])
    given = {}
    for place, number in enumerate(range(0, N_FRAMES, 12)):
        frame = clip.frame(number)
        true = true_detections(Scene(frame.image, frame.objects, clip.class_ids)).keep(
            np.array([0])
        )
        wrong = (true.class_ids + 1) % len(CLASS_NAMES)
        given[number] = replace(true, class_ids=wrong if place == 1 else true.class_ids)
    found = follow(clip, given)
    (track,) = found.tracks
    assert track.label == CLASS_NAMES[clip.class_ids[0]]
    assert found.flips[track.id] == 2


def test_cap_is_told() -> None:
    clip = played(SEEDS[3])
    options = FollowOptions(identities=IdentityOptions(most=1))
    found = follow(clip, noisy(clip, 3), options)
    assert found.n_refused > 0
    for number in range(N_FRAMES):
        assert sum(number in track.seen for track in found.tracks) <= 1


def test_object_ends_when_it_is_out_of_sight_for_long() -> None:
    seed, k, gone = next(_hidden())
    clip = played(seed)
    frame = clip.frame(0)
    true = true_detections(Scene(frame.image, frame.objects, clip.class_ids))
    box = mask_xyxy(_masks(frame.objects)[k])
    row = int(np.abs(true.xyxy - box).sum(1).argmin())
    given = {0: true.keep(np.array([row]))}
    options = FollowOptions(keep_alive=4, identities=IdentityOptions(confirmations=1))
    (track,) = follow(clip, given, options).tracks
    assert max(track.seen) < gone
    options = replace(options, keep_alive=60)
    (track,) = follow(clip, given, options).tracks
    assert max(track.seen) > gone + 4


def _hidden() -> Iterator[tuple[int, int, int]]:
    """A seed, and an object that is seen at first, then not for six frames, and then again."""
    for seed in range(4_000_100, 4_000_160):
        clip = played(seed)
        seen = [set(_masks(frame.objects)) for frame in clip.frames(N_FRAMES)]
        for k in seen[0]:
            for start in range(1, N_FRAMES - 12):
                away = all(k not in one for one in seen[start : start + 6])
                if away and any(k in one for one in seen[start + 12 :]):
                    yield seed, k, start
                    break


def test_a_still_of_one_frame() -> None:
    clip = played(SEEDS[4])
    images = [clip.frame(0).image]
    found = Follower(OracleLabeler(clip), OracleSegmenter(clip)).run(images, {0: noisy(clip, 4)[0]})
    assert found.n_frames == 1
    assert len(found.tracks) >= 1


@pytest.mark.parametrize("name", ["every", "keep_alive", "back"])
def test_options_that_cannot_be(name: str) -> None:
    make: Callable[..., FollowOptions] = FollowOptions
    with pytest.raises(ConfigError, match=f"{name}: expected 1 or more, got 0"):
        make(**{name: 0})


def test_recent_frames_keep_no_more_than_asked() -> None:
    images = [np.full((2, 2, 3), k, np.uint8) for k in range(10)]
    recent = Recent(iter(images), 3)
    for _ in range(6):
        recent.advance()
    assert recent[5][0, 0, 0] == 5
    assert recent[3][0, 0, 0] == 3
    for number in (2, 6):
        with pytest.raises(IndexError):
            _ = recent[number]
    for _ in range(4):
        assert recent.advance() is not None
    assert recent.advance() is None
