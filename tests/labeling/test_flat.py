"""A labeler whose masks share no pixel."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest

from backend.core.masks import full_frame
from backend.core.types import Instance, Mask, Prediction
from backend.errors import ConfigError
from backend.labeling.flat import FlatLabeler

SIZE = (18, 22)


def instance(mask: Mask, **what: float) -> Instance:
    return Instance("cat", 0, 0.5, np.zeros(4, np.float32), mask, **what)


class Finished:
    """Says what it was given."""

    names: Mapping[int, str] = MappingProxyType({0: "cat"})
    model_version = "finished-1"

    def infer(self, images, given=None, thresholds=None):  # type: ignore[no-untyped-def]
        return [Prediction(tuple(images), SIZE, self.model_version, {"background": 2})]

    def finish(self, raw: Prediction) -> Prediction:
        return raw


def test_what_is_left_over_has_a_class_of_its_own_where_that_is_wanted() -> None:
    row = np.ones((1, 4), np.bool_)
    found = [
        instance(Mask(0, 0, row), quality=0.9),
        instance(Mask(1, 0, row[:, :2]), quality=0.1),  # below the other
    ]
    labeler = FlatLabeler(Finished(), "predicted-iou", "ground")
    (raw,) = labeler.infer(found)
    prediction = labeler.finish(raw)
    assert dict(labeler.names) == {0: "cat", 1: "ground"}
    assert [(one.label, one.class_id) for one in prediction.instances] == [
        ("cat", 0),
        ("ground", 1),
    ]
    frames = [full_frame(one.mask, SIZE) for one in prediction.instances if one.mask]
    assert (np.sum(frames, axis=0) == 1).all()
    assert prediction.left_out == {"background": 2, "hidden by others": 1}
    assert prediction.model_version == labeler.model_version != "finished-1"
    bare = FlatLabeler(Finished(), "predicted-iou", None).finish(raw)
    assert [one.label for one in bare.instances] == ["cat"]
    with pytest.raises(ConfigError, match="--rest: 'cat' is a class already"):
        FlatLabeler(Finished(), "smallest", "cat")


def test_what_is_left_of_a_mask_and_too_small_is_left_out_and_counted() -> None:
    row = np.ones((1, 4), np.bool_)
    found = [
        instance(Mask(0, 0, row), quality=0.9),
        instance(Mask(1, 0, row), quality=0.5),  # one pixel is left
    ]
    labeler = FlatLabeler(Finished(), "predicted-iou", None, least_area=2 / 396)
    prediction = labeler.finish(labeler.infer(found)[0])
    assert len(prediction.instances) == 1
    assert prediction.left_out["hidden by others"] == 1
