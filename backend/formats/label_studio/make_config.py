"""The labeling config that fits a model: masks from the detector, and smart tools to correct them.

As Label Studio 1.23 lays it out and reads it: everything to choose stands in a column beside the
picture that keeps its place and scrolls by itself, so that no label is off the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from backend.core.colours import hex_colour
from backend.core.naming import UNSURE
from backend.formats.label_studio.label_config import CASCADE

_MANY = 12  # classes, from which on a field to filter them is worth its place
# Most used first: the digits are for clicks, letters that no tool of the editor has for boxes.
_POINT_KEYS = "1234567890"
_BOX_KEYS = "qwertyuiop"
_COLUMN = "flex: 0 0 230px; position: sticky; top: 0; max-height: 84vh; overflow-y: auto"
_PART = "max-height: 20vh; overflow-y: auto"  # of each tag, so that all three are in sight


def _labels(names: Sequence[str], keys: str = "") -> str:
    lines = []
    for k, name in enumerate(names):
        key = f' hotkey="{keys[k]}"' if k < len(keys) else ""
        lines.append(f'      <Label value={quoteattr(name)} background="{hex_colour(name)}"{key}/>')
    return "\n".join(lines)


def _tools(kind: str, attributes: str, about: str, labels: str, many: bool) -> str:
    """A heading, perhaps a field to find a label, and a control tag."""
    name = attributes.partition('"')[2].partition('"')[0]
    find = f'<Filter name="find_{name}" toName="{name}" minlength="0" placeholder="Find a label"/>'
    lines = [
        f'    <Header size="6" value="{about}"/>',
        *([f"    {find}", f'    <View style="{_PART}">'] if many else []),
        f'    <{kind} {attributes} toName="image">',
        labels,
        f"    </{kind}>",
        *(["    </View>"] if many else []),
    ]
    return "\n".join(lines)


def make_config(names: Sequence[str], mode: str = CASCADE) -> str:
    """A labeling config for class names: masks from the models, and a smart point and a smart box
    for refining by hand.

    The first ten labels of the point have the keys 1 to 9 and 0, those of the box Q to P.

    Args:
        names: of the classes.
        mode: of ``label_config.MODES``, for the tag with masks. Where masks are named by their
            looks it gets the label ``unsure`` as well.

    >>> make_config(["cat"]).count('<Label value="cat"')  # for points, boxes and masks
    3
    """
    many = len(names) > _MANY
    asked = "" if mode == CASCADE else f' model_mode="{mode}"'
    shown = names if mode == CASCADE else [*names, UNSURE]
    smart = 'smart="true" smartOnly="true"'
    tools = [
        _tools(
            "KeyPointLabels",
            f'name="point" {smart}',
            "Smart point",
            _labels(names, _POINT_KEYS),
            many,
        ),
        _tools(
            "RectangleLabels",
            f'name="box" {smart} model_skip="true"',
            "Smart box",
            _labels(names, _BOX_KEYS),
            many,
        ),
        _tools(
            "BrushLabels",
            f'name="brush" smart="false"{asked}',
            "Masks",
            _labels(shown),
            many,
        ),
    ]
    lines = [
        '<View style="display: flex; align-items: flex-start; gap: 12px">',
        '  <View style="flex: 1 1 auto; min-width: 0">',
        '    <Image name="image" value="$image" zoom="true" zoomControl="true"/>',
        "  </View>",
        f'  <View style="{_COLUMN}">',
        *tools,
        "  </View>",
        "</View>",
    ]
    return "\n".join(lines) + "\n"


def make_video_config(names: Sequence[str], rate: float) -> str:
    """A labeling config for videos: boxes that follow objects, with the classes as labels.

    Args:
        names: of the classes.
        rate: frames a second of the videos; Label Studio does not ask the file.

    >>> 'frameRate="25"' in make_video_config(["cat"], 25.0)
    True
    """
    lines = [
        "<View>",
        '  <Labels name="label" toName="video" allowEmpty="false">',
        _labels(names, _POINT_KEYS).replace("      <Label", "    <Label"),
        "  </Labels>",
        f'  <Video name="video" value="$video" frameRate="{rate:g}" height="520"/>',
        '  <VideoRectangle name="box" toName="video" smart="true"/>',
        "</View>",
    ]
    return "\n".join(lines) + "\n"
