"""JPEGs that go past Pillow have Pillow's pixels, and its faults."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from backend.errors import InputError
from backend.files import images
from backend.files.images import decode_image


def jpeg(mode: str, size: tuple[int, int], **options: object) -> bytes:
    rng = np.random.default_rng(size[0])
    noise = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2)).convert(mode)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(64, 48), (65, 37), (9, 200)])
def test_pixels_are_those_of_pillow(
    mode: str,
    subsampling: int,
    progressive: bool,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = jpeg(mode, size, subsampling=subsampling, progressive=progressive, quality=80)
    taken = []
    plain = images._plain_jpeg

    def seen(*given: Any) -> Any:
        taken.append(plain(*given))
        return taken[-1]

    monkeypatch.setattr(images, "_plain_jpeg", seen)
    ours = decode_image(data)
    assert taken[0] is ours
    monkeypatch.setattr(images, "_plain_jpeg", lambda *given: None)
    assert np.array_equal(ours, decode_image(data))
    assert ours.flags.c_contiguous


def test_others_are_left_to_pillow() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned = decode_image(jpeg("RGB", (64, 48), exif=exif))
    assert turned.shape == (64, 48, 3)
    assert decode_image(jpeg("CMYK", (64, 48))).shape == (48, 64, 3)


@pytest.mark.parametrize("left", [0.3, 0.9, 0.999])
def test_a_cut_file_is_refused_as_before(left: float) -> None:
    data = jpeg("RGB", (640, 480), quality=95)
    with pytest.raises(InputError, match="truncated or damaged"):
        decode_image(data[: int(len(data) * left)])
