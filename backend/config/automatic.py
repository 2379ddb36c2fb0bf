"""The settings of automatic masks, by the names of ``SAM2AutomaticMaskGenerator`` (sam2 1.1.0)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.config.fields import flag, number, one_of, path, read_given, setting, settings_of
from backend.errors import ConfigError

Points = tuple[tuple[float, float], ...]  # x and y as shares of the sides

# Points a side and layers of crops, by one word.
PRESETS = {"coarse": (16, 0), "default": (32, 0), "fine": (64, 1)}
# What holds where neither a person nor the segmenter's own configuration says otherwise.
COMMON = {
    "preset": "default",
    "pred_iou_thresh": 0.8,
    "stability_score_thresh": 0.95,
    "mask_nms_thresh": 0.7,
    "nested_thresh": 0.9,
    "connected": False,
}
# What a segmenter's own configuration may say.
OF_SEGMENTER = ("points_per_side", *(name for name in COMMON if name != "preset"))
DUPLICATES = ("mask", "box")


def read_point_grids(value: Any) -> tuple[Points, ...]:
    """Points of each layer of crops, from a JSON file or as the file holds them.

    Raises:
        ValueError: no list with lists of pairs from 0 to 1.
        OSError: the file cannot be read.
    """
    if isinstance(value, str | Path):
        value = json.loads(path(value).read_text(encoding="utf-8"))
    share = number(0, 1, float)
    try:
        grids = tuple(tuple((share(x), share(y)) for x, y in layer) for layer in value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected for each layer of crops a list of [x, y] from 0 to 1: {error}"
        ) from None
    if not grids or not all(grids):
        raise ValueError("expected at least one point for each layer of crops")
    return grids


@dataclass(frozen=True)
class AutomaticOptions:
    """Which masks are proposed where nobody points at anything."""

    preset: str | None = setting(
        None,
        read=one_of(*PRESETS),
        flags=("--preset",),
        environment=("AUTOMATIC_PRESET",),
        metavar="coarse|default|fine",
        help="how finely automatic masks look: 16, 32 or 64 points a side, fine also in crops",
        shown_default="default, unless the segmenter says otherwise",
    )
    points_per_side: int | None = setting(
        None,
        read=number(1, 512, int),
        flags=("--points-per-side",),
        environment=("AUTOMATIC_POINTS_PER_SIDE",),
        metavar="N",
        help="points a side of the grid that automatic masks start from",
        shown_default="by preset or segmenter",
    )
    points_per_batch: int = setting(
        64,
        read=number(1, 65_536, int),
        flags=("--points-per-batch",),
        environment=("AUTOMATIC_POINTS_PER_BATCH",),
        metavar="N",
        help="points per decoder call",
    )
    pred_iou_thresh: float | None = setting(
        None,
        read=number(0, 1, float),
        flags=("--pred-iou-thresh",),
        environment=("AUTOMATIC_PRED_IOU_THRESH",),
        metavar="0..1",
        help="automatic masks that the segmenter trusts less are dropped",
        shown_default="0.8, unless the segmenter says otherwise",
    )
    stability_score_thresh: float | None = setting(
        None,
        read=number(0, 1, float),
        flags=("--stability-score-thresh",),
        environment=("AUTOMATIC_STABILITY_SCORE_THRESH",),
        metavar="0..1",
        help="so are those that change more than this between two thresholds",
        shown_default="0.95, unless the segmenter says otherwise",
    )
    stability_score_offset: float = setting(
        1.0,
        read=number(0, 100, float),
        flags=("--stability-score-offset",),
        environment=("AUTOMATIC_STABILITY_SCORE_OFFSET",),
        metavar="LOGITS",
        help="how far these two lie above and below --mask-threshold",
    )
    mask_threshold: float = setting(
        0.0,
        read=number(-100, 100, float),
        flags=("--mask-threshold",),
        environment=("AUTOMATIC_MASK_THRESHOLD",),
        metavar="LOGITS",
        help="above it a pixel belongs to an automatic mask",
    )
    duplicates: str = setting(
        "mask",
        read=one_of(*DUPLICATES),
        flags=("--duplicates",),
        environment=("AUTOMATIC_DUPLICATES",),
        metavar="mask|box",
        help="what tells two masks of one thing: the masks, or their boxes as in sam2's generator",
    )
    mask_nms_thresh: float | None = setting(
        None,
        read=number(0, 1, float),
        flags=("--mask-nms-thresh",),
        environment=("AUTOMATIC_MASK_NMS_THRESH",),
        metavar="0..1",
        help="masks that overlap more are one thing, and the better one stays",
        shown_default="0.7, unless the segmenter says otherwise",
    )
    nested_thresh: float | None = setting(
        None,
        read=number(0, 1, float),
        flags=("--nested-thresh",),
        environment=("AUTOMATIC_NESTED_THRESH",),
        metavar="0..1",
        help="so are a mask and a fair part of it that lies inside by this share; 1 keeps parts",
        shown_default="0.9, unless the segmenter says otherwise",
    )
    box_nms_thresh: float = setting(
        0.7,
        read=number(0, 1, float),
        flags=("--box-nms-thresh",),
        environment=("AUTOMATIC_BOX_NMS_THRESH",),
        metavar="0..1",
        help="with --duplicates box: overlap of boxes in one crop",
    )
    crop_nms_thresh: float = setting(
        0.7,
        read=number(0, 1, float),
        flags=("--crop-nms-thresh",),
        environment=("AUTOMATIC_CROP_NMS_THRESH",),
        metavar="0..1",
        help="with --duplicates box: overlap of boxes of different crops",
    )
    crop_n_layers: int | None = setting(
        None,
        read=number(0, 4, int),
        flags=("--crop-n-layers",),
        environment=("AUTOMATIC_CROP_N_LAYERS",),
        metavar="N",
        help="look again in 4, 16, 64 .. crops, for small objects",
        shown_default="by preset",
    )
    crop_overlap_ratio: float = setting(
        512 / 1500,
        read=number(0, 0.99, float),
        flags=("--crop-overlap-ratio",),
        environment=("AUTOMATIC_CROP_OVERLAP_RATIO",),
        metavar="0..1",
        help="overlap of crops as a share of the image's short side",
    )
    crop_n_points_downscale_factor: int = setting(
        1,
        read=number(1, 64, int),
        flags=("--crop-n-points-downscale-factor",),
        environment=("AUTOMATIC_CROP_N_POINTS_DOWNSCALE_FACTOR",),
        metavar="N",
        help="points a side are divided by this with each layer of crops",
    )
    point_grids: tuple[Points, ...] | None = setting(
        None,
        read=read_point_grids,
        flags=("--point-grids",),
        environment=("AUTOMATIC_POINT_GRIDS",),
        metavar="JSON",
        help="file with the points of each layer of crops, x and y from 0 to 1, instead of grids",
    )
    min_mask_region_area: int = setting(
        0,
        read=number(0, 1 << 28, int),
        flags=("--min-mask-region-area",),
        environment=("AUTOMATIC_MIN_MASK_REGION_AREA",),
        metavar="PIXELS",
        help="smaller parts and holes of automatic masks are dropped and filled",
    )
    connected: bool | None = setting(
        None,
        read=flag,
        flags=("--connected",),
        environment=("AUTOMATIC_CONNECTED",),
        help="of an automatic mask only the piece that its point lies in; --no-connected keeps all",
        shown_default="all, unless the segmenter says otherwise",
    )
    use_m2m: bool = setting(
        False,
        read=flag,
        flags=("--use-m2m",),
        environment=("AUTOMATIC_USE_M2M",),
        help="give the decoder each automatic mask once more, to refine it",
    )
    multimask_output: bool = setting(
        True,
        read=flag,
        flags=("--multimask-output",),
        environment=("AUTOMATIC_MULTIMASK_OUTPUT",),
        help="three masks for each point; --no-multimask-output gives one",
        shown_default="three",
    )

    def resolved(self, own: Mapping[str, Any] | None = None) -> AutomaticOptions:
        """The same with a value for all that nobody gave.

        Args:
            own: what the segmenter's configuration says, by field.

        Returns:
            Options of which only ``point_grids`` may be None.

        Raises:
            ConfigError: the configuration names something else, or a value that cannot be.
        """
        unknown = sorted(set(own or ()) - set(OF_SEGMENTER))
        if unknown:
            raise ConfigError(
                f"automatic.{unknown[0]}: cannot be said beside a model; what can is"
                f" {', '.join(OF_SEGMENTER)}"
            )
        known = settings_of(AutomaticOptions)
        values: dict[str, Any] = {name: getattr(self, name) for name in known}
        of_model, faults = read_given(
            AutomaticOptions,
            {name: (f"automatic.{name}", one) for name, one in (own or {}).items()},
        )
        if faults:
            raise ConfigError("; ".join(faults))
        if values["preset"] is not None:  # a person's word goes before the model's number
            of_model.pop("points_per_side", None)
        for name, value in {**COMMON, **of_model}.items():
            if values[name] is None:
                values[name] = value
        side, layers = PRESETS[values["preset"]]
        if values["point_grids"] is not None:
            layers = len(values["point_grids"]) - 1
        if values["points_per_side"] is None:
            values["points_per_side"] = side
        if values["crop_n_layers"] is None:
            values["crop_n_layers"] = layers
        return AutomaticOptions(**values)
