"""Image reading: correct pixels, or one sentence that names the file."""

from __future__ import annotations

import gc
import io
import logging
import os
import random
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

import simplematch
from simplematch.correspondences import read_image
from simplematch.data import ImageError, ImageWarning
from simplematch.data import images as reader
from simplematch.data.images import FORMATS, decode_image, image_size, read_picture

from .pictures import BLUE, GREEN, RED, WHITE, linear_grey, note, picture, read, red_is_blue, srgb
from .trees import write_image

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
    assert "is fully transparent; its transparency is ignored" in note(tmp_path / "a.png")
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
    assert "has several frames or pages; only the first is used" in note(path)
    assert (np.array(read_picture(path).pixels) == RED).all()
    with pytest.warns(ImageWarning, match=rf"image .*a\.{kind} has several frames or pages"):
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
    Image.fromarray(ramp).save(tmp_path / "rgb.png", icc_profile=srgb())  # the profile of the original colours
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


# Rotated images


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(orientation: int, kind: str, tmp_path: Path) -> None:
    """The EXIF rotation moves the red corner to the upper left."""
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


# Unreadable files, and images that are too small or too elongated


@pytest.mark.parametrize("size", [(1, 1), (3, 4000), (4000, 3), (15, 100), (1100, 100)])
def test_images_too_small_or_too_long_are_warned_of(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    wanted = rf"a\.png is {size[0]} x {size[1]} pixels; below 16 pixels a side or above an aspect ratio of 10"
    with pytest.warns(ImageWarning, match="image .*" + wanted):
        read_image(tmp_path / "a.png")
    with pytest.warns(ImageWarning, match="image is .* pixels; below"):
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
        (b"", "the file is empty"),
        (b"no picture", "the file is damaged, or is not one of the formats JPEG, "),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "the file is damaged, or is not one of the formats"),
        (b"II*\0", "the TIFF is damaged"),
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
    with pytest.raises(ImageError, match=r"a\.png can't be read: .*1200 pixels.*raise .*MAX_IMAGE_PIXELS"):
        read_picture(tmp_path / "a.png")


def test_a_pipe_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "a.png").read_bytes()))
    writer.start()
    assert (read(tmp_path / "pipe") == np.array(picture())).all()
    writer.join()


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    """1000 files with changed or missing bytes give an image or an ImageError of one line."""
    draw = random.Random(3)
    files = []
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        file = io.BytesIO()
        picture().save(file, kind, icc_profile=red_is_blue())
        files.append(file.getvalue())
    path = tmp_path / "a"
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about damaged tags
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
    """The list excludes formats that run other programs or guess."""
    Image.init()
    assert {"JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"} <= set(FORMATS)
    for name in ("EPS", "PSD", "WMF", "TGA", "FITS"):
        assert name in Image.OPEN and name not in FORMATS
    assert TiffImagePlugin.TiffImageFile.format in FORMATS
