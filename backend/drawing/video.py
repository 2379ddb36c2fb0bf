"""Drawn frames as an H.264 MP4 that browsers play."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from backend.core.types import Image

_QUALITY = "23"  # of x264: 0 is lossless, 51 the worst


class Mp4Writer:
    """Writes frames into a file, one after the other.

    Args:
        path: of the file.
        size_hw: of the frames, in pixels; odd sides lose their last row or column, as the format
            has colours for pairs of pixels.
        rate: frames a second.
    """

    def __init__(self, path: Path, size_hw: tuple[int, int], rate: float) -> None:
        import av

        self._path = path
        self._height = size_hw[0] - size_hw[0] % 2
        self._width = size_hw[1] - size_hw[1] % 2
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "faststart"}  # so that a browser begins before it has all
        self._container: Any = av.open(str(path), "w", format="mp4", options=options)
        exact = Fraction(rate).limit_denominator(1001)
        self._stream: Any = self._container.add_stream("libx264", rate=exact)
        self._stream.width = self._width
        self._stream.height = self._height
        self._stream.pix_fmt = "yuv420p"
        # So that the same frames give the same file: what x264 looks ahead differs between runs.
        self._stream.codec_context.thread_count = 1
        self._stream.options = {
            "crf": _QUALITY,
            "preset": "veryfast",
            "x264-params": "mbtree=0:rc-lookahead=0",
        }

    def add(self, frame: Image) -> None:
        """The next frame.

        Args:
            frame: (H, W, 3) RGB uint8, of the size that was told.
        """
        import av

        whole = np.ascontiguousarray(frame[: self._height, : self._width])
        picture = av.VideoFrame.from_ndarray(whole, format="rgb24")
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def close(self) -> None:
        """No more frames."""
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()

    def abort(self) -> None:
        """Leave no file."""
        self._container.close()
        self._path.unlink(missing_ok=True)
