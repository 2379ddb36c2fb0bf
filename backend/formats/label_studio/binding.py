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

from backend.errors import InputError
from backend.formats.label_studio.label_config import (
    MASK_KINDS,
    OUTPUT_KINDS,
    ControlTag,
    LabelConfig,
    LabelTag,
)
from backend.formats.label_studio.pages import Pages, Place, brought_labels, page_of, placed


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
    """Outputs that share an image and a detector.

    ``thresholds`` is the lowest any of them asks for, per class.
    """

    to_name: str
    data_key: str
    model_path: str | None
    outputs: tuple[Output, ...]
    thresholds: Mapping[int, float]
    pages: Pages | None = field(default=None, repr=False)

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


@dataclass(frozen=True)
class Binding:
    """A label config bound to the classes of the models.

    ``digest`` changes whenever results can.
    """

    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    digest: str


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


def _is_filled(tag: ControlTag, config: LabelConfig) -> bool:
    """A smart rectangle is a tool to prompt with.

    It is filled only where it says so, or where nothing else would be.
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


def _output(tag: ControlTag, names: Mapping[int, str], default: float) -> tuple[Output, list[str]]:
    labels = tag.labels
    if (
        tag.labels_key is not None
    ):  # each task brings its own; what they are called is what classes are called
        labels = (*labels, *(LabelTag(name, None, (), None) for name in names.values()))
    mapped = map_labels(labels, names)
    thresholds = {
        k: next(t for t in (label.threshold, tag.threshold, default) if t is not None)
        for k, label in mapped.items()
    }
    idle = [label.value for label in tag.labels if label not in mapped.values()]
    dropped = [name for k, name in names.items() if k not in mapped]
    notes = []
    if mapped and idle:
        notes.append(f'{tag.kind} "{tag.name}": no class of the model is named {listed(idle)}')
    if mapped and dropped:
        notes.append(
            f'{tag.kind} "{tag.name}": classes without a label are dropped: {listed(dropped)}'
        )
    written = {k: label.written for k, label in mapped.items()}
    output = Output(
        kind=tag.kind,
        from_name=tag.name,
        to_name=tag.to_name,
        labels=written,
        thresholds=thresholds,
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
    config: LabelConfig, names_of: Callable[[str | None], Mapping[int, str]], threshold: float
) -> Binding:
    """Bind the tags that are to be filled to the classes of their detectors.

    Args:
        config: the tags.
        names_of: class index to name of the detector that a ``model_path`` names; None is the
            default one.
        threshold: for labels and tags without ``model_score_threshold``, 0..1.

    Returns:
        The outputs, grouped by image and detector; none at all where every tag says
        ``model_skip="true"``.

    Raises:
        InputError: no tag that could show a mask or a box, or none of the labels is a class of its
            detector; both sides are listed.
    """
    outputs = [tag for tag in config.tags if tag.kind in OUTPUT_KINDS]
    if not outputs:
        raise InputError(
            "The labeling config has no BrushLabels, BitmaskLabels, PolygonLabels or"
            " RectangleLabels on an Image"
            + (f" ({listed(config.notes, 3)})" if config.notes else "")
            + "; `yolosam2 make-config` prints one"
        )
    filled = [tag for tag in outputs if _is_filled(tag, config)]
    groups: dict[tuple[str, str | None], Group] = {}
    notes = list(config.notes)
    for tag in filled:
        output, remarks = _output(tag, names_of(tag.model_path), threshold)
        notes += remarks
        if not output.labels:
            notes.append(
                f'{tag.kind} "{tag.name}": none of its labels is a class of the model; it stays'
                " empty"
            )
            continue
        group = groups.setdefault(
            (tag.to_name, tag.model_path),
            Group(
                to_name=tag.to_name,
                data_key=tag.data_key,
                model_path=tag.model_path,
                outputs=(),
                thresholds={},
                pages=tag.pages,
            ),
        )
        lowest = {k: min(t, group.thresholds.get(k, 1.0)) for k, t in output.thresholds.items()}
        groups[tag.to_name, tag.model_path] = replace(
            group, outputs=(*group.outputs, output), thresholds={**group.thresholds, **lowest}
        )
    if filled and not groups:
        labels = dict.fromkeys(label.value for tag in filled for label in tag.labels)
        classes = dict.fromkeys(
            name for tag in filled for name in names_of(tag.model_path).values()
        )
        raise InputError(
            f"No label is a class of the model. Labels: {listed(labels)}. Classes:"
            f" {listed(classes)}. "
            f'Rename labels, or add predicted_values="{next(iter(classes), "class")}" to a Label;'
            ' for clicks and boxes only set model_skip="true"'
        )
    bare = [o.labels_from for group in groups.values() for o in group.outputs if o.labels_from]
    # In their order, by which results are kept.
    pages = [group.pages for group in groups.values() if group.pages is not None]
    described = repr(list(groups.values())) + "".join(repr(one) for one in (bare, pages) if one)
    digest = sha256(described.encode("utf-8", "backslashreplace")).hexdigest()
    return Binding(tuple(groups.values()), tuple(notes), digest)


def project_version(versions: Iterable[str], binding: Binding) -> str:
    """The ``model_version`` of a project's predictions: the models' own, and a short digest of the
    bound label config.
    """
    return f"{'~'.join(versions)}.{binding.digest[:8]}"


def prompt_target(
    config: LabelConfig, from_name: str, label: str | None
) -> tuple[ControlTag, str, int | None]:
    """The tag and label that the mask of a click or box becomes.

    Args:
        config: the tags.
        from_name: the tag the prompt was made with.
        label: the prompt's own label, or None if it has none.

    Returns:
        The first tag for masks on the same image that has this label (exactly, else without case,
        else by ``predicted_values``, else because it has only one), the label as it is written
        there, and the number of the picture where a Repeater made the tag.

    Raises:
        InputError: unknown tag, no tag for masks on its image, or no such label, naming both sides.
    """
    numbers = {tag.name: page_of(from_name, tag.name, tag.pages) for tag in config.tags}
    prompt = next(
        (t for t in config.tags if t.name == from_name or numbers[t.name] is not None), None
    )
    if prompt is None:
        raise InputError(f'the labeling config has no tag "{from_name[:80]}" on an Image')
    targets = sorted(
        (tag for tag in config.tags if tag.kind in MASK_KINDS and tag.to_name == prompt.to_name),
        key=lambda tag: MASK_KINDS.index(tag.kind),
    )
    if not targets:
        raise InputError(
            f'add a BrushLabels tag for Image "{prompt.to_name}": the masks of "{from_name}"'
            " need one"
        )
    own = next((tag for tag in prompt.labels if label in (tag.value, tag.alias)), None)
    wanted = {label, *((own.value, *own.predicted) if own else ())} - {None}
    tests: list[Callable[[LabelTag], bool]] = [
        lambda tag: label in (tag.value, tag.alias),
        lambda tag: label is not None and tag.value.casefold() == label.casefold(),
        lambda tag: not wanted.isdisjoint((tag.value, *tag.predicted)),
    ]
    for test in tests:
        for target in targets:
            if (found := next((tag for tag in target.labels if test(tag)), None)) is not None:
                return target, found.written, numbers[prompt.name]
    if label is not None and (
        anything := next((t for t in targets if t.labels_key is not None), None)
    ):
        return anything, label, numbers[prompt.name]
    if len(targets[0].labels) == 1:
        return targets[0], targets[0].labels[0].written, numbers[prompt.name]
    there = listed(tag.value for target in targets for tag in target.labels)
    raise InputError(
        f'label {str(label)[:80]!r} of "{from_name}" is not a label of "{targets[0].name}"; use the'
        f" same names in both: {there}"
    )
