"""The brush RLE codec against label-studio-sdk, the program it has to agree with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter.brush import decode_rle, encode_rle, mask2rle

from backend.core.masks import full_frame, mask_from_full
from backend.core.types import Mask
from backend.errors import InputError
from backend.formats.label_studio import brush_rle as rle
from tests.conftest import random_mask

SIZES = [
    (48, 64),
    (37, 91),
    (1, 1),
    (1, 50),
    (50, 1),
    (7, 8),
    (128, 300),
    (33, 129),
    (2, 2),
    (100, 100),
]


def decoded(data: bytes | list[int], size_hw: tuple[int, int]) -> np.ndarray:
    mask = rle.decode_brush(data, size_hw)
    return np.zeros(size_hw, bool) if mask is None else full_frame(mask, size_hw)


@pytest.mark.parametrize("kind", range(6))
def test_bytes_equal_the_sdk_on_random_masks(kind: int) -> None:
    rng = np.random.default_rng(kind)
    for k in range(100):  # 600 in all
        height, width = SIZES[k % len(SIZES)]
        frame = random_mask(rng, height, width, kind)
        theirs = mask2rle(frame.astype(np.uint8) * 255)
        mask = mask_from_full(frame)
        assert list(rle.encode_brush(mask, frame.shape)) == theirs
        if mask is not None:
            again, _ = rle.brush_jsons([mask, mask], frame.shape)
            assert json.loads(again) == theirs
        assert np.array_equal(decoded(theirs, frame.shape), frame)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(6))
def test_bytes_equal_the_sdk_at_4k(kind: int) -> None:
    frame = random_mask(np.random.default_rng(kind), 2160, 3840, kind)
    theirs = mask2rle(frame.astype(np.uint8) * 255)
    assert list(rle.encode_brush(mask_from_full(frame), frame.shape)) == theirs
    assert np.array_equal(decoded(theirs, frame.shape), frame)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))))
def test_every_small_mask_survives(frame: np.ndarray) -> None:
    ours = rle.encode_brush(mask_from_full(frame), frame.shape)
    assert list(ours) == mask2rle(frame.astype(np.uint8) * 255)
    assert np.array_equal(decoded(ours, frame.shape), frame)


def test_by_hand() -> None:
    # One background and one foreground pixel: 8 values; runs of 4 zeros and 4 times 255.
    bits = f"{8:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111"
    bits += "1" + "00" + "011" + "00000000" + "1" + "00" + "011" + "11111111"
    bits += "0" * (8 - len(bits) % 8)
    expected = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    assert list(rle.encode_brush(Mask(1, 0, np.ones((1, 1), bool)), (1, 2))) == expected


def test_a_loose_crop_gives_the_same_bytes() -> None:
    crop = np.zeros((9, 11), bool)
    crop[3:5, 2:7] = True
    frame = full_frame(Mask(5, 6, crop), (40, 30))
    assert rle.encode_brush(Mask(5, 6, crop), (40, 30)) == rle.encode_brush(
        mask_from_full(frame), (40, 30)
    )


def test_the_extra_byte_is_kept() -> None:
    for n in range(1, 4096, 7):
        row = np.r_[np.full(n, 255, np.uint8), np.zeros(4096 - n, np.uint8)][None]
        assert list(rle.encode_brush(Mask(0, 0, np.ones((1, n), bool)), (1, 4096))) == mask2rle(row)


def test_colours_and_literals_of_the_editor_are_read() -> None:
    rng = np.random.default_rng(3)
    frame = random_mask(rng, 40, 50, 4)
    rgba = np.zeros((40, 50, 4), np.uint8)
    rgba[frame] = (12, 200, 7, 128)
    assert np.array_equal(decoded(encode_rle(rgba.ravel()), (40, 50)), frame)


def _pack_literals(values: np.ndarray) -> bytes:
    bits = f"{len(values):032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111"
    for start in range(0, len(values), 16):
        block = values[start : start + 16]
        bits += "0" + "01" + f"{len(block) - 1:04b}" + "".join(f"{v:08b}" for v in block)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))


def test_literal_blocks_are_read() -> None:
    rng = np.random.default_rng(4)
    frame = random_mask(rng, 12, 17, 0)
    values = np.repeat(frame.ravel().astype(np.uint8) * 255, 4)
    data = _pack_literals(values)
    assert np.array_equal(decode_rle(list(data)), values)
    assert np.array_equal(decoded(data, (12, 17)), frame)


@pytest.mark.parametrize("cut", [0, 3, 7, 12, -3])
def test_truncated_data_is_refused(cut: int) -> None:
    data = rle.encode_brush(
        mask_from_full(random_mask(np.random.default_rng(5), 64, 64, 4)), (64, 64)
    )
    with pytest.raises(InputError, match="rle:"):
        rle.decode_brush(data[:cut], (64, 64))


def test_long_streams_cut_anywhere_are_refused_or_whole() -> None:
    frame = random_mask(np.random.default_rng(6), 120, 160, 0)
    data = rle.encode_brush(mask_from_full(frame), frame.shape)
    for cut in range(7, len(data) - 3, 97):
        with pytest.raises(InputError, match="rle:"):
            rle.decode_brush(data[:cut], frame.shape)


@pytest.mark.parametrize("bad", [[1, 2, 300], ["a"], [-1], None, 5.5])
def test_what_is_no_list_of_bytes_is_refused(bad: object) -> None:
    with pytest.raises(InputError, match="rle:"):
        rle.decode_brush(bad, (4, 4))  # type: ignore[arg-type]


def test_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="expected 64 for 4x4"):
        rle.decode_brush(rle.encode_brush(None, (4, 5)), (4, 4))


@pytest.mark.parametrize(
    "mask", [Mask(-1, 0, np.ones((2, 2), bool)), Mask(3, 3, np.ones((2, 2), bool))]
)
def test_a_crop_beyond_the_image_is_refused(mask: Mask) -> None:
    with pytest.raises(InputError, match="beyond"):
        rle.encode_brush(mask, (4, 4))


def test_random_bytes_never_crash() -> None:
    rng = np.random.default_rng(8)
    for _ in range(300):
        body = rng.integers(0, 256, rng.integers(1, 400)).astype(np.uint8).tobytes()
        data = (
            rle.encode_brush(None, (16, 16))[:6]
            + bytes([rle.encode_brush(None, (16, 16))[6] & 0xF8])
            + body
        )
        try:
            mask = rle.decode_brush(data, (16, 16))
        except InputError:
            continue
        assert mask is None or full_frame(mask, (16, 16)).any()
