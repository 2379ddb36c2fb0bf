"""What is to be read of a source, and how a target is to be written."""

from __future__ import annotations

from dataclasses import dataclass

from backend.errors import ConfigError

ANNOTATIONS = "annotations"
PREDICTIONS = "predictions"
BEST = "best"


@dataclass(frozen=True)
class What:
    """What of a Label Studio task is wanted.

    Attributes:
        kind: ``annotations``, ``predictions``, or ``best``: annotations, else predictions.
        model_version: of the predictions; None for any.
        annotators: whose annotations count, by e-mail address or user's number; none for all.
    """

    kind: str
    model_version: str | None = None
    annotators: frozenset[str] = frozenset()


def parse_what(text: str) -> What:
    """``annotations``, ``predictions``, ``best`` or ``model_version=V``.

    Raises:
        ConfigError: anything else.

    >>> parse_what("model_version=v2").model_version
    'v2'
    """
    key, sign, version = text.partition("=")
    if key == "model_version" and version:
        return What(PREDICTIONS, version)
    if text not in (ANNOTATIONS, PREDICTIONS, BEST) or sign:
        raise ConfigError(
            "--what: expected annotations, predictions, best or model_version=..., "
            f"got {text[:60]!r}"
        )
    return What(text)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What to read."""

    split: str | None = None  # only this one
    what: What | None = None  # None is annotations
    # Whether only masks and labels matter: lines are left out, and pictures are not looked at.
    for_scoring: bool = False
    url_prefix: str = ""  # what addresses begin with that is no part of a picture's name
    encoding: str | None = None  # of text files without a mark; None is UTF-8


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How to write. None takes the format's own default."""

    shape: str = "mask"  # of labelme: mask or polygon
    tolerance: float | None = None  # pixels by which outlines may leave the edge of a mask
    split: str = "train"  # of images that bring none
    copy: str | None = None  # copy, link or none: what becomes of pictures
    url_prefix: str = "/data/local-files/?d="  # put before a picture's path to make its address
    what: What | None = None  # what Label Studio's tasks get
    # Whether every image has files of its own, and what images share is made of those that are
    # there at the end: so a run that was interrupted can be gone on with.
    resumable: bool = False
