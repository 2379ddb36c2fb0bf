"""The highest score that a detector gives, whatever the threshold: what to say when nothing was
found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backend.config.models import Settings
from backend.errors import InputError, counted
from backend.files.images import ImageLimits, read_image
from backend.labeling.load import load_detector_of
from backend.models.registry import conf_of

_ALL = 0.001  # a threshold that leaves out nothing of interest
_MOST = 20  # images to look at


def highest_score(settings: Settings, paths: Sequence[Path], limits: ImageLimits) -> str:
    """A sentence on why nothing was found in images.

    Args:
        settings: that found nothing.
        paths: of the images; the first few are looked at again.
        limits: of what is read.

    Raises:
        ConfigError: the detector does not load.
    """
    detector = load_detector_of(replace(settings, conf=_ALL))
    best: tuple[float, str, Path] | None = None
    looked_at = 0
    for path in paths[:_MOST]:
        try:
            image = read_image(path, limits)
        except InputError:
            continue
        looked_at += 1
        (found,) = detector.detect([image])
        for score, class_id in zip(found.scores.tolist(), found.class_ids.tolist(), strict=True):
            if best is None or score > best[0]:
                best = (score, detector.names.get(class_id, str(class_id)), path)
    among = counted(looked_at, "image")
    if best is None:
        return f"nothing was found; in {among} the detector sees nothing at any score"
    score, name, path = best
    known = list(detector.names.values())
    more = ", ..." if len(known) > 12 else ""
    return (
        f"nothing was found; the highest score in {among} is {score:.2g} ({name}, in {path.name}),"
        f" and --conf is {conf_of(settings):g}. The detector knows {', '.join(known[:12])}{more}"
    )
