"""How a project shows predictions: which version it sorts and fills its tasks by, a tab with the
hardest tasks first, and instructions for annotators.

Label Studio 1.23 has one ``model_version`` in each project. Its *Prediction score* column is the
mean over predictions of just that version, and the label stream shows just those. When a backend is
connected, Label Studio puts the connection's title there, which is the version of no prediction:
the column stays blank. A title that is the version itself serves both: the column is filled, and
the backend is still asked for what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from backend.errors import LabelingError
from backend.label_studio.api.filters import unlabelled

HARDEST = "Hardest first"
_SCORE = "tasks:predictions_score"
# What that tab leaves out; everything else is shown, the score among it.
_HIDDEN = [
    "tasks:inner_id",
    "tasks:annotations_results",
    "tasks:annotations_ids",
    "tasks:predictions_results",
    "tasks:file_upload",
    "tasks:storage_filename",
    "tasks:created_at",
    "tasks:updated_at",
    "tasks:updated_by",
    "tasks:avg_lead_time",
    "tasks:draft_exists",
    "tasks:cancelled_annotations",
    "tasks:completed_at",
    "tasks:reviewed",
    "tasks:reviews_accepted",
    "tasks:reviews_rejected",
    "tasks:ground_truth",
    "tasks:annotators",
    "tasks:comments",
    "tasks:comment_count",
    "tasks:unresolved_comment_count",
    "tasks:comment_authors",
]


class Api(Protocol):
    """Calls of Label Studio."""

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON of an answer; raises ``LabelingError`` where there is none."""


def show_version(api: Api, project: int, version: str) -> bool:
    """Make a version the one that a project shows and sorts by.

    A connected backend whose own version it is gets it as its title.

    Args:
        api: of Label Studio.
        project: its number.
        version: of predictions that are there, or of a connected backend.

    Returns:
        Whether anything had to be changed.

    Raises:
        InputError: nothing has this version.
    """
    changed = False
    for backend in api.call("GET", "/api/ml", params={"project": project}) or ():
        if backend.get("model_version") == version and backend.get("title") != version:
            # Without the address, Label Studio 1.23 fails on its own check of the connection.
            body = {"title": version, "project": project, "url": backend.get("url")}
            with suppress(LabelingError):  # then the column is filled, and new tasks are not
                api.call("PATCH", f"/api/ml/{backend['id']}", body=body)
                changed = True
    if shown_version(api, project) != version:
        api.call("PATCH", f"/api/projects/{project}/", body={"model_version": version})
        changed = True
    return changed


def shown_version(api: Api, project: int) -> str:
    """The version that a project shows and sorts by; empty for none."""
    found = api.call("GET", f"/api/projects/{project}/")
    return str(found.get("model_version") or "")


def make_hardest_first(api: Api, project: int) -> int:
    """A tab with the tasks that nobody annotated, the least sure predictions first.

    Returns:
        Its number; that of the one that is there, if there is one.
    """
    views = api.call("GET", "/api/dm/views/", params={"project": project}) or ()
    if not views:  # else Label Studio makes none with all tasks
        body = {"project": project, "data": {"title": "Default", "type": "list"}}
        api.call("POST", "/api/dm/views/", body=body)
    for view in views:
        if (view.get("data") or {}).get("title") == HARDEST:
            return int(view["id"])
    data = {
        "title": HARDEST,
        "type": "list",
        "target": "tasks",
        "ordering": [_SCORE],
        "filters": {"conjunction": "and", "items": [unlabelled()]},
        "hiddenColumns": {"explore": _HIDDEN, "labeling": _HIDDEN},
    }
    made = api.call("POST", "/api/dm/views/", body={"project": project, "data": data})
    return int(made["id"])


def data_manager(url: str, project: int, tab: int | None = None) -> str:
    """The address of a project's tasks, or of one tab.

    >>> data_manager("http://ls:8080/", 3, 7)
    'http://ls:8080/projects/3/data?tab=7'
    """
    return f"{url.rstrip('/')}/projects/{project}/data" + ("" if tab is None else f"?tab={tab}")
