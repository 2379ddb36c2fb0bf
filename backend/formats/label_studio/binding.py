"""How a labeling config and the classes of a model meet: what goes into which tag, under which
label, above which score.

The rules of ``predicted_values`` and the ``model_*`` attributes are those of the YOLO example of
label-studio-ml-backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from backend.core.classes import class_names
from backend.core.naming import UNSURE
from backend.errors import InputError
from backend.formats.label_studio.label_config import (
    CASCADE,
    DEFAULT_MODELS,
    MASK_KINDS,
    OUTPUT_KINDS,
    ControlTag,
    LabelConfig,
    LabelTag,
    ModelChoice,
)
from backend.formats.label_studio.pages import Pages, Place, brought_labels, placed


@dataclass(frozen=True)
class Output:
    """What goes into one tag: class index to label and to threshold, and its limits."""

    kind: str
    from_name: str
    to_name: str
    labels: Mapping[int, str]
    thresholds: Mapping[int, float]
    max_regions: int | None = None
    min_area: float = 0.0
    # Only instances without a mask. Not in the repr, of which digests of bindings are made.
    boxes_only: bool = field(default=False, repr=False)
    # Name of the Labels tag; None where the tag has its own labels.
    labels_from: str | None = field(default=None, repr=False)
    # Field of a task that brings labels, and the labels that the tag has besides.
    labels_key: str | None = field(default=None, repr=False)
    fixed_labels: frozenset[str] = field(default=frozenset(), repr=False)
    # Number of the picture, where one tag shows several.
    item_index: int | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Outputs that share an image and models.

    ``thresholds`` is the lowest any of them asks for, per class.
    """

    to_name: str
    data_key: str
    model_path: str | None
    outputs: tuple[Output, ...]
    thresholds: Mapping[int, float]
    pages: Pages | None = field(default=None, repr=False)
    model: ModelChoice = field(default=DEFAULT_MODELS, repr=False)

    def places(self, data: Mapping[str, Any], n_pictures: int) -> list[Place]:
        """Where the results of each picture of a task go.

        Args:
            data: of the task.
            n_pictures: that its image tag shows.
        """
        labels = brought_labels(data, self.outputs)
        if self.pages is None:
            return [Place(None, labels)]
        return [Place(page, labels) for page in range(n_pictures)]

    def outputs_at(self, place: Place) -> Sequence[Output]:
        """The tags as they are at one place of a task."""
        return placed(self.outputs, self.pages, place)


@dataclass(frozen=True, kw_only=True)
class VideoOutput:
    """What goes into a VideoRectangle tag: class index to label and to threshold.

    ``frame_rate`` is that of the Video tag, by which Label Studio counts frames.
    """

    from_name: str
    to_name: str
    data_key: str
    frame_rate: float
    labels: Mapping[int, str]
    thresholds: Mapping[int, float]


@dataclass(frozen=True)
class Binding:
    """A label config bound to the classes of the models.

    ``digest`` changes whenever results can.
    """

    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    digest: str
    videos: tuple[VideoOutput, ...] = ()
    is_unlearned: bool = False  # the models know none of the labels, and may learn them


def _index(names: Mapping[int, str], fold: bool) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for k, name in names.items():
        found.setdefault(name.casefold() if fold else name, []).append(k)
    return found


def map_labels(labels: Iterable[LabelTag], names: Mapping[int, str]) -> dict[int, LabelTag]:
    """Class index to the label it becomes.

    A label's ``predicted_values`` are tried first; only if none of them is a class, its own value
    is. The first label to claim a class keeps it.

    Args:
        labels: of one tag.
        names: class index to name.
    """
    exact = _index(names, False)
    folded = _index(names, True)

    def wanted(label: LabelTag) -> list[str]:
        known = [name for name in label.predicted if name in exact or name.casefold() in folded]
        return known or [label.value]

    pairs = [(name, label) for label in labels for name in wanted(label)]
    found: dict[int, LabelTag] = {}
    for name, label in pairs:  # all exact matches come before any that differ in case
        for k in exact.get(name, []):
            found.setdefault(k, label)
    for name, label in pairs:
        if name not in exact:
            for k in folded.get(name.casefold(), []):
                found.setdefault(k, label)
    return found


