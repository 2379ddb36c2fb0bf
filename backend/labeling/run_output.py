"""What one kind of result of a run has to do."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from backend.core.types import Image, Prediction
from backend.labeling.sources import ImageItem

Files = list[tuple[Path, bytes]]


class RunOutput(Protocol):
    """One kind of result of a run."""

    def paths(self, item: ImageItem) -> list[Path]:
        """The files of one image."""

    def is_ours(self, path: Path) -> bool:
        """Whether nobody but this program made an existing file, or changed it since."""

    def version_of(self, path: Path) -> str | None:
        """The model version that made an existing file, where it tells it."""

    def picture_of(self, stem: str) -> str | None:
        """The name of the picture that the files of a stem are for, where they are there and tell
        it.
        """

    def encode(self, item: ImageItem, image: Image, prediction: Prediction) -> Files:
        """The content of ``paths``, in that order; runs on any thread."""

    def class_files(self) -> Files:
        """Small files that tell the classes of all images; a run with others is refused."""

    def close(self, overwrite: bool) -> tuple[list[Path], int]:
        """Write what needs all images.

        Returns:
            The files to point the user at, and how many a person made, which were kept.
        """
