"""Labeling configs: what is read, what is refused (X01), and how labels and classes meet."""

from __future__ import annotations

import json
import re
import time
import tracemalloc

import numpy as np
import pytest

from backend.core.masks import mask_xyxy
from backend.core.types import Instance, Mask, Prediction
from backend.errors import InputError
from backend.formats.label_studio.binding import Binding, bind, names_for
from backend.formats.label_studio.label_config import parse_label_config
from backend.formats.label_studio.make_config import make_config
from backend.formats.label_studio.prompt_targets import prompt_target, video_target
from backend.formats.label_studio.regions import read_regions
from backend.formats.label_studio.results import result_of

NAMES = {0: "car", 1: "Person", 2: "truck", 3: "bus"}


def config(body: str, images: str = '<Image name="image" value="$image"/>') -> str:
    return f"<View>{images}{body}</View>"


def brush(labels: str, attributes: str = "", tag: str = "BrushLabels", name: str = "brush") -> str:
    return f'<{tag} name="{name}" toName="image" {attributes}>{labels}</{tag}>'


def bound(
    body: str, threshold: float = 0.25, images: str = '<Image name="image" value="$image"/>'
) -> Binding:
    return bind(parse_label_config(config(body, images)), lambda path: NAMES, threshold)


def labels(body: str) -> dict[int, str]:
    return dict(bound(body).groups[0].outputs[0].labels)


def test_names_match_exactly_then_without_case() -> None:
    assert labels(brush('<Label value="car"/><Label value="person"/>')) == {0: "car", 1: "person"}
    both = bind(
        parse_label_config(config(brush('<Label value="Car"/>'))),
        lambda path: {0: "car", 1: "Car"},
        0.25,
    )
    assert both.groups[0].outputs[0].labels == {1: "Car"}


def test_an_exact_match_of_a_later_label_comes_first() -> None:
    assert labels(brush('<Label value="Car"/><Label value="car"/>')) == {0: "car"}


def test_predicted_values_replace_the_value() -> None:
    assert labels(brush('<Label value="vehicle" predicted_values="car, TRUCK ,tram"/>')) == {
        0: "vehicle",
        2: "vehicle",
    }
    assert labels(brush('<Label value="car" predicted_values="bus"/>')) == {3: "car"}
    assert labels(brush('<Label value="car" predicted_values="tram"/>')) == {0: "car"}, (
        "the value is tried where no predicted value is a class"
    )


def test_the_alias_is_what_regions_carry() -> None:
    assert labels(brush('<Label value="car" alias="C"/>')) == {0: "C"}


def test_unmapped_classes_and_labels_are_named() -> None:
    notes = " ".join(bound(brush('<Label value="car"/><Label value="zebra"/>')).notes)
    assert "zebra" in notes
    assert "Person, truck, bus" in notes


def test_nothing_that_maps_lists_both_sides() -> None:
    with pytest.raises(
        InputError, match=r"Labels: zebra, yak\. Classes: car, Person, truck, bus\."
    ):
        bound(brush('<Label value="zebra"/><Label value="yak"/>'))


def test_thresholds_come_from_label_then_tag_then_settings() -> None:
    tag = brush(
        '<Label value="car" model_score_threshold="0.7"/><Label value="bus"/>',
        'model_score_threshold="0.4"',
    )
    assert bound(tag).groups[0].thresholds == {0: 0.7, 3: 0.4}
    assert bound(brush('<Label value="car"/>'), 0.3).groups[0].thresholds == {0: 0.3}
    two = bound(
        tag + brush('<Label value="car"/>', 'model_score_threshold="0.1"', "RectangleLabels", "box")
    )
    assert two.groups[0].thresholds == {
        0: 0.1,
        3: 0.4,
    }, "the model is asked for the lowest of both tags"


def test_all_kinds_are_filled_and_bound_by_name() -> None:
    tags = "".join(
        brush('<Label value="car"/>', "", tag, f"my-{tag}")
        for tag in ("BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels")
    )
    outputs = bound(tags).groups[0].outputs
    assert [(o.kind, o.from_name, o.to_name) for o in outputs] == [
        ("brushlabels", "my-BrushLabels", "image"),
        ("bitmasklabels", "my-BitmaskLabels", "image"),
        ("polygonlabels", "my-PolygonLabels", "image"),
        ("rectanglelabels", "my-RectangleLabels", "image"),
    ]


