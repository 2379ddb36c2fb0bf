"""The settings of names for masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.config.fields import listed, number, one_of, path, setting, share, text
from backend.core.classes import NOT_CLASSES
from backend.core.naming import BACKGROUND, UNSURE, Words, words_of

KEEP_UNSURE = ("keep", "drop")


def read_words(value: Any) -> tuple[Words, ...]:
    """Classes with their synonyms: ``car|automobile, red bus``, or a file with one class a line.

    Raises:
        ValueError: nothing in it, an empty name, or a word that stands for two classes.
    """
    classes = tuple(words_of(entry) for entry in listed(value))
    words = [word.casefold() for one in classes for word in one.all]
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    taken = sorted(set(words) & {UNSURE, *NOT_CLASSES})
    if taken:
        raise ValueError(f"{taken[0]} has a meaning of its own; choose another name")
    return classes


@dataclass(frozen=True)
class NamingOptions:
    """What automatic masks are called, and which of them are kept."""

    namer: str | None = setting(
        None,
        read=text,
        flags=("--namer",),
        environment=("NAMER",),
        metavar="MODEL",
        help="demo, a CLIP or SigLIP of the hub (owner/name), or a folder or file on disk",
        shown_default="demo beside --segmenter demo, else openai/clip-vit-base-patch32",
    )
    names: tuple[Words, ...] | None = setting(
        None,
        read=read_words,
        flags=("--names",),
        environment=("AUTOMATIC_NAMES",),
        metavar="A,B|B2,..",
        help="what automatic masks may show, with synonyms after |, or a file with one a line",
    )
    examples: Path | None = setting(
        None,
        read=path,
        flags=("--examples",),
        environment=("NAME_EXAMPLES",),
        metavar="DIR|EXPORT",
        help="masks that people named, in any format: names are learned from these as well",
    )
    examples_images: Path | None = setting(
        None,
        read=path,
        flags=("--examples-images",),
        environment=("NAME_EXAMPLES_IMAGES",),
        metavar="DIR",
        help="where the pictures of --examples are, if not beside it",
    )
    examples_split: str | None = setting(
        None,
        read=text,
        flags=("--examples-split",),
        environment=("NAME_EXAMPLES_SPLIT",),
        metavar="NAME",
        help="list of --examples, such as train, where that is a dataset with several",
    )
    background: tuple[str, ...] = setting(
        BACKGROUND,
        read=listed,
        flags=("--background",),
        environment=("AUTOMATIC_BACKGROUND",),
        metavar="A,B",
        help="phrases for masks that show none of them",
        shown_default=", ".join(BACKGROUND),
    )
    name_min: float = setting(
        0.5,
        read=number(0, 1, float),
        flags=("--name-min",),
        environment=("NAME_MIN",),
        metavar="0..1",
        help="a mask whose likeliest name is less likely is unsure",
    )
    name_margin: float = setting(
        0.1,
        read=number(0, 1, float),
        flags=("--name-margin",),
        environment=("NAME_MARGIN",),
        metavar="0..1",
        help="so is one whose likeliest name is not that much likelier than the next",
    )
    unsure: str = setting(
        "keep",
        read=one_of(*KEEP_UNSURE),
        flags=("--unsure",),
        environment=("AUTOMATIC_UNSURE",),
        metavar="keep|drop",
        help="whether masks without a sure name are kept under the label unsure",
    )
    least_area: float = setting(
        0.0,
        read=share,
        flags=("--least-area",),
        environment=("AUTOMATIC_LEAST_AREA",),
        metavar="SHARE",
        help="automatic masks that cover less of the picture are left out",
    )
    most_area: float = setting(
        1.0,
        read=share,
        flags=("--most-area",),
        environment=("AUTOMATIC_MOST_AREA",),
        metavar="SHARE",
        help="so are those that cover more",
    )
    max_regions: int = setting(
        100,
        read=number(1, 10_000, int),
        flags=("--max-regions",),
        environment=("MAX_REGIONS",),
        metavar="N",
        help="most automatic masks of a picture; the best stay, the others are counted",
    )
