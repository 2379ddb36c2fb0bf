"""Identities on real pixels with exact truth: objects of DAVIS pasted into one another, with the
truth in the place of both models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from backend.core.tracks import PackedInstances, Track
from backend.demo.scenes.clips import ClipFrame
from backend.demo.scenes.objects import CLASS_NAMES
from backend.evaluation.identity import count_identities, overlaps_of
from backend.files.images import read_image
from backend.formats.voc.label_maps import read_label_map
from tests.conftest import ROOT
from tests.labeling import test_follow as oracle

DAVIS = ROOT.parent / "shared" / "data" / "davis-voc"
pytestmark = pytest.mark.skipif(not DAVIS.is_dir(), reason="the shared data is not on this machine")
NAMES = ("car-shadow", "motocross-jump", "libby", "blackswan", "horsejump-high")
SIZE = (240, 426)


@dataclass
class Layer:
    """A sequence: where its object is pasted, and from which of its frames on."""

    name: str
    start: int
    shift_x: tuple[int, int] = (0, 0)  # at the first frame and at the last
    enters: int = 0  # the frame that it is first seen in


class Composite:
    """Objects over the first sequence; later ones hide earlier ones. Has what clips have."""

    def __init__(self, layers: list[Layer]) -> None:
        self.class_ids = tuple(NAMES.index(one.name) for one in layers)
        self._frames = [self._made(layers, k) for k in range(oracle.N_FRAMES)]

    def _made(self, layers: list[Layer], number: int) -> ClipFrame:
        image, objects = pixels(layers[0], number)
        for k, layer in enumerate(layers[1:], 2):
            if number < layer.enters:
                continue
            other, mask = pixels(layer, number)
            share = number / (oracle.N_FRAMES - 1)
            shift = round(layer.shift_x[0] + share * (layer.shift_x[1] - layer.shift_x[0]))
            move = np.array([[1, 0, shift], [0, 1, 0]], np.float32)
            size = (SIZE[1], SIZE[0])
            other = cv2.warpAffine(other, move, size)
            there = cv2.warpAffine(mask, move, size, flags=cv2.INTER_NEAREST) > 0
            image = np.where(there[..., None], other, image).astype(np.uint8)
            objects = np.where(there, k, objects).astype(np.uint8)
        return ClipFrame(number, image, objects)

    def frames(self, n_frames: int) -> Iterator[ClipFrame]:
        yield from self._frames[:n_frames]

    def frame(self, number: int) -> ClipFrame:
        return self._frames[number]


def pixels(layer: Layer, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame and where its object is; a sequence is played forth and back."""
    files = sorted((DAVIS / "JPEGImages" / layer.name).iterdir())
    around = 2 * (len(files) - 1)
    at = (layer.start + number) % around
    path = files[min(at, around - at)]
    truth = DAVIS / "SegmentationObject" / layer.name / f"{path.stem}.png"
    size = (SIZE[1], SIZE[0])
    image = cv2.resize(read_image(path), size, interpolation=cv2.INTER_AREA)
    mask = (read_label_map(truth) == 1).astype(np.uint8)
    return image, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)


COMPOSITES = {
    "two cross": [Layer("blackswan", 0), Layer("libby", 5, (-220, 220))],
    "one comes late": [Layer("car-shadow", 0), Layer("horsejump-high", 0, (60, 60), enters=20)],
    "three": [
        Layer("horsejump-high", 3),
        Layer("blackswan", 9, (150, -150)),
        Layer("libby", 0, (-260, 120)),
    ],
    "one leaves": [Layer("libby", 4), Layer("car-shadow", 0, (0, 420))],
    "two of one kind": [Layer("blackswan", 0), Layer("blackswan", 25, (-200, 210))],
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_no_object_changes_its_number(name: str) -> None:
    clip = Composite(COMPOSITES[name])
    found = oracle.follow(clip, oracle.noisy(clip, 7)).as_video("found", 25.0, "")
    tracks = []
    for k, class_id in enumerate(clip.class_ids, 1):
        seen = PackedInstances(CLASS_NAMES[class_id], class_id)
        for frame in clip.frames(oracle.N_FRAMES):
            mask = oracle._masks(frame.objects).get(k)
            if mask is not None:
                seen.add(frame.number, mask, 1.0)
        tracks.append(Track(id=k, label=CLASS_NAMES[class_id], seen=seen))
    truth = type(found)(
        name="truth",
        size_hw=found.size_hw,
        n_frames=found.n_frames,
        rate=25.0,
        tracks=tuple(tracks),
    )
    figures = count_identities(overlaps_of(truth, found)).figures
    assert figures.switches == 0
    assert figures.hota >= 0.95
    assert len(found.tracks) <= len(tracks) + 1  # what the last look invents has no second one