def _by_name(labels: Sequence[LabelTag], names: Mapping[int, str]) -> dict[int, LabelTag]:
    """The classes of a namer, which are called as the labels are."""
    of_label = {label.value.casefold(): label for label in reversed(labels)}
    return {
        k: of_label[name.casefold()] for k, name in names.items() if name.casefold() in of_label
    }


def names_for(choice: ModelChoice, detected: Mapping[int, str]) -> dict[int, str]:
    """What the models that a tag asks for call things, without loading a namer.

    Args:
        choice: of the tag.
        detected: class index to name of its detector.
    """
    if choice.mode == CASCADE:
        return dict(detected)
    named = [*(one.name for one in choice.words), UNSURE]
    return class_names(detected if choice.mode == "both" else {}, named)


def is_filled(tag: ControlTag, config: LabelConfig) -> bool:
    """Whether a tag gets predictions.

    A smart rectangle is a tool to prompt with. It is filled only where it says so, or where nothing
    else would be.
    """
    if tag.kind not in OUTPUT_KINDS or tag.skip:
        return False
    if not tag.smart or tag.skip is False or tag.kind in MASK_KINDS:
        return True
    return not any(
        other.kind in OUTPUT_KINDS
        and not other.smart
        and not other.skip
        and other.to_name == tag.to_name
        for other in config.tags
    )


def _thresholds(
    mapped: Mapping[int, LabelTag], own: float | None, default: float
) -> dict[int, float]:
    return {
        k: next(t for t in (label.threshold, own, default) if t is not None)
        for k, label in mapped.items()
    }


def _mismatches(
    where: str, labels: Sequence[LabelTag], mapped: Mapping[int, LabelTag], names: Mapping[int, str]
) -> list[str]:
    """Labels that no class becomes, and classes that become no label."""
    idle = [label.value for label in labels if label not in mapped.values()]
    dropped = [name for k, name in names.items() if k not in mapped]
    notes = []
    if mapped and idle:
        notes.append(f"{where}: no class of the model is named {listed(idle)}")
    if mapped and dropped:
        notes.append(f"{where}: classes without a label are dropped: {listed(dropped)}")
    return notes


def _output(tag: ControlTag, names: Mapping[int, str], default: float) -> tuple[Output, list[str]]:
    labels = tag.labels
    if (
        tag.labels_key is not None
    ):  # each task brings its own; what they are called is what classes are called
        labels = (*labels, *(LabelTag(name, None, (), None) for name in names.values()))
    mapped = map_labels(labels, names)
    if tag.model.mode != CASCADE:
        mapped |= _by_name(labels, names)
    if tag.model.mode == "automatic":
        default = 0.0  # how sure a name must be is --name-min; this one is a detector's
    notes = _mismatches(f'{tag.kind} "{tag.name}"', tag.labels, mapped, names)
    written = {k: label.written for k, label in mapped.items()}
    output = Output(
        kind=tag.kind,
        from_name=tag.name,
        to_name=tag.to_name,
        labels=written,
        thresholds=_thresholds(mapped, tag.threshold, default),
        max_regions=tag.max_regions,
        min_area=tag.min_area,
        labels_from=tag.labels_from,
        labels_key=tag.labels_key,
        fixed_labels=frozenset(label.written for label in tag.labels),
    )
    return output, notes


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names with commas, cut after ``most``."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def bind(
    config: LabelConfig,
    names_of: Callable[[ModelChoice], Mapping[int, str]],
    threshold: float,
    *,
    learns: bool = False,
) -> Binding:
    """Bind the tags that are to be filled to the classes of their models.

    Args:
        config: the tags.
        names_of: class index to name of the models that a tag asks for.
        threshold: for labels and tags without ``model_score_threshold``, 0..1.
        learns: whether models can learn labels that they do not know, so that it is no fault when
            they know none of them.

    Returns:
        The outputs, grouped by image and models; none at all where every tag says
        ``model_skip="true"``.

    Raises:
        InputError: no tag that could show a mask or a box, or none of the labels is a class of its
            detector; both sides are listed.
    """
    outputs = [tag for tag in config.tags if tag.kind in OUTPUT_KINDS]
    if not outputs and not config.videos:
        raise InputError(
            "The labeling config has no BrushLabels, BitmaskLabels, PolygonLabels or"
            " RectangleLabels on an Image, and no VideoRectangle on a Video"
            + (f" ({listed(config.notes, 3)})" if config.notes else "")
            + "; `yolosam2 make-config` prints one"
        )
    filled = [tag for tag in outputs if is_filled(tag, config)]
    groups: dict[tuple[str, ModelChoice], Group] = {}
    notes = list(config.notes)
    for tag in filled:
        output, remarks = _output(tag, names_of(tag.model), threshold)
        notes += remarks
        if not output.labels:
            notes.append(
                f'{tag.kind} "{tag.name}": none of its labels is a class of the model; it stays'
                " empty"
            )
            continue
        group = groups.setdefault(
            (tag.to_name, tag.model),
            Group(
                to_name=tag.to_name,
                data_key=tag.data_key,
                model_path=tag.model.path,
                model=tag.model,
                outputs=(),
                thresholds={},
                pages=tag.pages,
            ),
        )
        lowest = {k: min(t, group.thresholds.get(k, 1.0)) for k, t in output.thresholds.items()}
        groups[tag.to_name, tag.model] = replace(
            group, outputs=(*group.outputs, output), thresholds={**group.thresholds, **lowest}
        )
    videos, remarks = _videos(config, names_of, threshold)
    notes += remarks
    if groups and videos:
        notes.append("it shows pictures and videos; only the pictures get predictions")
        videos = []
    open_videos = [tag for tag in config.videos if not tag.skip]
    is_unlearned = learns and bool(filled) and not groups and not videos
    if is_unlearned:
        notes.append("its labels are learned from what is accepted; until then clicks alone work")
    elif (filled or open_videos) and not groups and not videos:
        theirs = [tag.labels for tag in filled] + [tag.labels for tag in open_videos]
        choices = [tag.model for tag in filled] or [DEFAULT_MODELS]
        raise _nothing_fits(theirs, [names_of(choice) for choice in choices])
    digest = _digest(list(groups.values()), videos)
    return Binding(tuple(groups.values()), tuple(notes), digest, tuple(videos), is_unlearned)


