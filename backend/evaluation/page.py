"""The report page: one HTML file with everything in it, and nothing from the network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from backend.core.stacking import OVERLAPS
from backend.evaluation.comparison_text import fairness
from backend.evaluation.gallery import Shown
from backend.evaluation.tables import HEADLINE
from backend.evaluation.verdict import verdict
from backend.files.atomic import write_atomic

_MOST_FAULTS = 200


def _page(name: str) -> str:
    return files("backend.evaluation").joinpath("page", name).read_text(encoding="utf-8")


def _image(one: Shown, project_url: str | None) -> dict[str, Any]:
    source = "data:image/jpeg;base64," + base64.b64encode(one.jpeg).decode("ascii")
    return {
        "name": one.name,
        "annotator": one.annotator,
        "model_version": one.model_version,
        "worth": one.worth,
        "iou": one.iou,
        "note": one.note,
        "src": source,
        "task": f"{project_url}/data?task={one.task_id}"
        if project_url and one.task_id is not None
        else None,
    }


def render_report(
    document: Mapping[str, Any],
    shown: Sequence[Shown],
    title: str,
    facts: Sequence[tuple[str, str]],
    captions: tuple[str, str],
    project_url: str | None = None,
) -> str:
    """The page.

    Args:
        document: from ``Scoring.document``.
        shown: images to look at.
        title: of the page.
        facts: what was compared, as name and value.
        captions: what the two sides are called, prediction first.
        project_url: of the project in Label Studio, which pictures link to.

    Returns:
        HTML. Names from the input are escaped.
    """
    from jinja2 import Environment
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    template = Environment(autoescape=True).from_string(_page("report.html"))
    return template.render(
        title=title,
        facts=facts,
        captions=captions,
        rows=captions[1],
        level=round(100 * document["settings"]["interval_level"]),
        overlap=OVERLAPS[document["settings"]["overlap"]],
        stopped=document["settings"].get("stopped"),
        remarks=document["settings"]["remarks"],
        verdict=[f"{one[0].upper()}{one[1:]}." for one in verdict(document)],
        fairness=fairness(document["comparison"]) if document.get("comparison") else "",
        titles=HEADLINE,
        document={key: value for key, value in document.items() if key != "failed"},
        images=[_image(one, project_url) for one in shown],
        failed=document["failed"][:_MOST_FAULTS],
        n_failed=len(document["failed"]),
        css=Markup(_page("report.css")),  # noqa: S704 - not input
        script=Markup(_page("report.js")),  # noqa: S704 - not input
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - not input
    )


def write_report(path: Path, page: str) -> None:
    """Write the page.

    Raises:
        Unavailable: the disk refuses.
    """
    write_atomic(path, page.encode("utf-8", "backslashreplace"))
