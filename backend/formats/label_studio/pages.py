"""What of a labeling config depends on the task: how many pictures a tag shows, and which labels
the task brings.

As Label Studio 1.23 has it: ``valueList`` shows the pictures of a list under one tag, whose regions
carry an ``item_index``; a ``Repeater`` makes a set of tags for each element of a list, whose number
stands in their names; ``value="$labels"`` takes labels from the task.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backend.formats.label_studio.binding import Output

_REPEATED = re.compile(r"\$([^\[\]]+)\[(\{\{\w+\}\})\](?:\.(\w+))?")


@dataclass(frozen=True)
class Pages:
    """How an Image tag takes several pictures from one field of a task.

    Attributes:
        field: of each object in the list; empty where the list holds addresses.
        flag: what stands for a picture's number in the names of tags; empty for a ``valueList``.
    """

    field: str = ""
    flag: str = ""


@dataclass(frozen=True)
class Place:
    """Where in a task a result goes.

    Attributes:
        page: number of the picture, from 0; None where the tag shows one picture.
        labels: for each field that brings labels, those it brings.
    """

    page: int | None = None
    labels: tuple[tuple[str, frozenset[str]], ...] = ()


def source_of(value: str, value_list: str) -> tuple[str, Pages | None] | None:
    """The field of a task that an Image tag shows, and how it takes several pictures from it; None
    where it names no field.

    Args:
        value: of the tag.
        value_list: of the tag.

    >>> source_of("$image", ""), source_of("", "$pages")
    (('image', None), ('pages', Pages(field='', flag='')))
    >>> source_of("$doc[{{idx}}].page", "")
    ('doc', Pages(field='page', flag='{{idx}}'))
    """
    if value_list.startswith("$") and len(value_list) > 1:
        return value_list[1:], Pages()
    repeated = _REPEATED.fullmatch(value)
    if repeated is not None:
        return repeated[1], Pages(repeated[3] or "", repeated[2])
    return (value[1:], None) if value.startswith("$") and len(value) > 1 else None


def page_of(name: str, tag: str, pages: Pages | None) -> int | None:
    """The number in the name of a tag that a Repeater made; None if it is no such tag.

    Args:
        name: of the tag in the editor.
        tag: its name in the config.
        pages: of the tag.

    >>> page_of("tag_12", "tag_{{idx}}", Pages("page", "{{idx}}"))
    12
    """
    if pages is None or not pages.flag or pages.flag not in tag:
        return None
    before, _, after = tag.partition(pages.flag)
    found = re.fullmatch(f"{re.escape(before)}([0-9]{{1,6}}){re.escape(after)}", name)
    return None if found is None else int(found[1])


def labels_in(value: Any) -> frozenset[str]:
    """The labels that a field of a task brings: texts, or objects with ``value`` (or ``alias``).

    >>> sorted(labels_in(["cat", {"value": "dog", "alias": "d"}]))
    ['cat', 'd', 'dog']
    """
    found: set[str] = set()
    for one in value if isinstance(value, list) else [value]:
        texts = [one.get("value"), one.get("alias")] if isinstance(one, Mapping) else [one]
        found.update(text for text in texts if isinstance(text, str) and text)
    return frozenset(found)


def brought_labels(
    data: Mapping[str, Any], outputs: Iterable[Output]
) -> tuple[tuple[str, frozenset[str]], ...]:
    """What a task's fields bring for tags whose labels come with the task; nothing for a field that
    brings none, as any label may be meant.

    Args:
        data: of the task.
        outputs: the tags.
    """
    keys = dict.fromkeys(one.labels_key for one in outputs if one.labels_key is not None)
    return tuple((key, found) for key in keys if (found := labels_in(data.get(key))))


def placed(outputs: Sequence[Output], pages: Pages | None, place: Place) -> Sequence[Output]:
    """Tags as they are at one place of a task.

    Args:
        outputs: the tags as the config has them.
        pages: of their image.
        place: in the task.
    """
    if place == Place():
        return outputs
    brought = dict(place.labels)
    made = []
    for one in outputs:
        allowed = brought.get(one.labels_key or "")
        if allowed is not None:
            kept = {
                k: label
                for k, label in one.labels.items()
                if label in allowed or label in one.fixed_labels
            }
            one = replace(one, labels=kept)
        if pages is not None and place.page is not None:
            number = str(place.page)
            if pages.flag:
                labels_from = one.labels_from
                one = replace(
                    one,
                    from_name=one.from_name.replace(pages.flag, number),
                    to_name=one.to_name.replace(pages.flag, number),
                    labels_from=labels_from and labels_from.replace(pages.flag, number),
                )
            else:
                one = replace(one, item_index=place.page)
        made.append(one)
    return made
