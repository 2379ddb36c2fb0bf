"""Label Studio's labeling config: which control tags there are on images, with their labels and our
attributes.

Tags and their attributes are those of Label Studio 1.23; ``predicted_values`` and the ``model_*``
attributes follow the YOLO example of label-studio-ml-backend, so that its configs work here
unchanged. A config is untrusted: a DTD, a megabyte or deep nesting is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import normpath
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from backend.core.naming import UNSURE, Words
from backend.errors import InputError
from backend.formats.label_studio.pages import Pages, source_of

# By preference where a click could go to several.
MASK_KINDS = ("brushlabels", "bitmasklabels", "polygonlabels")
OUTPUT_KINDS = (*MASK_KINDS, "rectanglelabels")
PROMPT_KINDS = ("keypointlabels", "rectanglelabels")
# Tags of geometry alone, whose labels come from a ``<Labels>`` tag on the same Image.
_BARE = {
    "brush": "brushlabels",
    "bitmask": "bitmasklabels",
    "polygon": "polygonlabels",
    "rectangle": "rectanglelabels",
    "keypoint": "keypointlabels",
}
CASCADE = "cascade"
MODES = (CASCADE, "automatic", "both")  # of a tag
VIDEO_RATE = 24.0  # frames a second where a Video tag says none
MAX_CHARS = 1 << 20
MAX_DEPTH = 64
MAX_LABELS = 10_000
MAX_TAGS = 100
MAX_IMAGES = 8
_TRUE = ("1", "true", "yes")
_FALSE = ("0", "false", "no")


@dataclass(frozen=True)
class LabelTag:
    """One ``<Label>``: what regions carry, the class names it stands for, and its own threshold."""

    value: str
    alias: str | None
    predicted: tuple[str, ...]
    threshold: float | None
    phrases: tuple[str, ...] = ()  # what a namer looks for instead of its name

    @property
    def written(self) -> str:
        """What Label Studio stores in a region: the alias where there is one."""
        return self.alias or self.value


@dataclass(frozen=True)
class ModelChoice:
    """Which models fill a tag.

    Attributes:
        path: of a detector below MODEL_ROOT; None for the default one.
        mode: of ``MODES``.
        words: what masks of everything may show; none for the mode ``cascade``.
    """

    path: str | None = None
    mode: str = CASCADE
    words: tuple[Words, ...] = ()


DEFAULT_MODELS = ModelChoice()


@dataclass(frozen=True)
class ControlTag:
    """One control tag on an Image, with the attributes that concern us."""

    kind: str  # the region type: brushlabels, keypointlabels ...
    name: str
    to_name: str
    data_key: str  # of the task's data, where the image's address is
    labels: tuple[LabelTag, ...]
    threshold: float | None = None  # 0..1
    skip: bool | None = None  # None: not said
    model: ModelChoice = DEFAULT_MODELS
    max_regions: int | None = None
    min_area: float = 0.0  # pixels
    smart: bool = False
    labels_from: str | None = None  # name of the Labels tag that names its regions; None: itself
    labels_key: str | None = None  # field of a task that brings labels (``value="$labels"``)
    pages: Pages | None = None  # how its image takes several pictures from the field


@dataclass(frozen=True)
class VideoTag:
    """One VideoRectangle tag on a Video."""

    name: str
    to_name: str
    data_key: str  # of the task's data, where the video's address is
    frame_rate: float  # by which Label Studio counts frames; it does not ask the file
    labels: tuple[LabelTag, ...]  # of the Labels tag on the same Video
    threshold: float | None = None  # 0..1
    skip: bool = False


@dataclass(frozen=True)
class LabelConfig:
    """All control tags on images and videos, in document order, and remarks on what was left
    out.
    """

    tags: tuple[ControlTag, ...]
    notes: tuple[str, ...]
    videos: tuple[VideoTag, ...] = ()


def _number(element: Element, attribute: str, low: float, high: float, where: str) -> float | None:
    text = element.get(attribute)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise InputError(
            f'{where}: {attribute}="{text[:40]}" is not a number from {low:g} to {high:g}'
        )
    return number


def _flag(element: Element, attribute: str, where: str) -> bool | None:
    text = element.get(attribute)
    if text is None:
        return None
    if text.strip().lower() not in _TRUE + _FALSE:
        raise InputError(f'{where}: {attribute}="{text[:40]}" is neither true nor false')
    return text.strip().lower() in _TRUE


def _threshold(element: Element, where: str) -> float | None:
    own = _number(element, "model_score_threshold", 0, 1, where)
    return own if own is not None else _number(element, "score_threshold", 0, 1, where)


def _parse(text: str) -> Element:
    if len(text) > MAX_CHARS:
        raise InputError(f"label config: {len(text)} characters, the limit is {MAX_CHARS}")
    try:
        root: Element = fromstring(text, forbid_dtd=True)
    except DefusedXmlException:
        raise InputError("label config: a DTD or entity declarations are not allowed") from None
    except (ParseError, ValueError) as error:
        raise InputError(f"label config: is not well-formed XML: {error}") from None
    level = [root]
    depth = 0
    labels = 0
    while level:
        depth += 1
        labels += sum(element.tag in ("Label", "label") for element in level)
        if depth > MAX_DEPTH or labels > MAX_LABELS:
            raise InputError(
                f"label config: deeper than {MAX_DEPTH} tags or more than {MAX_LABELS} labels"
            )
        level = [child for element in level for child in element]
    return root


def _label(element: Element, where: str) -> LabelTag | None:
    value = element.get("value")
    if not value:
        return None
    predicted = _parts(element, "predicted_values", ",")
    phrases = _parts(element, "clip_prompt", "|")
    return LabelTag(
        value,
        element.get("alias") or None,
        predicted,
        _threshold(element, f'{where}, Label "{value}"'),
        phrases,
    )


def _parts(element: Element, attribute: str, divider: str) -> tuple[str, ...]:
    parts = (element.get(attribute) or "").split(divider)
    return tuple(part.strip() for part in parts if part.strip())


def words_for(labels: Sequence[LabelTag]) -> tuple[Words, ...]:
    """What a namer looks for: a label's name with its ``predicted_values``, or else the phrases of
    its ``clip_prompt``.

    The name of a label is a synonym of no other one, and a synonym belongs to the first label that
    has it. The label ``unsure`` is not looked for.

    >>> bolt = LabelTag("A1", None, (), None, ("a bolt",))
    >>> [one.all for one in words_for([bolt, LabelTag("car", None, ("auto", "a1"), None)])]
    [('a bolt',), ('car', 'auto')]
    """
    names = {label.value.casefold() for label in labels} | {UNSURE}
    taken: set[str] = {UNSURE}
    found = []
    for label in labels:
        if label.value.casefold() in taken:
            continue
        taken.add(label.value.casefold())
        synonyms = [word for word in label.predicted if word.casefold() not in names | taken]
        taken |= {word.casefold() for word in synonyms}
        also = () if label.alias is None else (label.alias,)
        found.append(Words(label.value, tuple(synonyms), label.phrases, also))
    return tuple(found)


def _model(element: Element, labels: Sequence[LabelTag], where: str, skip: bool) -> ModelChoice:
    """Which models a tag asks for.

    Raises:
        InputError: a mode that there is not, or one that needs labels where there are none.
    """
    path = (element.get("model_path") or "").strip()
    mode = (element.get("model_mode") or CASCADE).strip().lower()
    if mode not in MODES:
        raise InputError(f'{where}: model_mode="{mode[:40]}" is none of {", ".join(MODES)}')
    words = () if mode == CASCADE else words_for(labels)
    if not (words or skip or mode == CASCADE):
        raise InputError(
            f'{where}: model_mode="{mode}" needs labels other than {UNSURE} to name masks'
        )
    return ModelChoice(normpath(path) if path else None, mode, words)


def _control(
    element: Element,
    kind: str,
    to_name: str,
    source: tuple[str, Pages | None],
    labels_tag: Element | None,
) -> ControlTag:
    name = element.get("name", "")
    where = f'{element.tag} "{name}"'
    holder = element if labels_tag is None else labels_tag
    labels = tuple(
        label
        for child in holder.iter()
        if child.tag in ("Label", "label") and (label := _label(child, where)) is not None
    )
    most = _number(element, "model_max_regions", 0, 1e9, where)
    skip = _flag(element, "model_skip", where)
    return ControlTag(
        kind,
        name,
        to_name,
        source[0],
        labels,
        threshold=_threshold(element, where),
        skip=skip,
        model=_model(element, labels, where, bool(skip)),
        max_regions=None if most is None else int(most),
        min_area=_number(element, "model_min_area", 0, 1e12, where) or 0.0,
        smart=_flag(element, "smart", where) or False,
        labels_from=None if labels_tag is None else labels_tag.get("name", ""),
        labels_key=value[1:] if (value := holder.get("value") or "").startswith("$") else None,
        pages=source[1],
    )


def _video_tags(root: Element, label_tags: dict[str, Element], notes: list[str]) -> list[VideoTag]:
    """The VideoRectangle tags; ``notes`` takes what was left out."""
    sources: dict[str, tuple[str, float]] = {}
    for element in root.iter():
        if str(element.tag).lower() != "video" or not (name := element.get("name")):
            continue
        source = source_of(element.get("value", ""), "")
        if source is None or source[1] is not None:
            notes.append(
                f'Video "{name}": its value is not a field of the task such as $video; it gets no'
                " predictions"
            )
            continue
        where = f'Video "{name}"'
        own = _number(element, "frameRate", 0.01, 1000, where)
        rate = own or _number(element, "framerate", 0.01, 1000, where) or VIDEO_RATE
        sources[name] = (source[0], rate)
    found: list[VideoTag] = []
    for element in root.iter():
        if str(element.tag).lower() != "videorectangle" or not (name := element.get("name")):
            continue
        to_name = element.get("toName", "")
        where = f'{element.tag} "{name}"'
        if to_name not in sources:
            notes.append(f'{where}: its toName "{to_name[:80]}" is no Video')
            continue
        holder = label_tags.get(to_name)
        if holder is None:
            notes.append(
                f'{where}: there is no Labels tag on Video "{to_name[:80]}" that would name its'
                " regions; it stays empty"
            )
            continue
        labels = [_label(one, where) for one in holder.iter() if one.tag in ("Label", "label")]
        found.append(
            VideoTag(
                name,
                to_name,
                *sources[to_name],
                tuple(label for label in labels if label is not None),
                threshold=_threshold(element, where),
                skip=_flag(element, "model_skip", where) or False,
            )
        )
    if len(found) > MAX_IMAGES:
        raise InputError(f"label config: more than {MAX_IMAGES} VideoRectangle tags")
    return found


def _check_counts(tags: list[ControlTag]) -> None:
    """Bound what one task can cost."""
    if len(tags) > MAX_TAGS or len({tag.to_name for tag in tags}) > MAX_IMAGES:
        raise InputError(
            f"label config: more than {MAX_TAGS} control tags, or tags on more than {MAX_IMAGES}"
            " images"
        )
    if sum(1 + len(label.predicted) for tag in tags for label in tag.labels) > MAX_LABELS:
        raise InputError(f"label config: more than {MAX_LABELS} labels and predicted values")


def parse_label_config(text: str) -> LabelConfig:
    """Read a labeling config.

    Args:
        text: XML, at most a mebichar, 64 levels and 10,000 labels.

    Returns:
        The control tags that point at an Image or a Video.

    Raises:
        InputError: not XML, too large or deep, with a DTD, or an attribute of ours that cannot be
            read, naming tag and attribute.

    >>> config = parse_label_config(
    ...     '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i"/></View>'
    ... )
    >>> [(tag.kind, tag.name, tag.data_key) for tag in config.tags]
    [('brushlabels', 'b', 'image')]
    """
    root = _parse(text)
    images: dict[str, tuple[str, Pages | None]] = {}
    notes: list[str] = []
    for element in root.iter():
        if str(element.tag).lower() == "image" and (name := element.get("name")):
            source = source_of(element.get("value", ""), element.get("valueList", ""))
            if source is not None:
                images[name] = source
            else:
                notes.append(
                    f'Image "{name}": its value is not a field of the task such as $image; it gets'
                    " no predictions"
                )
    label_tags = {
        element.get("toName", ""): element
        for element in reversed(list(root.iter()))
        if str(element.tag).lower() == "labels" and element.get("name")
    }
    videos = _video_tags(root, label_tags, notes)
    tags: list[ControlTag] = []
    n_labels = 0
    for element in root.iter():
        if n_labels > MAX_LABELS or len(tags) > MAX_TAGS:  # tags within tags count labels again
            break
        kind = str(element.tag).lower()
        to_name = element.get("toName", "")
        bare = kind in _BARE
        kind = _BARE.get(kind, kind)
        if kind not in OUTPUT_KINDS + PROMPT_KINDS or not element.get("name"):
            continue
        if bare and to_name in images and to_name not in label_tags:
            notes.append(
                f'{element.tag} "{element.get("name")}": there is no Labels tag on Image'
                f' "{to_name[:80]}" that would name its regions; it stays empty'
            )
            continue
        if to_name not in images:
            notes.append(
                f'{element.tag} "{element.get("name")}": its toName "{to_name[:80]}" is no Image'
            )
            continue
        labels_tag = label_tags[to_name] if bare else None
        tags.append(_control(element, kind, to_name, images[to_name], labels_tag))
        n_labels += len(tags[-1].labels)
    _check_counts(tags)
    return LabelConfig(tuple(tags), tuple(notes), tuple(videos))