def test_a_smart_rectangle_is_a_tool() -> None:
    box = '<Label value="car"/>'
    mask = brush('<Label value="car"/>')
    assert (
        len(bound(mask + brush(box, 'smart="true"', "RectangleLabels", "box")).groups[0].outputs)
        == 1
    )
    assert (
        len(
            bound(mask + brush(box, 'smart="true" model_skip="false"', "RectangleLabels", "box"))
            .groups[0]
            .outputs
        )
        == 2
    )
    assert (
        bound(brush(box, 'smart="true"', "RectangleLabels", "box")).groups[0].outputs[0].kind
        == "rectanglelabels"
    )


def test_model_skip_everywhere_leaves_clicks_and_boxes() -> None:
    assert bound(brush('<Label value="zebra"/>', 'model_skip="true"')).groups == ()


def test_limits_of_a_tag() -> None:
    output = (
        bound(brush('<Label value="car"/>', 'model_max_regions="5" model_min_area="120.5"'))
        .groups[0]
        .outputs[0]
    )
    assert (output.max_regions, output.min_area) == (5, 120.5)


def test_images_and_detectors_make_groups() -> None:
    images = '<Image name="left" value="$l"/><Image name="right" value="$r"/>'
    tags = brush('<Label value="car"/>').replace('"image"', '"left"') + brush(
        '<Label value="car"/>', 'model_path="x.pt"', name="b2"
    ).replace('"image"', '"right"')
    groups = bound(tags, images=images).groups
    assert [(g.to_name, g.data_key, g.model_path) for g in groups] == [
        ("left", "l", None),
        ("right", "r", "x.pt"),
    ]


def test_a_tag_chooses_masks_of_everything_and_their_words() -> None:
    labels = (
        '<Label value="vehicle" predicted_values="car, truck"/>'
        '<Label value="A1" clip_prompt="a rusty bolt | a bolt"/>'
        '<Label value="Car"/><Label value="unsure"/>'
    )
    (tag,) = parse_label_config(config(brush(labels, 'model_mode="Automatic"'))).tags
    assert tag.model.mode == "automatic"
    # The name of a label is a synonym of no other.
    words = [(one.name, one.all) for one in tag.model.words]
    assert words == [
        ("vehicle", ("vehicle", "truck")),
        ("A1", ("a rusty bolt", "a bolt")),
        ("Car", ("Car",)),
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ('<Label value="Auto" predicted_values="car"/>', {0: "Auto", 4: "Auto"}),
        ('<Label value="car" clip_prompt="a rusty car"/>', {0: "car"}),
        (
            '<Label value="bus"/><Label value="vehicle" predicted_values="bus, tram"/>',
            {3: "bus", 4: "vehicle"},
        ),
        ('<Label value="b" predicted_values="unsure"/>', {4: "b", 5: "b"}),
    ],
)
def test_labels_get_what_detector_and_namer_call_so(labels: str, expected: dict[int, str]) -> None:
    made = parse_label_config(config(brush(labels, 'model_mode="both"')))
    binding = bind(made, lambda choice: names_for(choice, NAMES), 0.25)
    assert binding.groups[0].outputs[0].labels == expected


def test_how_sure_a_name_must_be_is_not_a_detectors_threshold() -> None:
    def lowest(attributes: str) -> float:
        made = parse_label_config(config(brush('<Label value="car"/>', attributes)))
        binding = bind(made, lambda choice: names_for(choice, NAMES), 0.25)
        return binding.groups[0].outputs[0].thresholds[0]

    assert lowest('model_mode="automatic"') == 0.0
    assert lowest('model_mode="automatic" model_score_threshold="0.6"') == 0.6
    assert lowest('model_mode="both"') == 0.25


