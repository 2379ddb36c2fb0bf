"""Where the pictures of a Label Studio task are, according to the task's data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backend.errors import InputError
from backend.files.addresses import looks_like_address

_NUMBER = re.compile(r"(\d+)$")  # of a page, at the end of a tag's name in a Repeater


def _pages(value: Any) -> list[str]:
    """The addresses in a list: of texts (``valueList``), or of objects with one each (Repeater).

    Empty for everything else.
    """
    if not isinstance(value, list) or not value:
        return []
    if all(isinstance(one, str) and looks_like_address(one) for one in value):
        return value
    if not all(isinstance(one, dict) for one in value):
        return []
    fields = [
        key
        for key in value[0]
        if all(isinstance(one.get(key), str) and looks_like_address(one[key]) for one in value)
    ]
    return [one[fields[0]] for one in value] if len(fields) == 1 else []


def page_tags(data: Mapping[str, Any], tag: str) -> list[str]:
    """The names of all pages of a task, as its regions call them; empty where it has one picture.

    Args:
        data: of the task.
        tag: what a region calls one of them; empty where there is no region.

    >>> page_tags({"pages": ["/a.jpg", "/b.jpg"]}, "image#1")
    ['image', 'image#1']
    >>> page_tags({"doc": [{"page": "/a.jpg"}, {"page": "/b.jpg"}]}, "page_0")
    ['page_0', 'page_1']
    """
    name, sign, _ = tag.rpartition("#")
    name = name if sign else tag
    lists = [pages for value in data.values() if (pages := _pages(value))]
    if len(lists) != 1:
        return []
    number = _NUMBER.search(name)
    repeated = number is not None and not sign and isinstance(_list_in(data)[0], dict)
    if repeated and number is not None:
        return [f"{name[: number.start()]}{k}" for k in range(len(lists[0]))]
    return [name if k == 0 else f"{name}#{k}" for k in range(len(lists[0]))]


def _list_in(data: Mapping[str, Any]) -> list[Any]:
    return next(value for value in data.values() if _pages(value))


def find_address(data: Mapping[str, Any], image: str, where: str) -> tuple[str, str]:
    """The key and the address of the picture that a tag shows: by the tag's name, as a page, or as
    the only one there is.

    Args:
        data: of the task.
        image: name of the Image tag; ``#k`` behind it for the k-th picture of a ``valueList``.
        where: for messages.

    Raises:
        InputError: there is none, or there are several and none goes by that name.

    >>> find_address({"photo": "/data/a.jpg", "title": "a cat"}, "image", "task 1")
    ('photo', '/data/a.jpg')
    >>> find_address({"doc": [{"page": "/a.jpg"}, {"page": "/b.jpg"}]}, "page_1", "task 1")
    ('doc', '/b.jpg')
    """
    tag, sign, place = image.rpartition("#")
    name = tag if sign else image
    found = data.get(name)
    singles = [
        key for key, text in data.items() if isinstance(text, str) and looks_like_address(text)
    ]
    lists = {key: pages for key, value in data.items() if (pages := _pages(value))}
    if isinstance(found, str) and found and (looks_like_address(found) or not (singles or lists)):
        return name, found  # a relative path will do, a caption by the tag's name not
    key = name if name in lists else next(iter(lists)) if len(lists) == 1 else None
    if key is not None and (name in lists or not singles or sign or _NUMBER.search(name)):
        number = _NUMBER.search(name)
        page = int(place) if sign and place.isdigit() else 0
        if not sign and number is not None and name not in lists:
            page = int(number.group())
        if page < len(lists[key]):
            return key, lists[key][page]
        raise InputError(
            f"{where}: data.{key}: has {len(lists[key])} pictures, and none for the tag {image!r}"
        )
    if len(singles) == 1:
        return singles[0], data[singles[0]]
    if not singles:
        texts = [key for key, text in data.items() if isinstance(text, str) and text]
        told = f"; it has {', '.join(map(str, data))[:80]}" if data else ""
        if len(texts) == 1 and len(data) == 1:
            return texts[0], data[texts[0]]
        raise InputError(f"{where}: data: no address of a picture in it{told}")
    if not name and "image" in singles:
        return "image", data["image"]
    raise InputError(
        f"{where}: data: has several pictures, {', '.join(singles)[:80]}, and none by the name of"
        f" the tag {image!r}; give the tag the name of its picture"
    )


def address_of(data: Any, image: str) -> str | None:
    """As ``find_address``, None where there is no telling.

    >>> address_of({"photo": "/data/a.jpg", "title": "a cat"}, "image")
    '/data/a.jpg'
    """
    if not isinstance(data, dict):
        return None
    try:
        return find_address(data, image, "")[1]
    except InputError:
        return None
