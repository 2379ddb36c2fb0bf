"""Score thresholds put into a labeling config that is otherwise left as it is."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import TreeBuilder, tostring

from defusedxml.ElementTree import XMLParser

from backend.formats.label_studio.label_config import OUTPUT_KINDS, parse_label_config


def with_thresholds(config: str, thresholds: Mapping[str, float]) -> str:
    """A labeling config whose labels have these thresholds.

    Args:
        config: XML.
        thresholds: ``model_score_threshold``, 0..1, by the value or alias of a label. Labels of
            tags that only smart tools use get none.

    Returns:
        The config with its comments and everything else.

    Raises:
        InputError: not a labeling config.

    >>> config = '''<View><Image name="i" value="$image"/><!-- mine -->
    ... <BrushLabels name="b" toName="i"><Label value="cat"/></BrushLabels></View>'''
    >>> print(with_thresholds(config, {"cat": 0.4}).splitlines()[1])
    <BrushLabels name="b" toName="i"><Label value="cat" model_score_threshold="0.4" \
/></BrushLabels></View>
    """
    parse_label_config(config)
    parser = XMLParser(target=TreeBuilder(insert_comments=True), forbid_dtd=True)
    parser.feed(config)
    root = parser.close()
    for tag in root.iter():
        kind = str(tag.tag).lower() if isinstance(tag.tag, str) else ""
        if kind not in (*OUTPUT_KINDS, "labels") or str(tag.get("smartOnly")).lower() == "true":
            continue
        for label in tag.iter():
            found = [thresholds.get(label.get(key, "")) for key in ("value", "alias")]
            value = next((one for one in found if one is not None), None)
            if label.tag in ("Label", "label") and value is not None:
                label.set("model_score_threshold", f"{value:.10g}")
    return str(tostring(root, encoding="unicode"))
