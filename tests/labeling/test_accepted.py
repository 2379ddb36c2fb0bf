"""Frames that a person corrected, and the gaps between them, with the truth as the segmenter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from backend.core.masks import mask_iou
from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.core.types import Image
from backend.demo.scenes.objects import CLASS_NAMES
from backend.errors import InputError
from backend.labeling.accepted import Accepted, GapFollower
from tests.labeling import test_follow as oracle

N = oracle.N_FRAMES


def truth(clip: oracle.Played) -> TrackedVideo:
    tracks = []
    for k, class_id in enumerate(clip.class_ids, 1):
        seen = PackedInstances(CLASS_NAMES[class_id], class_id, k)
        for frame in clip.frames(N):
            mask = oracle._masks(frame.objects).get(k)
            if mask is not None:
                seen.add(frame.number, mask, 0.9)
        tracks.append(Track(id=k, label=CLASS_NAMES[class_id], seen=seen))
    size = clip.frame(0).objects.shape
    return TrackedVideo(
        name="v", size_hw=(size[0], size[1]), n_frames=N, rate=25.0, tracks=tuple(tracks)
    )


def swapped(video: TrackedVideo, first: int, last: int) -> TrackedVideo:
    """Tracks 1 and 2 in each other's place in some frames."""
    one, two, *others = video.tracks
    made = []
    for track, other in ((one, two), (two, one)):
        seen = {
            frame: (other if first <= frame <= last else track).seen[frame]
            for frame in range(N)
            if frame in (other if first <= frame <= last else track).seen
        }
        made.append(replace(track, seen=seen))
    return replace(video, tracks=(*made, *others))


def accepted(video: TrackedVideo, frame: int) -> Accepted:
    return Accepted(
        {
            track.id: (track.label, one.mask)
            for track, one in video.at(frame)
            if one.mask is not None
        }
    )


def wrong(video: TrackedVideo, right: TrackedVideo) -> dict[int, set[int]]:
    """Frames of each track that are not as they should be."""
    found: dict[int, set[int]] = {}
    for track in right.tracks:
        own = next(one for one in video.tracks if one.id == track.id)
        for frame in range(N):
            here, there = own.seen.get(frame), track.seen.get(frame)
            same = here is None and there is None
            if here is not None and there is not None and here.mask and there.mask:
                same = mask_iou(here.mask, there.mask) > 0.99
            if not same:
                found.setdefault(track.id, set()).add(frame)
    return found


def run(clip: oracle.Played, video: TrackedVideo, fixed: dict[int, Accepted]) -> TrackedVideo:
    images: Iterator[Image] = (frame.image for frame in clip.frames(N))
    follower = GapFollower(oracle.OracleLabeler(clip), oracle.OracleSegmenter(clip))
    return follower.run(video, images, fixed)


@pytest.mark.parametrize("seed", list(oracle.SEEDS)[:4])
def test_only_the_gap_is_done_again(seed: int) -> None:
    clip = oracle.played(seed)
    right = truth(clip)
    bad = swapped(right, 5, 50)
    before = wrong(bad, right)
    found = run(clip, bad, {12: accepted(right, 12), 40: accepted(right, 40)})
    after = wrong(found, right)
    for number in (1, 2):
        # The gap and its ends are right, and what lies outside is as it was.
        assert not {frame for frame in after.get(number, ()) if 12 <= frame <= 40}
        outside = {frame for frame in before.get(number, ()) if not 12 <= frame <= 40}
        assert after.get(number, set()) == outside
    assert [track.id for track in found.tracks] == [track.id for track in bad.tracks]


def test_what_a_person_takes_away_and_adds() -> None:
    clip = oracle.played(oracle.SEEDS[1])
    right = truth(clip)
    without = replace(right, tracks=right.tracks[1:])
    # The first frame lacks an object that the second has: it is followed back into the gap.
    first = Accepted({k: v for k, v in accepted(right, 10).objects.items() if k != 1})
    found = run(clip, without, {10: first, 40: accepted(right, 40)})
    new = next(track for track in found.tracks if track.id == 1)
    assert new.label == right.tracks[0].label
    frames = sorted(new.seen)
    assert frames[-1] == 40
    assert frames[0] == 11
    # And one that both lack goes from the ends, and is as it was between them.
    bare = {k: v for k, v in accepted(right, 10).objects.items() if k != 2}
    found = run(clip, right, {10: Accepted(bare), 40: accepted(right, 40)})
    assert 10 not in found.tracks[1].seen


def test_what_a_person_took_away_at_an_end_stays_away() -> None:
    clip = oracle.played(oracle.SEEDS[1])
    right = truth(clip)
    without = {k: v for k, v in accepted(right, 30).objects.items() if k != 1}
    found = run(clip, right, {10: accepted(right, 10), 30: Accepted(without)})
    assert 30 not in found.tracks[0].seen
    assert 29 in found.tracks[0].seen


def test_fewer_frames_than_accepted_ones_change_nothing() -> None:
    clip = oracle.played(oracle.SEEDS[0])
    right = truth(clip)
    images = (frame.image for frame in clip.frames(20))
    follower = GapFollower(oracle.OracleLabeler(clip), oracle.OracleSegmenter(clip))
    with pytest.raises(InputError, match="ends after 20 frames that can be read, before"):
        follower.run(right, images, {5: accepted(right, 5), 40: accepted(right, 40)})


def test_a_gap_that_is_longer_than_the_frames_at_hand() -> None:
    clip = oracle.played(oracle.SEEDS[0])
    right = truth(clip)
    bad = swapped(right, 2, 57)
    images = (frame.image for frame in clip.frames(N))
    follower = GapFollower(oracle.OracleLabeler(clip), oracle.OracleSegmenter(clip), back=5)
    found = follower.run(bad, images, {1: accepted(right, 1), 58: accepted(right, 58)})
    assert not wrong(found, right)
