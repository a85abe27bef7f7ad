"""One reader for pictures of every kind: right pixels, or one sentence that names the file."""

from __future__ import annotations

import gc
import io
import logging
import os
import random
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

import simplematch
from simplematch.correspondences import read_image
from simplematch.data import ImageError, ImageWarning
from simplematch.data import images as reader
from simplematch.data.images import FORMATS, decode_image, image_size, read_picture

from .trees import write_image

WHITE, RED, GREEN, BLUE = (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """A smooth one with all levels of grey in it."""
    coarse = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    image[0, 0], image[0, 1] = 0, 255
    return Image.fromarray(image)


def grey() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array(picture().convert("L"))


def read(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pixels, of a picture about which there is nothing to say."""
    found = read_picture(path)
    assert not found.notes and found.pixels.mode == "RGB"
    return np.array(found.pixels)


def note(path: Path) -> str:
    """The only thing that there is to say of a picture."""
    (sentence,) = read_picture(path).notes.values()
    assert sentence.startswith(f"image {path} ") and sentence.endswith(".")
    return sentence


def write_png(path: Path, pixels: np.ndarray[Any, Any], colour: int, key: bytes = b"") -> Path:
    """A PNG of 16 bits a channel; Pillow writes only grey ones. `colour` is PNG's number of the kind of pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"tRNS", key) if key else b""]
    path.write_bytes(b"".join([*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]))
    return path


def write_tiff(path: Path, pixels: np.ndarray[Any, Any], **tags: int) -> Path:
    """An uncompressed TIFF of any samples; `tags` replace their numbers: photometric, sample_format, planes."""
    height, width, *channels = pixels.shape
    count, planes = channels[0] if channels else 1, tags.get("planes", 1)
    data = (np.moveaxis(pixels, -1, 0) if planes == 2 else pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    strips = count if planes == 2 else 1
    values: dict[int, list[int]] = {
        256: [width], 257: [height], 258: [8 * pixels.itemsize] * count, 259: [1],
        262: [tags.get("photometric", 2 if count == 3 else 1)],
        273: [8 + i * len(data) // strips for i in range(strips)],
        277: [count], 278: [height], 279: [len(data) // strips] * strips, 284: [planes],
        339: [tags.get("sample_format", kind)] * count,
    }  # fmt: skip
    entries, extra = b"", b""
    start = 8 + len(data) + 2 + 12 * len(values) + 4
    for tag, numbers in values.items():
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, extra = struct.pack("<I", start + len(extra)), extra + packed
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    directory = struct.pack("<H", len(values)) + entries + struct.pack("<I", 0) + extra
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    return path


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def red_is_blue() -> bytes:
    """A profile like sRGB whose red primary is its blue one, and the reverse."""
    return srgb().replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def linear_grey() -> bytes:
    """A profile of grey pictures whose values are proportional to light."""
    white = struct.pack(">4sIIII", b"XYZ ", 0, 0xF6D6, 0x10000, 0xD32D)
    curve = struct.pack(">4sIIHH", b"curv", 0, 1, 0x0100, 0)
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    header = struct.pack(">I4sI4s4s4s12x4s28xIII48x", 156 + len(white) + len(curve), b"", 0x02100000, b"mntr", b"GRAY",
                         b"XYZ ", b"acsp", 0xF6D6, 0x10000, 0xD32D)  # fmt: skip
    return header + table + white + curve


# 16 bits


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
    assert f"has 16 bits and values up to {largest}; it is taken as {bits} bits stored in 16" in note(
        tmp_path / "a.png"
    )
    assert (np.array(read_picture(tmp_path / "a.png").pixels) == grey()[..., None]).all()


def test_what_is_lost_of_12_bits_in_colour_is_said(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", np.array(picture()).astype(np.uint16) * 16, 2)
    assert "uses the lower 12 alone, of which 4 can be read; scale it to 0..65535" in note(path)


@pytest.mark.parametrize(
    ("dtype", "held"),
    [("float32", "floats"), ("int16", "signed integers"), ("int32", "signed integers"), ("int8", "signed integers"),
     ("uint32", "integers of 32 bits"), ("float64", "floats")],
)  # fmt: skip
def test_values_without_a_known_range_are_refused_by_name(dtype: str, held: str, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", grey().astype(dtype))
    with pytest.raises(
        ImageError, match=rf"image .*a\.tif can't be read: it .*{held}.*; scale its values to 0\.\.255 or"
    ):
        read_picture(path)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_so_are_pil_images(mode: str) -> None:
    with pytest.raises(ImageError, match=rf"image_b \(a PIL image\) can't be read: it holds .* \(mode {mode}\)"):
        simplematch.match(picture(), picture().convert(mode))


def test_planes_of_16_bits_are_refused(tmp_path: Path) -> None:
    """Pillow reads each as one of 8 bits."""
    colours = np.array(picture()).astype(np.uint16) * 257
    with pytest.raises(
        ImageError, match="it keeps each channel's 16 bits in a plane of its own; save its channels inter"
    ):
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
    assert (decode_image(tmp_path / "a.png") == np.array(pair[0])).all()  # and so it is trained on and evaluated


# Transparency, palettes and few colours


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGBa", "La"])
def test_transparent_pixels_are_white(mode: str) -> None:
    image = Image.new("RGBA", (40, 30), (90, 90, 90, 255))
    image.paste((200, 200, 200, 0), (0, 0, 20, 30))
    if mode == "P":
        image = image.convert("RGB").quantize(4)
        image.info["transparency"] = image.getpixel((0, 0))
    elif mode == "PA":
        grey, alpha = image.convert("L"), image.getchannel("A")
        image = grey.convert("P").convert("PA")
        image.putalpha(alpha)
    elif mode == "La":
        image = image.convert("LA").convert(mode)
    else:
        image = image.convert(mode)
    found = np.array(read_image(image))
    assert (found[:, :20] == WHITE).all() and (found[:, 20:] == 90).all()


def test_half_transparent_pixels_are_mixed_with_white_and_opaque_ones_stay() -> None:
    image = picture().convert("RGBA")
    assert (np.array(read_image(image)) == np.array(picture())).all()
    image.putalpha(128)
    expected = np.array(picture()) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(np.array(read_image(image)) - expected).max() <= 1


def test_a_picture_that_is_transparent_everywhere_keeps_its_colours(tmp_path: Path) -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    assert "is transparent everywhere; its colours are taken" in note(tmp_path / "a.png")
    assert (np.array(read_picture(tmp_path / "a.png").pixels) == np.array(picture())).all()


def test_one_bit_and_palettes(tmp_path: Path) -> None:
    bits = picture().convert("1")
    bits.save(tmp_path / "one.png")
    assert (read(tmp_path / "one.png") == np.array(bits)[..., None] * 255).all()
    few = picture().quantize(16)
    few.save(tmp_path / "few.png")
    assert (read(tmp_path / "few.png") == np.array(few.convert("RGB"))).all()


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif"])
def test_of_several_pictures_the_first_is_taken_and_that_is_said(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {}
    first, second = Image.new("RGB", (40, 30), RED), Image.new("RGB", (40, 30), BLUE)
    first.save(path, save_all=True, append_images=[second], **options)
    assert "holds several pictures, of which the first is taken" in note(path)
    assert (np.array(read_picture(path).pixels) == RED).all()
    with pytest.warns(ImageWarning, match=rf"image .*a\.{kind} holds several pictures"):
        read_image(path)


def test_a_pil_image_stays_at_its_frame_and_open(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.new("RGB", (40, 30), RED).save(path, save_all=True, append_images=[Image.new("RGB", (40, 30), BLUE)])
    with Image.open(path) as image:
        image.seek(1)
        assert (np.array(read_image(image)) == BLUE).all() and image.tell() == 1
        image.seek(0)  # works only if it is open


# Colours


def test_cmyk_of_a_jpeg_is_inverted_as_adobe_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(path, quality=100)
    assert b"Adobe" in path.read_bytes() and np.abs(read(path).astype(int) - RED).max() < 4
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert (read(tmp_path / "a.tif") == RED).all()


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
def test_a_colour_profile_is_applied(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {"quality": 100} if kind == "jpg" else {}
    Image.new("RGB", (40, 30), RED).save(path, icc_profile=red_is_blue(), **options)
    assert np.abs(read(path).astype(int) - BLUE).max() < 4


def test_srgb_changes_nothing(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png", icc_profile=srgb())
    assert (read(tmp_path / "a.png") == np.array(picture())).all()


def test_profiles_of_grey_pictures(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    light = ramp / 255.0
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    Image.fromarray(ramp).save(tmp_path / "8.png", icc_profile=linear_grey())
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "16.png", icc_profile=linear_grey())
    Image.fromarray(ramp).convert("LA").save(tmp_path / "la.png", icc_profile=linear_grey())
    for name in ("8", "16", "la"):
        assert np.abs(read(tmp_path / f"{name}.png")[..., 0] - expected).max() < 2
    Image.fromarray(ramp).save(tmp_path / "rgb.png", icc_profile=srgb())  # of the colours that it came from
    assert (read(tmp_path / "rgb.png") == ramp[..., None]).all()


def test_transparency_and_profiles_together(tmp_path: Path) -> None:
    image = Image.new("RGBA", (40, 30), (*RED, 255))
    image.paste((*GREEN, 0), (0, 0, 20, 30))
    image.save(tmp_path / "a.png", icc_profile=red_is_blue())
    found = read(tmp_path / "a.png").astype(int)
    assert (found[:, :20] == WHITE).all() and np.abs(found[:, 20:] - BLUE).max() < 4


@pytest.mark.parametrize("profile", [b"none", srgb()[:200], linear_grey()])
def test_a_profile_that_does_not_fit_is_left_out_and_that_is_said(profile: bytes, tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png", icc_profile=profile)
    assert "has a colour profile that can't be applied (" in note(tmp_path / "a.png")
    assert (np.array(read_picture(tmp_path / "a.png").pixels) == np.array(picture())).all()


# Turned pictures


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(orientation: int, kind: str, tmp_path: Path) -> None:
    """A red corner that the tag brings to the upper left, on a picture that it brings upright."""
    turns = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = Image.new("RGB", (48, 32), BLUE)
    upright.paste(RED, (0, 0, 16, 16))
    turn = turns[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{kind}", exif=exif)
    found = read(tmp_path / f"a.{kind}").astype(int)
    assert found.shape == (32, 48, 3)
    assert np.abs(found[4:12, 4:12] - RED).max() < 30 and np.abs(found[20:, 20:] - BLUE).max() < 30


# Files that can't be read, or hardly be matched


@pytest.mark.parametrize("size", [(1, 1), (3, 4000), (4000, 3), (15, 100), (1100, 100)])
def test_images_too_small_or_too_long_are_warned_of(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    wanted = rf"a\.png is {size[0]} x {size[1]} pixels; with a side below 16 pixels or one more than 10 times the other"
    with pytest.warns(ImageWarning, match="image .*" + wanted):
        read_image(tmp_path / "a.png")
    with pytest.warns(ImageWarning, match="image is .* pixels; with"):
        read_image(np.array(Image.open(tmp_path / "a.png")))


def test_matching_warns_where_it_is_called(tmp_path: Path) -> None:
    Image.new("RGB", (3, 400)).save(tmp_path / "a.png")
    with pytest.warns(ImageWarning, match=r"image_b .*a\.png is 3 x 400 pixels") as caught:
        simplematch.match(picture(), tmp_path / "a.png", [(5, 5)])
    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]


def test_others_are_not(tmp_path: Path) -> None:
    for size in ((16, 16), (16, 160), (640, 480)):
        Image.new("RGB", size).save(tmp_path / "a.png")
        assert not read_picture(tmp_path / "a.png").notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"no picture", "it is damaged, or of none of the formats JPEG, "),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is damaged, or of none of the formats JPEG, "),
        (b"II*\0", "it is a damaged TIFF"),
        ("jpeg", "image file is truncated"),
        ("gif", ""),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_what_is_no_whole_picture_is_named_and_closed(content: bytes | str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    if isinstance(content, str):
        file = io.BytesIO()
        picture(400, 300).save(file, content)
        content = file.getvalue()[: len(file.getvalue()) // 2]
    path.write_bytes(content)
    for attempt, failure in ((read_picture, "read"), (decode_image, "decoded")):
        with pytest.raises(ImageError, match=rf"image .*a\.jpg can't be {failure}: {message}") as caught:
            attempt(path)
        assert "\n" not in str(caught.value)
    del caught
    gc.collect()


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["gif", "tif", "png", "jpg", "webp"])
def test_files_are_closed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    options = {} if kind == "jpg" else {"save_all": True, "append_images": [Image.new("RGB", (40, 30))]}
    picture().save(path, **options)
    opened = len(os.listdir("/proc/self/fd"))
    kept = [read_picture(path), decode_image(path), image_size(path)]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == opened and kept


def test_missing_files_folders_and_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"image .*none\.png is missing"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(ImageError, match="can't be read: is a directory"):
        read_picture(tmp_path)
    with pytest.raises(ImageError, match="can't be read: embedded null byte"):
        read_picture("a\0.png")
    picture().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ImageError, match=r"a\.png can't be read: .*1200 pixels.*MAX_IMAGE_PIXELS can be raised"):
        read_picture(tmp_path / "a.png")


def test_a_pipe_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "a.png").read_bytes()))
    writer.start()
    assert (read(tmp_path / "pipe") == np.array(picture())).all()
    writer.join()


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    """1000 files with changed or missing bytes: a picture, or an ImageError of one line."""
    draw = random.Random(3)
    files = []
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        file = io.BytesIO()
        picture().save(file, kind, icc_profile=red_is_blue())
        files.append(file.getvalue())
    path = tmp_path / "a"
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged tags
        for _ in range(1000):
            content = bytearray(draw.choice(files))
            for _ in range(draw.choice((1, 5))):
                content[draw.randrange(min(draw.choice((60, 2000)), len(content)))] = draw.randrange(256)
            path.write_bytes(content[: draw.randrange(len(content))] if draw.random() < 0.3 else content)
            try:
                read_picture(path)
            except ImageError as error:
                refused += 1
                assert "\n" not in str(error) and str(error).startswith(f"image {path} can't be read: ")
    assert 250 < refused < 950


def test_of_a_data_set_only_the_first_image_of_a_kind_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_logged", set())
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", width=12)
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b"):
            decode_image(tmp_path / f"{name}.png")
    (record,) = caplog.records
    assert "a.png is 12 x 30 pixels" in record.getMessage() and "not reported" in record.getMessage()


def test_every_format_is_named_to_pillow(tmp_path: Path) -> None:
    """Formats that run other programs, or guess, are none of them."""
    Image.init()
    assert {"JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"} <= set(FORMATS)
    for name in ("EPS", "PSD", "WMF", "TGA", "FITS"):
        assert name in Image.OPEN and name not in FORMATS
    assert TiffImagePlugin.TiffImageFile.format in FORMATS