def _digest(groups: Sequence[Group], videos: Sequence[VideoOutput]) -> str:
    """What results depend on."""
    bare = [o.labels_from for group in groups for o in group.outputs if o.labels_from]
    # In their order, by which results are kept.
    pages = [group.pages for group in groups if group.pages is not None]
    modes = [group.model for group in groups if group.model.mode != CASCADE]
    described = repr(list(groups)) + "".join(
        repr(one) for one in (bare, pages, videos, modes) if one
    )
    return sha256(described.encode("utf-8", "backslashreplace")).hexdigest()


def _nothing_fits(
    labels: Sequence[Sequence[LabelTag]], classes: Sequence[Mapping[int, str]]
) -> InputError:
    """No label is a class: both sides are listed."""
    values = dict.fromkeys(label.value for own in labels for label in own)
    names = dict.fromkeys(name for own in classes for name in own.values())
    return InputError(
        f"No label is a class of the model. Labels: {listed(values)}. Classes:"
        f" {listed(names)}. "
        f'Rename labels, or add predicted_values="{next(iter(names), "class")}" to a Label;'
        ' for clicks and boxes only set model_skip="true"'
    )


def _videos(
    config: LabelConfig, names_of: Callable[[ModelChoice], Mapping[int, str]], default: float
) -> tuple[list[VideoOutput], list[str]]:
    """The VideoRectangle tags that are filled, and remarks."""
    found = []
    notes = []
    for tag in config.videos:
        if tag.skip:
            continue
        names = names_of(DEFAULT_MODELS)
        mapped = map_labels(tag.labels, names)
        remarks = _mismatches(f'VideoRectangle "{tag.name}"', tag.labels, mapped, names)
        notes += remarks
        if not mapped:
            notes.append(
                f'VideoRectangle "{tag.name}": none of its labels is a class of the model; it stays'
                " empty"
            )
            continue
        found.append(
            VideoOutput(
                from_name=tag.name,
                to_name=tag.to_name,
                data_key=tag.data_key,
                frame_rate=tag.frame_rate,
                labels={k: label.written for k, label in mapped.items()},
                thresholds=_thresholds(mapped, tag.threshold, default),
            )
        )
    return found, notes


def project_version(versions: Iterable[str], binding: Binding) -> str:
    """The ``model_version`` of a project's predictions: the models' own, and a short digest of the
    bound label config.
    """
    return f"{'~'.join(versions)}.{binding.digest[:8]}"
