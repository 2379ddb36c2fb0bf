"""Checks of a project in Label Studio: its label config, and what would hide predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backend.doctor.checks import FAULT, NOTE, OK, Check
from backend.errors import InputError
from backend.formats.label_studio.binding import Binding, bind, listed, names_for
from backend.formats.label_studio.label_config import LabelConfig, ModelChoice, parse_label_config
from backend.label_studio.api.fetch import Fetcher


def _bound(
    config: LabelConfig, names: Mapping[str | None, Mapping[int, str]], threshold: float
) -> Binding:
    def of(choice: ModelChoice) -> Mapping[int, str]:
        return names_for(choice, names.get(choice.path, names[None]))

    return bind(config, of, threshold)


def check_project(
    fetcher: Fetcher, project: int, names: Mapping[str | None, Mapping[int, str]], threshold: float
) -> Iterator[Check]:
    """The label config against the model's classes, the tools for clicks, and what hides
    predictions.
    """
    try:
        content = fetcher.http.get_json(f"/api/projects/{project}/")
    except InputError:
        yield Check(
            FAULT,
            "project",
            f"there is no project {project} that the token's user may see",
            "the number is in the project's address, after /projects/",
        )
        return
    try:
        config = parse_label_config(str(content.get("label_config") or ""))
        if None not in names:
            yield Check(
                NOTE,
                "labels",
                "not compared, as the detector is not loaded",
                "give the same --detector as `yolosam2 serve`",
            )
        else:
            binding = _bound(config, names, threshold)
            for group in binding.groups:
                for output in group.outputs:
                    yield Check(
                        OK,
                        "labels",
                        f'{output.kind} "{output.from_name}" shows'
                        f" {listed(output.labels.values())}",
                    )
            for video in binding.videos:
                yield Check(
                    OK,
                    "labels",
                    f'videorectangle "{video.from_name}" shows {listed(video.labels.values())}',
                )
            for note in binding.notes:
                yield Check(NOTE, "labels", note)
    except InputError as error:
        yield Check(
            FAULT,
            "labels",
            str(error),
            "`yolosam2 make-config` prints a config that fits; paste it under Settings, Labeling"
            " Interface, Code",
        )
        return
    if config.tags:
        yield from _check_smart(config)
    if not content.get("show_collab_predictions", True):
        yield Check(
            FAULT,
            "project",
            "predictions are hidden from annotators",
            "Settings, Annotation: switch on 'Use predictions to prelabel tasks'",
        )
    yield from _check_shown_version(fetcher, project, str(content.get("model_version") or ""))


def _check_shown_version(fetcher: Fetcher, project: int, shown: str) -> Iterator[Check]:
    """Whether the project sorts by predictions that are there."""
    try:
        there = fetcher.http.get_json(f"/api/projects/{project}/model-versions/")
    except InputError:  # an older Label Studio
        return
    if not isinstance(there, dict) or not there:
        return
    if shown in there and int(there[shown]) > 0:
        yield Check(OK, "score", f"Prediction score is that of {shown}, {there[shown]} predictions")
        return
    most = max(there, key=lambda version: int(there[version]))
    yield Check(
        NOTE,
        "score",
        f"the column Prediction score stays blank: the project shows {shown or 'no version'!r},"
        f" and its predictions are of {listed(there, 3)}",
        f"choose {most} under Settings, Annotation, Prelabeling, or run `yolosam2 prelabel"
        f" --project {project}`, which sets it",
    )


def _check_smart(config: LabelConfig) -> Iterator[Check]:
    smart = [tag.name for tag in config.tags if tag.smart]
    if smart:
        yield Check(
            OK,
            "clicks",
            f"smart tags: {', '.join(smart)}; switch on Auto-Annotation below the picture to use"
            " them",
        )
    else:
        fix = (
            'add <KeyPointLabels name="point" toName="image" smart="true"> with the same labels;'
            " `yolosam2 make-config` shows how"
        )
        yield Check(
            NOTE,
            "clicks",
            "no smart KeyPointLabels or RectangleLabels, so clicks and boxes do not ask the"
            " backend",
            fix,
        )
