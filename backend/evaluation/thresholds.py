"""The suggested thresholds in the labeling config of a project: as text, or put there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from backend.config.service import ServiceSettings
from backend.errors import ConfigError, counted
from backend.formats.label_studio.thresholds import with_thresholds
from backend.label_studio.api.client import Client


def chosen_thresholds(document: Mapping[str, Any]) -> dict[str, float]:
    """The threshold of each class where another one than now is better.

    >>> one = {"label": "cat", "threshold": 0.4, "n_kept": 3, "n_predicted": 5}
    >>> chosen_thresholds({"views": [{"scores": {"suggested": [one]}}]})
    {'cat': 0.4}
    """
    suggested = (document["views"][0]["scores"] or {}).get("suggested", ())
    return {
        one["label"]: one["threshold"] for one in suggested if one["n_kept"] < one["n_predicted"]
    }


def project_config(
    document: Mapping[str, Any], service: ServiceSettings, project: int, apply: bool
) -> str:
    """What to print: the project's labeling config with the thresholds, or that it has them now.

    Args:
        document: of a scoring.
        service: address and token.
        project: its number.
        apply: whether to change the project.

    Raises:
        ConfigError: no address or token.
        LabelingError: Label Studio refused, or did not answer.
    """
    if service.label_studio_url is None or not service.label_studio_api_key:
        raise ConfigError("--project: also give --url and --api-key")
    thresholds = chosen_thresholds(document)
    if not thresholds:
        return "" if not apply else "the labeling config was left as it is"
    with closing(Client(service.label_studio_url, service.label_studio_api_key)) as client:
        config = with_thresholds(client.project(project).label_config, thresholds)
        if not apply:
            return config
        client.call("PATCH", f"/api/projects/{project}/", body={"label_config": config})
    told = ", ".join(f"{label} {value:.10g}" for label, value in thresholds.items())
    return (
        f"set the thresholds of {counted(len(thresholds), 'class')} in the labeling config of"
        f" project {project}: {told}"
    )
