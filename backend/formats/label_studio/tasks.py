"""Where the pictures of Label Studio tasks are, by what a task's data says."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote


def looks_like_address(text: str) -> bool:
    """True for a path or URL, or a picture as data URL."""
    return text.startswith(("/", "data:")) or "://" in text


def address_of(data: Any, image: str) -> str | None:
    """The address of a task's picture: what goes by the tag's name or by ``image``, or the only
    text that looks like one.

    Args:
        data: of the task.
        image: name of the Image tag.
    """
    if not isinstance(data, dict):
        return None
    addresses = {
        key: text
        for key, text in data.items()
        if isinstance(text, str) and looks_like_address(text)
    }
    only = next(iter(addresses.values())) if len(addresses) == 1 else None
    return addresses.get(image) or addresses.get("image") or only


def path_of(address: str) -> str:
    """The path in an address, unquoted: of local files (``/data/local-files/?d=a/b.jpg``) the one
    below their root.
    """
    return unquote(address.partition("?d=")[2] or address.partition("?")[0])
