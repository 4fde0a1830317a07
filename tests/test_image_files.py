"""Image files of every kind: what is read, how, and what is refused; nothing but an ImageError comes out."""

import io
import os
import struct
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from genseg.errors import ImageError
from genseg.images import load_image
from genseg.images.files import open_image

LIMIT = 10**6
GREY = np.arange(32 * 64, dtype=np.uint8).reshape(32, 64)  # every value, eight times


def encoded(image, kind="TIFF", **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def with_exif(content: bytes, entry: bytes) -> bytes:
    """A JPEG with EXIF data of two tags: the orientation 6, and ``entry``."""
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    tags = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + orientation + entry + bytes(4) + struct.pack("<ii", -1, 0)
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(tags) + 2) + tags + content[2:]


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<HHII", 0x011A, 10, 1, 38),  # a signed rational where an unsigned one is meant
        struct.pack("<HHIi", 0x8769, 9, 1, -5),  # a table of tags at a negative place
        struct.pack("<HHII", 0x0132, 99, 2**31, 2**31),  # of no type, and longer than any file
    ],
    ids=["signed", "negative", "nonsense"],
)
def test_odd_tags_do_not_matter_and_orientation_is_read(photo, entry):
    content = with_exif(encoded(photo, "JPEG", quality=95), entry)
    upright = photo.transpose(Image.Transpose.ROTATE_270)
    assert np.abs(np.asarray(load_image(content, LIMIT)).astype(int) - np.asarray(upright)).mean() < 5


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP", "AVIF"])
def test_every_format_is_turned_upright_once(photo, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = load_image(encoded(photo.transpose(Image.Transpose.ROTATE_90), kind, exif=exif), LIMIT)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(photo)).mean() < 10


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "ICNS", "PCX", "SGI"])
def test_formats_that_are_not_listed_are_not_opened(photo, kind, monkeypatch):
    content = encoded(photo.resize((64, 64)), kind)
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(ImageError, match="is not an image that genseg reads"):
        load_image(content, LIMIT)


def test_a_heic_photo_is_named():
    with pytest.raises(ImageError, match=r"is a HEIC photo.*convert it to JPEG or PNG"):
        load_image(b"\0\0\0\x18ftypheic" + bytes(100), LIMIT)


def test_integers_are_scaled_by_the_range_that_they_declare():
    for array, tags in (
        (GREY.astype(np.uint16) * 16, {280: 0, 281: 255 * 16}),
        (GREY.astype(np.int32) - 1000, {340: -1000, 341: -745}),
    ):
        assert np.array_equal(np.asarray(load_image(encoded(array, tiffinfo=tags), LIMIT))[..., 0], GREY)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (GREY.astype(np.int32), "not int32; convert it"),
        (GREY.astype(np.uint16) * 16, "less than a sixteenth.*scale its values to 0..65535"),
        (GREY.astype(np.float32), r"must lie in \[0, 1\], not \[0, 255\]; scale"),
    ],
    ids=["int32", "12-in-16", "float"],
)
def test_a_range_that_is_not_known_is_refused(image, problem):
    with pytest.raises(ImageError, match=problem):
        load_image(encoded(image), LIMIT)


def test_twelve_bits_a_color_in_sixteen_are_refused():
    image = np.stack([GREY.astype(np.uint16) * 16] * 3, axis=2)
    width, height, data = 64, 32, image.tobytes()
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 2), (273, 8), (277, 3), (278, height)]
    tags.append((279, len(data)))
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    content = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + table + bytes(4)
    with pytest.raises(ImageError, match="less than a sixteenth"):
        load_image(content, LIMIT)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_read_and_one_without_pixels_is_not(photo, progressive):
    content = encoded(photo, "JPEG", progressive=progressive)
    for missing in (1, 2):
        with pytest.warns(UserWarning, match="lacks its last bytes, but no pixel"):
            image = load_image(content[:-missing], LIMIT)
        assert np.array_equal(np.asarray(image), np.asarray(load_image(content, LIMIT)))
    with pytest.raises(ImageError, match="damaged or truncated"):
        load_image(content[:-20], LIMIT)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_taken_and_said(photo, kind):
    content = encoded(photo, kind, save_all=True, append_images=[Image.new("RGB", photo.size)])
    with pytest.warns(UserWarning, match="has several frames; the first is taken"):
        assert np.abs(np.asarray(load_image(content, LIMIT)).astype(int) - np.asarray(photo)).mean() < 30


def test_the_second_picture_of_a_phone_is_not_mentioned(photo):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = load_image(encoded(photo, "MPO", save_all=True, append_images=[photo.resize((32, 32))]), LIMIT)
    assert image.size == photo.size


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("annex/object")
    for path, problem in (
        ("pipe.png", "is no regular file"),
        ("gone.png", "is a link to annex/object, which does not exist"),
    ):
        with pytest.raises(ImageError, match=problem):
            open_image(tmp_path / path, LIMIT)
    with pytest.raises(ImageError, match="cannot be opened"):
        open_image(tmp_path / ("x" * 300), LIMIT)


def test_pillows_limit_is_raised_for_one_image_alone(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = encoded(GREY, compression="tiff_lzw")  # TIFF asks for the limit again as it is decoded
    with pytest.raises(ImageError, match="has more than 200 pixels, over the limit of 100"):
        load_image(content, 100)
    readers = [threading.Thread(target=load_image, args=(content, LIMIT)) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert Image.MAX_IMAGE_PIXELS == 100


def test_premultiplied_gray_is_read():
    assert np.array_equal(
        np.asarray(load_image(Image.fromarray(GREY).convert("LA").convert("La"), LIMIT))[..., 0], GREY
    )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (lambda: np.ma.masked_greater(GREY, 3), "masked array.*fill it"),
        (lambda: torch.zeros(3, 32, 32, device="meta"), "dense tensor"),
        (lambda: torch.zeros(32, 32).to_sparse(), "dense tensor"),
        (lambda: torch.nested.nested_tensor([torch.zeros(3, 3)], layout=torch.jagged), "dense tensor"),
        (lambda: torch.zeros(3, 32, 32).to(torch.float8_e4m3fn), "float8_e4m3fn, which NumPy does not have"),
        (lambda: GREY.astype(object), "not object"),
    ],
    ids=["masked", "meta", "sparse", "nested", "float8", "objects"],
)
def test_arrays_and_tensors_without_plain_numbers_are_refused(source, problem):
    with pytest.raises(ImageError, match=problem):
        load_image(source(), LIMIT)
