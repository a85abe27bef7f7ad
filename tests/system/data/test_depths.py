"""16-bit images give the same pixels as 8-bit images; values of unknown range raise."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import simplematch
from simplematch.correspondences import read_image
from simplematch.data import ImageError
from simplematch.data.images import decode_image, read_picture

from .pictures import grey, note, picture, read, write_png, write_tiff


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jp2", "a.pgm"])
def test_a_16_bit_copy_has_the_pixels_of_the_8_bit_picture(name: str, tmp_path: Path) -> None:
    wide = Image.fromarray(grey().astype(np.uint16) * 257)
    assert wide.mode == "I;16"
    (wide.convert("I") if name == "a.pgm" else wide).save(tmp_path / name)  # older versions of Pillow write no other
    assert (read(tmp_path / name) == grey()[..., None]).all()
    assert (np.array(read_image(wide)) == grey()[..., None]).all()


def test_16_bit_values_are_rounded(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png")[..., 0] == np.rint(values / 257)).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_in_either_byte_order(order: str, tmp_path: Path) -> None:
    mode = "I;16" if order == "<" else "I;16B"
    wide = Image.frombytes(mode, (40, 30), (grey().astype(f"{order}u2") * 257).astype(f"{order}u2").tobytes())
    wide.save(tmp_path / "a.tif")
    assert (read(tmp_path / "a.tif") == grey()[..., None]).all()


def test_16_bits_where_white_is_zero(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", 65535 - grey().astype(np.uint16) * 257, photometric=0)
    assert (read(path) == grey()[..., None]).all()


def test_16_bits_in_colour_and_with_transparency(tmp_path: Path) -> None:
    colours = np.array(picture()).astype(np.uint16) * 257
    assert (read(write_png(tmp_path / "rgb.png", colours, 2)) == np.array(picture())).all()
    assert (read(write_tiff(tmp_path / "rgb.tif", colours)) == np.array(picture())).all()
    halves = np.where(np.arange(40) < 20, 65535, 0).astype(np.uint16) * np.ones((30, 1), np.uint16)
    for name, colour, channels in (("la.png", 4, grey()[..., None]), ("rgba.png", 6, np.array(picture()))):
        found = read(write_png(tmp_path / name, np.dstack((channels.astype(np.uint16) * 257, halves)), colour))
        assert (found[:, :20] == channels[:, :20]).all() and (found[:, 20:] == 255).all()


def test_a_transparent_value_of_16_bits(tmp_path: Path) -> None:
    values = grey().astype(np.uint16) * 257
    found = read(write_png(tmp_path / "a.png", values, 0, struct.pack(">H", values[5, 5])))
    assert (found == np.where(values == values[5, 5], 255, grey())[..., None]).all()
    colours = np.array(picture()).astype(np.uint16) * 256 + 7
    found = read(write_png(tmp_path / "b.png", colours, 2, struct.pack(">HHH", *map(int, colours[5, 5]))))
    hidden = (colours == colours[5, 5]).all(-1, keepdims=True)
    assert (found == np.where(hidden, 255, np.array(picture()))).all() and hidden.any()


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_fewer_bits_stored_in_16_are_scaled_by_their_range(bits: int, tmp_path: Path) -> None:
    largest = (1 << bits) - 1
    Image.fromarray((grey() * (largest / 255)).round().astype(np.uint16)).save(tmp_path / "a.png")
    assert f"has 16 bits and values up to {largest}; it is read as {bits} bits stored in 16" in note(tmp_path / "a.png")
    assert (np.array(read_picture(tmp_path / "a.png").pixels) == grey()[..., None]).all()


def test_what_is_lost_of_12_bits_in_colour_is_said(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", np.array(picture()).astype(np.uint16) * 16, 2)
    assert "only uses the lower 12 bits, of which 4 can be read; scale it to 0..65535" in note(path)


@pytest.mark.parametrize(
    ("dtype", "held"),
    [("float32", "floats"), ("int16", "signed integers"), ("int32", "signed integers"), ("int8", "signed integers"),
     ("uint32", "32-bit or signed integers"), ("float64", "floats")],
)  # fmt: skip
def test_values_without_a_known_range_are_refused_by_name(dtype: str, held: str, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", grey().astype(dtype))
    with pytest.raises(ImageError, match=rf"image .*a\.tif can't be read: .*{held}.*; scale its values to 0\.\.255 or"):
        read_picture(path)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_so_are_pil_images(mode: str) -> None:
    with pytest.raises(ImageError, match=rf"image_b \(a PIL image\) can't be read: it has .* \(mode {mode}\)"):
        simplematch.match(picture(), picture().convert(mode))


def test_planes_of_16_bits_are_refused(tmp_path: Path) -> None:
    """Pillow misreads each plane as 8 bits."""
    colours = np.array(picture()).astype(np.uint16) * 257
    with pytest.raises(ImageError, match="it stores 16-bit channels in separate planes; save its channels inter"):
        read_picture(write_tiff(tmp_path / "a.tif", colours, planes=2))
    assert (read(write_tiff(tmp_path / "b.tif", np.array(picture()), planes=2)) == np.array(picture())).all()


def test_a_16_bit_copy_matches_like_the_picture(tmp_path: Path) -> None:
    coarse = np.random.default_rng(5).integers(0, 256, (14, 18), dtype=np.uint8)
    whole = Image.fromarray(coarse).resize((344, 264), Image.Resampling.BICUBIC)
    pair = [whole.crop((x, x, x + 320, x + 240)) for x in (0, 24)]
    wide = [Image.fromarray(np.array(image).astype(np.uint16) * 257) for image in pair]
    for image, name in zip(wide, "ab", strict=True):
        image.save(tmp_path / f"{name}.png")
    expected = simplematch.match(*pair).matches
    found = simplematch.match(tmp_path / "a.png", tmp_path / "b.png").matches
    assert np.abs(found - expected).max() < 2
    assert (decode_image(tmp_path / "a.png") == np.array(pair[0])).all()  # training and evaluation read the same pixels
