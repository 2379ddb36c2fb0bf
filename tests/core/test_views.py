"""What a namer is shown of a mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core.types import Mask
from backend.core.views import ALONE, CONTEXT, QUIET, alone, in_context


def test_the_object_is_in_the_middle_with_half_its_size_around_it() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    image[100:180, 120:200] = 255
    mask = Mask(120, 100, np.ones((80, 80), np.bool_))
    view = in_context(image, mask, 60)
    rows = np.flatnonzero(view[:, 30, 0] > 127)
    assert CONTEXT == 1.5
    assert (rows[0], rows[-1]) == (10, 49), "a sixth above and below"


def test_alone_shows_the_object_only() -> None:
    image = np.full((100, 100, 3), 255, np.uint8)
    crop = np.zeros((40, 40), np.bool_)
    crop[:, :20] = True
    view = alone(image, Mask(30, 30, crop), 46)
    assert ALONE == 1.15
    assert (view[5:40, 5:20] == 255).all()
    assert (view[:, 25:] == QUIET).all()


def test_beyond_the_picture_is_grey() -> None:
    view = in_context(np.zeros((20, 20, 3), np.uint8), Mask(0, 0, np.ones((20, 20), bool)), 60)
    assert (view[:9] == QUIET).all()
    assert (view[12:48, 12:48] == 0).all()


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(1, 30),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_any_mask_of_any_picture_has_views(
    size: tuple[int, int], side: int, data: st.DataObject
) -> None:
    x = data.draw(st.integers(0, size[1] - 1))
    y = data.draw(st.integers(0, size[0] - 1))
    w = data.draw(st.integers(1, size[1] - x))
    h = data.draw(st.integers(1, size[0] - y))
    image = np.zeros((*size, 3), np.uint8)
    for look in (in_context, alone):
        view = look(image, Mask(x, y, np.ones((h, w), np.bool_)), side)
        assert (view.shape, view.dtype) == ((side, side, 3), np.uint8)


@pytest.mark.parametrize("look", [in_context, alone])
def test_a_large_object_needs_no_larger_picture(look) -> None:  # type: ignore[no-untyped-def]
    """The square around it is never made: it would be larger than the picture."""
    image = np.zeros((2000, 3000, 3), np.uint8)
    sizes = []
    resize = cv2.resize
    mask = Mask(0, 0, np.ones((2000, 3000), np.bool_))

    def watched(part, *arguments, **options):  # type: ignore[no-untyped-def]
        sizes.append(part.shape)
        return resize(part, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "resize", watched)
        look(image, mask, 64)
    assert sizes == [(2000, 3000, 3)]