def test_modes_that_cannot_be_are_refused() -> None:
    labels = '<Label value="car"/>'
    with pytest.raises(InputError, match='model_mode="all" is none of cascade, automatic, both'):
        bound(brush(labels, 'model_mode="all"'))
    with pytest.raises(InputError, match="needs labels other than unsure"):
        bound(brush("", 'model_mode="both"'))
    with pytest.raises(InputError, match="needs labels other than unsure"):
        bound(brush('<Label value="unsure"/>', 'model_mode="automatic"'))
    skipped = brush("", 'model_mode="both" model_skip="true"')
    assert bound(skipped + brush(labels, name="b2")).groups[0].model.mode == "cascade"


def test_modes_and_words_make_groups_and_versions_of_their_own() -> None:
    one = brush('<Label value="car"/>', 'model_mode="automatic"')
    same = one + brush('<Label value="car"/>', 'model_mode="automatic"', name="b2")
    assert len(bound(same).groups) == 1
    mixed = one + brush('<Label value="car"/>', name="b2")
    assert [group.model.mode for group in bound(mixed).groups] == ["automatic", "cascade"]
    plain = bound(brush('<Label value="car"/>')).digest
    asked = brush('<Label value="car" clip_prompt="a red car"/>', 'model_mode="automatic"')
    assert len({plain, bound(one).digest, bound(asked).digest}) == 3


def test_the_digest_follows_what_changes_results_only() -> None:
    plain = bound(brush('<Label value="car"/>')).digest
    assert bound(brush('<Label value="car" background="red"/>')).digest == plain
    for other in (
        '<Label value="car" model_score_threshold="0.9"/>',
        '<Label value="car"/><Label value="bus"/>',
    ):
        assert bound(brush(other)).digest != plain
    assert bound(brush('<Label value="car"/>', 'model_max_regions="3"')).digest != plain
    assert bound(brush('<Label value="car"/>'), 0.5).digest != plain


def test_the_digest_follows_the_order_by_which_results_are_kept() -> None:
    images = '<Image name="l" value="$l"/><Image name="r" value="$r"/>'
    tags = [
        brush('<Label value="car"/>', name=f"b{side}").replace('"image"', f'"{side}"')
        for side in "lr"
    ]
    assert (
        bound("".join(tags), images=images).digest
        != bound("".join(tags[::-1]), images=images).digest
    )


@pytest.mark.parametrize(
    "attribute",
    [
        'model_score_threshold="x"',
        'model_score_threshold="1.5"',
        'model_skip="maybe"',
        'model_min_area="-1"',
        'model_max_regions="nan"',
    ],
)
def test_an_attribute_that_cannot_be_read_is_named(attribute: str) -> None:
    with pytest.raises(InputError, match=f'BrushLabels "brush": {attribute.split("=")[0]}'):
        bound(brush('<Label value="car"/>', attribute))


def test_tags_that_point_nowhere_are_noted() -> None:
    with pytest.raises(InputError, match="no BrushLabels"):
        bound(brush('<Label value="car"/>').replace('toName="image"', 'toName="text"'))
    assert (
        "no Image"
        in parse_label_config(config(brush("").replace('toName="image"', 'toName="text"'))).notes[0]
    )


