"""How many objects of each class a prediction shows, from its JSON text."""

from __future__ import annotations

from collections import Counter

import msgspec


class _Value(msgspec.Struct):
    """The labels of a region; its pixels are passed over."""

    brushlabels: list[str] = []
    bitmasklabels: list[str] = []
    polygonlabels: list[str] = []
    rectanglelabels: list[str] = []
    labels: list[str] = []


class _Region(msgspec.Struct):
    from_name: str
    value: _Value


class _Prediction(msgspec.Struct):
    result: list[_Region]


_DECODER = msgspec.json.Decoder(_Prediction)


def labels_shown(text: str) -> Counter[str]:
    """Labels of a prediction, and how many regions each has.

    Where several tags show the same objects, the tag with the most regions counts.

    Args:
        text: a prediction as it is uploaded.

    >>> region = '{"from_name": "%s", "value": {"brushlabels": ["cat"], "rle": [1, 2]}}'
    >>> labels_shown('{"result": [%s, %s]}' % (region % "a", region % "b"))
    Counter({'cat': 1})
    """
    by_tag: dict[str, Counter[str]] = {}
    for one in _DECODER.decode(text).result:
        value = one.value
        for labels in (
            value.brushlabels,
            value.bitmasklabels,
            value.polygonlabels,
            value.rectanglelabels,
            value.labels,
        ):
            by_tag.setdefault(one.from_name, Counter()).update(labels)
    most: Counter[str] = Counter()
    for counts in by_tag.values():
        most |= counts
    return most
