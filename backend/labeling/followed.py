"""What following the objects of a video comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backend.core.tracks import Track, TrackedVideo


@dataclass(frozen=True, eq=False, kw_only=True)
class Followed:
    """What was found in a video.

    Attributes:
        tracks: in order of their numbers, which count from 1 on without gaps.
        size_hw: of the frames, in pixels.
        n_frames: how many there were.
        n_looks: frames that the detector looked at.
        n_cuts: changes of scene.
        n_refused: detections that were one object too many.
        flips: track id to how often its detections changed their class.
        is_whole: whether it was followed to its end.
    """

    tracks: tuple[Track, ...]
    size_hw: tuple[int, int]
    n_frames: int
    n_looks: int
    n_cuts: int
    n_refused: int
    flips: Mapping[int, int]
    is_whole: bool = True

    def as_video(self, name: str, rate: float, model_version: str) -> TrackedVideo:
        """The tracks under the name of their video.

        Args:
            name: of the video.
            rate: frames a second.
            model_version: of what followed the objects.
        """
        return TrackedVideo(
            name=name,
            size_hw=self.size_hw,
            n_frames=self.n_frames,
            rate=rate,
            tracks=self.tracks,
            model_version=model_version,
        )
