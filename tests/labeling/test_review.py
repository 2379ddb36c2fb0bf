"""What of a followed video is told to be looked at first, and the page about it."""

from __future__ import annotations

import numpy as np

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.drawing.overlays import encode_picture
from backend.labeling.review import frames_to_look_at, stretches
from backend.labeling.track_page import render_tracks

SIZE = (100, 200)
N = 30


def track(number: int, boxes: dict[int, tuple[int, int, int, int]], **scores: float) -> Track:
    seen = PackedInstances("<cat>", 0, number)
    for frame, (x, y, w, h) in boxes.items():
        full = np.zeros(SIZE, bool)
        full[y : y + h, x : x + w] = True
        mask = mask_from_full(full)
        assert mask is not None
        assert mask_xyxy(mask)[2] == x + w
        seen.add(frame, mask, scores.get(f"f{frame}", 0.95))
    return Track(id=number, label="<cat>", seen=seen)


def video(*tracks: Track) -> TrackedVideo:
    return TrackedVideo(name="<v>", size_hw=SIZE, n_frames=N, rate=25.0, tracks=tracks)


def still(frames: range, x: int = 50) -> dict[int, tuple[int, int, int, int]]:
    return dict.fromkeys(frames, (x, 40, 20, 20))


def reasons(made: TrackedVideo) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for look in frames_to_look_at(made):
        found.setdefault(look.reason, []).append(look.frame)
    return found


def test_nothing_stands_out() -> None:
    assert reasons(video(track(1, still(range(N))))) == {}
    # What comes and goes at the border is as it should be.
    assert reasons(video(track(1, still(range(5, 20), x=0)))) == {}


def test_each_reason() -> None:
    assert reasons(video(track(1, still(range(N)), f7=0.4, f20=0.6))) == {"unsure": [7, 20]}
    jump = {**still(range(10)), **still(range(10, N), x=120)}
    assert reasons(video(track(1, jump))) == {"jumps": [10]}
    grown = {**still(range(10)), **dict.fromkeys(range(10, N), (45, 35, 30, 32))}
    assert reasons(video(track(1, grown))) == {"changes its size at once": [10]}
    gone = {**still(range(10)), **still(range(15, N))}
    assert reasons(video(track(1, gone))) == {"is back after it was gone": [15]}
    assert reasons(video(track(1, still(range(5, 20))))) == {
        "ends inside the picture": [19],
        "begins inside the picture": [5],
    }
    both = video(track(1, still(range(N))), track(2, still(range(N), x=54)))
    assert reasons(both) == {"lies on track 1": [0, 5, 10, 15, 20, 25]}


def test_the_worst_come_first_and_not_too_many() -> None:
    unsure = {f"f{k}": 0.1 + k / 100 for k in range(N)}
    made = video(track(1, still(range(N)), **unsure))
    looks = frames_to_look_at(made, most=3)
    assert [look.frame for look in looks] == [0, 5, 10]
    weights = [look.weight for look in frames_to_look_at(made)]
    assert weights == sorted(weights, reverse=True)


def test_stretches_part_where_an_object_is_less_sure() -> None:
    made = stretches(track(1, {**still(range(4)), **still(range(6, 9))}, f2=0.3))
    assert [(one.first, one.last, one.score) for one in made] == [
        (0, 1, 0.95),
        (2, 2, 0.3),
        (3, 3, 0.95),
        (6, 8, 0.95),
    ]


def test_the_page_holds_everything_and_escapes_names() -> None:
    made = video(track(1, still(range(N)), f7=0.4), track(2, {}))
    looks = frames_to_look_at(made)
    picture = encode_picture(np.zeros((20, 30, 3), np.uint8))
    page = render_tracks(made, looks, {7: picture}, range(100, 100 + N))
    assert "<cat>" not in page
    assert "&lt;cat&gt;" in page
    assert 'id="f7"' in page
    assert "frame 107" in page  # as the whole video counts
    assert "track 1 unsure" in page
    assert "http" not in page.replace("http-equiv", "")
    empty = render_tracks(video(), [], {}, range(N))
    assert "Nothing stands out" in empty
