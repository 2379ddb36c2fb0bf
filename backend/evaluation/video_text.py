"""Figures of videos for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.errors import counted


def video_texts(document: Mapping[str, Any]) -> list[str]:
    """A document of ``score_video_tasks`` for people."""
    texts = []
    for name, one in document["video"].items():
        lines = [
            f"{name or 'no model version'}: {counted(one['annotations'], 'annotation')} of"
            f" {counted(one['frames'], 'frame')}",
            "",
            f"{'':20}{'HOTA':>8}{'DetA':>8}{'AssA':>8}{'LocA':>8}{'IDF1':>8}{'switches':>10}",
        ]
        for label, row in [("all", one), *one["classes"].items()]:
            cells = "".join(
                f"{row[key]:8.3f}" for key in ("hota", "det_a", "ass_a", "loc_a", "idf1")
            )
            lines.append(f"{label[:20]:20}{cells}{row['switches']:10}")
        for what in ("tracks", "key_frames"):
            told = ", ".join(f"{n} {key}" for key, n in one[what].items())
            lines.append(f"{what.replace('_', ' ')}: {told}")
        if one["other_labels"]:
            lines.append(f"{counted(one['other_labels'], 'track')} got another label")
        texts.append("\n".join(lines))
    if document["annotated_without_prediction"]:
        n = document["annotated_without_prediction"]
        texts.append(f"{counted(n, 'annotated task')} without a prediction that counts")
    if document["failed"]:
        texts.append("\n".join([f"failed {len(document['failed'])}:", *document["failed"][:20]]))
    return texts