_DTD = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{}]>'
X01 = {
    "bomb": (
        _DTD.format(
            "".join(
                f'<!ENTITY {b} "{f"&{a};" * 10}">'
                for a, b in zip("abcdefgh", "bcdefghi", strict=True)
            )
        )
        + "<View>&i;</View>"
    ),
    "quadratic": _DTD.format(f'<!ENTITY q "{"q" * 50_000}">') + f"<View>{'&q;' * 5000}</View>",
    "external": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><View>&e;</View>',
    "parameter": '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x"> %p;]><View/>',
    "deep": "<a>" * 100_000 + "</a>" * 100_000,
    "labels": config(brush('<Label value="car"/>' * 40_000)),
    "long": config(" " * (1 << 20)),
    "tags": config(
        "".join(f'<RectangleLabels name="a{k}" toName="image" smart="1"/>' for k in range(10_000))
    ),
    "nested": config(
        "".join(f'<BrushLabels name="a{k}" toName="image">' for k in range(60))
        + '<Label value="car"/>' * 9_000
        + "</BrushLabels>" * 60
    ),
    "images": (
        "<View>"
        + "".join(
            f'<Image name="i{k}" value="$x"/><BrushLabels name="b{k}" toName="i{k}"/>'
            for k in range(20)
        )
        + "</View>"
    ),
    "predicted": config(brush(f'<Label value="car" predicted_values="{"x," * 100_000}"/>')),
    "broken": "<View><Image",
    "nul": "<View>\0</View>",
}


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("name", X01)
def test_x01_hostile_xml_is_refused_cheaply(name: str) -> None:
    start = time.thread_time()
    with pytest.raises(InputError, match="label config"):
        parse_label_config(X01[name])
    took = time.thread_time() - start
    tracemalloc.start()
    with pytest.raises(InputError, match="label config"):
        parse_label_config(X01[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 1.0
    assert peak < 50 << 20


def test_a_made_config_is_accepted_by_label_studio_and_by_us() -> None:
    from label_studio_sdk.label_interface import LabelInterface

    text = make_config(["car", 'odd "name" & <more>', "bus"])
    interface = LabelInterface(text)
    assert interface.get_tag("brush").labels == ["car", 'odd "name" & <more>', "bus"]
    binding = bind(
        parse_label_config(text), lambda path: {0: "car", 1: 'odd "name" & <more>', 2: "bus"}, 0.25
    )
    assert [output.kind for output in binding.groups[0].outputs] == ["brushlabels"]
    assert len(binding.groups[0].outputs[0].labels) == 3


def test_where_a_prompt_goes() -> None:
    point = brush(
        '<Label value="Car"/><Label value="wheel" predicted_values="tyre"/><Label value="tram"/>',
        'smart="true"',
        "KeyPointLabels",
        "point",
    )
    masks = brush('<Label value="car"/><Label value="tyre"/>')
    read = parse_label_config(
        config(brush('<Label value="car"/>', "", "PolygonLabels", "poly") + masks + point)
    )
    assert (
        prompt_target(read, "point", "Car")[0].name,
        prompt_target(read, "point", "Car")[1],
    ) == ("brush", "car")
    assert prompt_target(read, "point", "wheel")[1] == "tyre"
    with pytest.raises(InputError, match="'tram' .* is not a label of \"brush\""):
        prompt_target(read, "point", "tram")
    with pytest.raises(InputError, match='no tag "other"'):
        prompt_target(read, "other", "car")
    single = parse_label_config(config(brush('<Label value="thing"/>') + point))
    assert prompt_target(single, "point", "tram")[1] == "thing"
    with pytest.raises(InputError, match="add a BrushLabels tag"):
        prompt_target(parse_label_config(config(point)), "point", "Car")


BARE = """<View><Image name="image" value="$image"/>
  <Labels name="label" toName="image"><Label value="cat"/><Label value="dog"/></Labels>
  <Brush name="brush" toName="image"/><Polygon name="poly" toName="image"/>
  <KeyPoint name="point" toName="image" smart="true"/></View>"""


def test_bare_tags_take_their_labels_from_the_labels_tag() -> None:
    """As Label Studio stores them: geometry and label are two entries with one id."""
    config = parse_label_config(BARE)
    assert [(tag.kind, tag.name, tag.labels_from) for tag in config.tags] == [
        ("brushlabels", "brush", "label"),
        ("polygonlabels", "poly", "label"),
        ("keypointlabels", "point", "label"),
    ]
    binding = bind(config, lambda path: {0: "cat", 1: "dog"}, 0.25)
    mask = Mask(2, 3, np.ones((4, 5), np.bool_))
    cat = Instance("cat", 0, 0.9, mask_xyxy(mask), mask)
    prediction = Prediction((cat,), (20, 30), "v")
    made = json.loads(f"[{result_of(prediction, binding.groups[0].outputs).regions}]")
    assert [(one["type"], one["from_name"]) for one in made] == [
        ("brush", "brush"),
        ("labels", "label"),
        ("polygon", "poly"),
        ("labels", "label"),
    ]
    assert made[0]["id"] == made[1]["id"] != made[2]["id"]
    read = read_regions(made, "result")
    assert [(one.kind, one.label) for one in read.regions] == [("brush", "cat"), ("polygon", "cat")]
    assert prompt_target(config, "point", "dog")[0].name == "brush"


def test_a_bare_tag_without_labels_is_named() -> None:
    config = parse_label_config(
        '<View><Image name="image" value="$image"/><Brush name="b" toName="image"/></View>'
    )
    with pytest.raises(InputError, match='Brush "b": there is no Labels tag on Image "image"'):
        bind(config, lambda path: {0: "cat"}, 0.25)


def test_labels_that_come_with_each_task_are_those_of_the_model() -> None:
    config = parse_label_config(
        '<View><Image name="image" value="$image"/>'
        '<BrushLabels name="b" toName="image" value="$labels"/></View>'
    )
    (group,) = bind(config, lambda path: {0: "cat", 1: "dog"}, 0.25).groups
    assert group.outputs[0].labels == {0: "cat", 1: "dog"}


VIDEO = (
    '<View><Labels name="l" toName="v"><Label value="cat"/><Label value="car" alias="auto"'
    ' predicted_values="truck,bus" model_score_threshold="0.7"/></Labels>'
    '<Video name="v" value="$film" frameRate="29.97"/>'
    '<VideoRectangle name="box" toName="v" smart="true" model_score_threshold="0.4"/></View>'
)
NAMES_OF_VIDEO = {0: "cat", 1: "bus", 2: "dog"}


def test_a_video_rectangle_is_bound_to_the_classes() -> None:
    config = parse_label_config(VIDEO)
    assert (config.tags, config.notes) == ((), ())
    (tag,) = config.videos
    assert (tag.name, tag.to_name, tag.data_key, tag.frame_rate) == ("box", "v", "film", 29.97)
    binding = bind(config, lambda path: NAMES_OF_VIDEO, 0.25)
    assert binding.groups == ()
    (output,) = binding.videos
    assert output.labels == {0: "cat", 1: "auto"}
    assert output.thresholds == {0: 0.4, 1: 0.7}
    assert "classes without a label are dropped: dog" in binding.notes[0]
    # Whatever changes results changes the digest, by which they are kept.
    other = bind(
        parse_label_config(VIDEO.replace("29.97", "25")), lambda path: NAMES_OF_VIDEO, 0.25
    )
    assert other.digest != binding.digest
    assert bind(parse_label_config(VIDEO), lambda path: NAMES_OF_VIDEO, 0.25).digest == (
        binding.digest
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('toName="v" smart', 'toName="w" smart'), 'its toName "w" is no Video'),
        (('value="$film"', 'value="film"'), "its value is not a field of the task"),
        (('<Labels name="l" toName="v"', '<Labels name="l" toName="x"'), "there is no Labels tag"),
    ],
)
def test_what_is_left_out_of_a_video_config_is_told(change: tuple[str, str], said: str) -> None:
    config = parse_label_config(VIDEO.replace(*change))
    assert config.videos == ()
    assert said in " ".join(config.notes)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (VIDEO.replace("29.97", "fast"), 'frameRate="fast" is not a number'),
        (VIDEO.replace("29.97", "0"), 'frameRate="0" is not a number'),
        (VIDEO.replace('smart="true"', 'model_skip="perhaps"'), "is neither true nor false"),
    ],
)
def test_video_attributes_that_cannot_be(config: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        parse_label_config(config)


def test_a_video_config_that_fits_no_class_is_refused_and_one_that_skips_is_not() -> None:
    with pytest.raises(InputError, match="No label is a class of the model. Labels: cat, car"):
        bind(parse_label_config(VIDEO), lambda path: {0: "boat"}, 0.25)
    skipped = VIDEO.replace('smart="true"', 'model_skip="true"')
    binding = bind(parse_label_config(skipped), lambda path: {0: "boat"}, 0.25)
    assert binding.videos == ()
    assert parse_label_config(VIDEO.replace(' frameRate="29.97"', "")).videos[0].frame_rate == 24


def test_the_label_of_a_drawn_box() -> None:
    config = parse_label_config(VIDEO)
    assert video_target(config, "box", "cat")[1] == "cat"
    with pytest.raises(InputError, match='no tag "point" on a Video'):
        video_target(config, "point", "cat")
    with pytest.raises(InputError, match="has no label; choose one"):
        video_target(config, "box", None)
