import io

import numpy as np
import pytest
import torch
from PIL import Image

from genseg import GensegError, Segmenter
from genseg.images import load_image, model_size, to_image, to_tensor

LIMIT = 10**6
GREY = np.arange(32 * 64, dtype=np.uint8).reshape(32, 64)  # every value, eight times


def loaded(source) -> np.ndarray:
    image = load_image(source, LIMIT)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_grayscale_is_the_same_in_all_channels(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "gray.png")
    assert np.array_equal(loaded(tmp_path / "gray.png"), np.stack([GREY] * 3, axis=2))


def test_transparency_goes_white(tmp_path):
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[..., 0], rgba[:, 8:16, 3], rgba[:, 16:, 3] = 200, 51, 255
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    for source in (tmp_path / "rgba.png", rgba, torch.from_numpy(rgba).permute(2, 0, 1)):
        assert loaded(source)[0, [0, 8, 16]].tolist() == [[255, 255, 255], [244, 204, 204], [200, 0, 0]]


def test_a_transparent_palette_entry_goes_white(tmp_path):
    indexed = Image.fromarray((GREY % 2).astype(np.uint8))
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.save(tmp_path / "palette.png", transparency=1)
    assert loaded(tmp_path / "palette.png")[0, :2].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for source in (tmp_path / "deep.png", deep, deep[..., None], torch.from_numpy(deep)):
        assert np.array_equal(loaded(source)[..., 0], GREY)


def test_cmyk_jpeg_has_the_colors_of_its_rgb(tmp_path):
    colors = np.zeros((32, 96, 3), np.uint8)
    colors[:, :32, 0], colors[:, 32:64, 1], colors[:, 64:, 2] = 255, 255, 255
    Image.fromarray(colors).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(loaded(tmp_path / "cmyk.jpg")[:, 16::32].astype(int) - colors[:, 16::32]).max() < 10


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_taken_as_0_to_1(dtype):
    array = (GREY / 255).astype(dtype)
    assert np.array_equal(loaded(array)[..., 0], GREY)


def test_channels_come_last_in_arrays_and_first_in_tensors(photo):
    array = np.array(photo)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for source in (array, tensor, tensor / 255, (tensor / 255).double().requires_grad_()):
        assert np.array_equal(loaded(source), array)


@pytest.mark.parametrize(
    ("image", "model"),
    [
        ((512, 512), (512, 512)),  # not one step more, for rounding
        ((640, 427), (640, 448)),  # exactly 626.8×418.2
        ((427, 640), (448, 640)),
        ((640, 639), (512, 512)),  # exactly 512.4×511.6: whole pixels first
        ((2000, 20), (5120, 64)),  # exactly 5120×51.2
        ((16, 16), (512, 512)),
    ],
)
def test_model_size_keeps_the_area_and_rounds_up(image, model):
    assert model_size(*image, 512, 64, "area") == model


def test_one_narrow_image_does_not_fill_the_memory():
    with pytest.raises(GensegError, match=r"1000000x16 pixels is too narrow.*crop it"):
        model_size(1_000_000, 16, 512, 64, "area")
    assert model_size(1_000_000, 16, 512, 64, "square") == (512, 512)
    assert model_size(640, 64, 64, 64, "area") == (256, 64)


def test_model_size_squeezes_into_a_square():
    assert model_size(640, 427, 100, 64, "square") == (128, 128)


def test_tensors_lie_between_minus_one_and_one():
    black_and_white = Image.fromarray(np.where(GREY % 2, 255, 0).astype(np.uint8)).convert("RGB")
    same = to_tensor(black_and_white, (64, 32))
    assert same.shape == (1, 3, 32, 64)
    assert same.dtype == torch.float32
    assert same[0, 0, 0, :2].tolist() == [-1, 1]
    scaled = to_tensor(black_and_white, (48, 80))  # LANCZOS overshoots at edges
    assert scaled.shape == (1, 3, 80, 48)
    assert scaled.min() >= -1
    assert scaled.max() <= 1


def test_labels_of_a_rotated_file_are_upright(tiny, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: stored turned left by a quarter
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert np.abs(loaded(tmp_path / "turned.jpg").astype(int) - np.asarray(photo)).mean() < 5

    segmenter = Segmenter(tiny, draws=1, replay_steps=1, n_init=1, n_clusters=4, size=32, margin=0)
    turned, upright = segmenter(tmp_path / "turned.png"), segmenter(photo)
    assert turned.labels.shape == (64, 96)
    assert np.array_equal(turned.labels, upright.labels)


def test_pixels_become_an_image_and_back():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    pixels = to_tensor(image, image.size)[0]
    assert np.array_equal(np.asarray(to_image(pixels)), np.asarray(image))
    assert np.array_equal(np.asarray(to_image(3 * pixels.sign())), np.asarray(to_image(pixels.sign())))


def test_the_content_of_a_file_is_an_image(photo):
    buffer = io.BytesIO()
    photo.save(buffer, format="PNG")
    assert np.array_equal(np.asarray(load_image(buffer.getvalue(), 10**6)), np.asarray(photo))
    for content, problem in ((b"", "is empty"), (b"no image", "not an image"), (buffer.getvalue()[:-100], "truncated")):
        with pytest.raises(GensegError, match=problem):
            load_image(content, 10**6)
