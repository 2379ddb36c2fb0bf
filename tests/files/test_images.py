"""Image decoding: the promises I01 to I09 about untrusted bytes."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from backend.errors import InputError
from backend.files.images import IMAGE_FORMATS, ImageLimits, decode_image, read_image


def encoded(picture: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def gradient(width: int = 40, height: int = 24) -> PIL.Image.Image:
    y, x = np.mgrid[:height, :width]
    return PIL.Image.fromarray(np.stack([x * 6, y * 10, (x + y) * 3], -1).astype(np.uint8))


def bare_png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    empty = b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + empty
    )


@pytest.mark.usefixtures("without_collector")
def test_i01_too_many_pixels_are_refused_on_the_header() -> None:
    before = PIL.Image.MAX_IMAGE_PIXELS
    start = time.process_time()
    with pytest.raises(InputError, match=r"big\.png"):
        decode_image(bare_png(20_000, 20_000), "big.png")
    with pytest.raises(InputError, match="60.0 megapixels, the limit is 50"):
        decode_image(bare_png(10_000, 6_000))
    assert time.process_time() - start < 0.05
    assert before == PIL.Image.MAX_IMAGE_PIXELS


def test_i01_the_limit_is_a_setting() -> None:
    with pytest.raises(InputError, match="megapixels"):
        decode_image(encoded(gradient()), limits=ImageLimits(max_pixels=100))


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_i02_listed_formats_pass(kind: str) -> None:
    pixels = decode_image(encoded(gradient(), kind))
    assert pixels.shape == (24, 40, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array(gradient())).mean() < 12


@pytest.mark.parametrize("kind", ["PDF", "EPS", "ICO", "PPM", "TGA"])
def test_i02_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(InputError):
        decode_image(encoded(gradient(), kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("percent", range(10, 100, 20))
def test_i03_truncated_is_refused(kind: str, percent: int) -> None:
    rng = np.random.default_rng(0)
    noisy = PIL.Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    data = encoded(noisy, kind)
    with pytest.raises(InputError, match="x: "):
        decode_image(data[: len(data) * percent // 100], "x")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_i04_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[2:10, 3:15] = 255  # top left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, 3),
    }[orientation]
    picture = PIL.Image.fromarray(np.ascontiguousarray(stored))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_image(encoded(picture, "PNG", exif=exif)), upright)


def test_i04_broken_exif_is_ignored() -> None:
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 30)
    assert decode_image(data).shape == (24, 40, 3)


def test_i05_sixteen_bit_keeps_its_levels() -> None:
    ramp = np.tile(np.linspace(0, 65535, 512).astype(np.uint16), (16, 1))
    pixels = decode_image(encoded(PIL.Image.fromarray(ramp)))
    assert len(np.unique(pixels)) >= 250
    assert pixels[0, 0, 0] == 0
    assert pixels[0, -1, 0] == 255


def test_i05_floats_and_32_bit() -> None:
    ramp = np.tile(np.linspace(0, 1, 256).astype(np.float32), (16, 1))
    pixels = decode_image(encoded(PIL.Image.fromarray(ramp), "TIFF"))
    assert len(np.unique(pixels)) >= 250
    deep = PIL.Image.fromarray(np.tile((np.arange(256) * 257).astype(np.int32), (16, 1)))
    assert len(np.unique(decode_image(encoded(deep, "TIFF")))) >= 250
    bad = PIL.Image.fromarray(np.full((16, 16), np.nan, np.float32))
    with pytest.raises(InputError, match="not finite"):
        decode_image(encoded(bad, "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_i06_modes_map_to_rgb(mode: str) -> None:
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    pixels = decode_image(
        encoded(PIL.Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode), kind)
    )
    assert pixels.shape == (16, 16, 3)
    assert pixels.min() >= 250


def test_i06_alpha_goes_onto_white() -> None:
    clear = PIL.Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert (decode_image(encoded(clear)) == 255).all()
    half = PIL.Image.new("RGBA", (16, 16), (0, 0, 0, 128))
    assert abs(int(decode_image(encoded(half))[0, 0, 0]) - 127) <= 1
    solid = PIL.Image.new("RGB", (16, 16), (1, 2, 3))
    assert (decode_image(encoded(solid, "PNG", transparency=(1, 2, 3))) == 255).all()
    palette = PIL.Image.new("P", (16, 16), 3)
    palette.putpalette([9] * 768)
    assert (decode_image(encoded(palette, "PNG", transparency=3)) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_i07_animations_give_their_first_frame(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (32, 32), (50 * k, 0, 0)) for k in range(5)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode_image(data)[0, 0, 0] <= 3


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7, 100)])
def test_i08_too_small_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="side under 8"):
        decode_image(encoded(PIL.Image.new("RGB", size)))


def test_i08_extreme_aspect_works() -> None:
    assert decode_image(encoded(PIL.Image.new("RGB", (16_000, 10)))).shape == (10, 16_000, 3)
    assert decode_image(encoded(PIL.Image.new("RGB", (27_136, 9)))).shape == (9, 27_136, 3)
    limits = ImageLimits(max_side=16_384)
    with pytest.raises(InputError, match="20000x10 has a side over 16384"):
        decode_image(encoded(PIL.Image.new("RGB", (20_000, 10))), limits=limits)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"<!DOCTYPE html><html><body>Sign in</body></html>",
            "text/html instead of an image; a login page",
        ),
        (b"  <html>", "login page"),
        (b'{"detail": "no"}', "JSON"),
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"hello", "not one of JPEG"),
    ],
)
def test_i09_what_is_no_image_is_named(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        decode_image(data, "x.jpg")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="not a regular file"):
        read_image(tmp_path)
    (tmp_path / "large.jpg").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="100 bytes, the limit is 10"):
        read_image(tmp_path / "large.jpg", ImageLimits(max_bytes=10))
