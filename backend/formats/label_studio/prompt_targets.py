"""Which tag and label a drawn click or box becomes, on a picture or on a video."""

from __future__ import annotations

from collections.abc import Callable

from backend.errors import InputError
from backend.formats.label_studio.binding import listed
from backend.formats.label_studio.label_config import (
    MASK_KINDS,
    ControlTag,
    LabelConfig,
    LabelTag,
    VideoTag,
)
from backend.formats.label_studio.pages import page_of


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


def video_target(config: LabelConfig, from_name: str, label: str | None) -> tuple[VideoTag, str]:
    """The tag and label of a box that was drawn on a video.

    Args:
        config: the tags.
        from_name: the tag it was drawn with.
        label: its own; None where it has none.

    Raises:
        InputError: no such tag, no such label, or it has none and the tag has several.
    """
    tag = next((one for one in config.videos if one.name == from_name), None)
    if tag is None:
        raise InputError(f'the labeling config has no tag "{from_name[:80]}" on a Video')
    if label is None and len(tag.labels) != 1:
        raise InputError(f'the box of "{from_name[:80]}" has no label; choose one, then draw')
    if label is None:
        return tag, tag.labels[0].written
    known = next((one for one in tag.labels if label in (one.value, one.alias)), None)
    if known is None:
        there = listed(one.value for one in tag.labels)
        raise InputError(f'label {label[:80]!r} is none of "{from_name[:80]}": {there}')
    return tag, known.written
