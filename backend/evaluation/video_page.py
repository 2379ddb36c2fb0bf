"""The page about accepted against predicted videos: figures, and a timeline of each object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from backend.core.colours import hex_colour
from backend.evaluation.video_timeline import Timeline

_TICKS = 10
_KEYS = (
    ("hota", "HOTA"),
    ("det_a", "DetA"),
    ("ass_a", "AssA"),
    ("loc_a", "LocA"),
    ("idf1", "IDF1"),
)


def render_videos(
    document: Mapping[str, Any],
    timelines: Mapping[str, Sequence[Timeline]],
    source: str,
    project_url: str | None = None,
) -> str:
    """The page as HTML, with everything in it and nothing from the network.

    Args:
        document: of ``score_video_tasks``.
        timelines: by model version, the worst video first.
        source: what was scored.
        project_url: of the project in Label Studio, which videos link to.

    Returns:
        HTML. Names from the input are escaped.
    """
    from jinja2 import Environment

    page = files("backend.evaluation").joinpath("page")
    template = Environment(autoescape=True).from_string(
        page.joinpath("videos.html").read_text(encoding="utf-8")
    )
    return template.render(
        document=document,
        keys=_KEYS,
        versions=[
            {
                "name": name or "no model version",
                "figures": figures,
                "videos": [_video(one, project_url) for one in timelines.get(name, ())],
            }
            for name, figures in document["video"].items()
        ],
        source=source,
        css=page.joinpath("report.css").read_text(encoding="utf-8"),
    )


def _video(one: Timeline, project_url: str | None) -> dict[str, Any]:
    step = max(1, one.n_frames // _TICKS)
    return {
        "told": one,
        "link": f"{project_url}/data?task={one.task_id}"
        if project_url and one.task_id is not None
        else None,
        "rows": [{"told": row, "colour": hex_colour(row.label)} for row in one.rows],
        # Label Studio counts frames from 1.
        "ticks": [
            (round(100 * at / max(1, one.n_frames), 2), at + 1)
            for at in range(0, one.n_frames, step)
        ],
        "mark": max(0.6, one.n_frames / 300),
    }
