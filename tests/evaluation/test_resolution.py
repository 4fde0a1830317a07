"""Samples at the resolutions of the literature."""

import numpy as np
import pytest
from PIL import Image

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Sample
from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.resolution import at_resolution


def sample(width=211, height=149):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    truth = rng.integers(0, 200, (height, width))
    truth[5:40, 90:120] = IGNORE
    return Sample("one", image, (truth, rng.integers(0, 3, (height, width))))


def test_full_is_the_sample_itself():
    whole = sample()
    assert at_resolution(whole, "full") is whole


@pytest.mark.parametrize("how", ["512", "320", "128"])
@pytest.mark.parametrize("size", [(211, 149), (149, 211)])
def test_the_centre_square_is_scaled_as_label_files_are(how, size):
    whole, side = sample(*size), int(how)
    result = at_resolution(whole, how)
    edge = min(size)
    left, top = (size[0] - edge) // 2, (size[1] - edge) // 2
    box = (left, top, left + edge, top + edge)
    assert result.key == "one"
    assert result.image == whole.image.crop(box).resize((side, side), Image.Resampling.LANCZOS)
    as_file = Image.fromarray(np.where(whole.truths[0] == IGNORE, 255, whole.truths[0]).astype(np.uint8)).crop(box)
    expected = np.asarray(as_file.resize((side, side), Image.Resampling.NEAREST), dtype=np.int64)
    assert result.truths[0].dtype == np.int64
    assert (result.truths[0] == np.where(expected == 255, IGNORE, expected)).all()
    assert [truth.shape for truth in result.truths] == [(side, side)] * 2


def positions(width, height):
    """A sample whose ground truth numbers its pixels."""
    truth = np.arange(width * height).reshape(height, width)
    return Sample("one", Image.fromarray((truth % 256).astype(np.uint8)).convert("RGB"), (truth,))


def test_diffcut_measures_every_eighth_pixel_of_a_square_one_pixel_short():
    result = at_resolution(positions(500, 375), "diffcut")
    rows = np.floor((8 * np.arange(128) + 0.5) * 374 / 1024).astype(int)  # 374 pixels, from row 0 and column 63
    assert result.image.size == (1024, 1024)
    assert (result.truths[0] == 500 * rows[:, None] + 63 + rows).all()


def test_diffcut_rounds_half_a_pixel_of_its_crop_to_even():
    first = at_resolution(positions(20, 22), "diffcut").truths[0][0, 0]
    assert first == 2 * 20  # of 22 rows, one and a half are above 19; of 20 columns, half a one is on the left


def test_diffseg_takes_the_lower_of_two_pixels_that_are_as_near():
    result = at_resolution(positions(1024, 1024), "diffseg")
    assert (result.truths[0] == 1024 * np.arange(1, 1024, 2)[:, None] + np.arange(1, 1024, 2)).all()
    assert (np.asarray(result.image)[0, :3, 0] == (np.arange(3) * 2 + 0.5).round()).all()  # the mean of 2×2, unblurred


def test_stego_scales_first_and_cuts_the_centre_after():
    result = at_resolution(positions(400, 640), "stego")  # to 320×512, then rows 96 to 415
    rows, columns = np.floor((np.arange(96, 416) + 0.5) * 1.25), np.floor((np.arange(320) + 0.5) * 1.25)
    assert (result.truths[0] == 400 * rows[:, None] + columns).all()
    assert (np.asarray(result.image)[..., 0] == result.truths[0] % 256).all()  # images by the nearest pixel, too


def test_cause_squeezes_photos_of_voc():
    result = at_resolution(positions(640, 320), "cause-voc")
    assert (result.truths[0] == 640 * np.arange(320)[:, None] + 2 * np.arange(320) + 1).all()


@pytest.mark.parametrize(
    ("size", "scaled"), [((640, 480), (853, 640)), ((1280, 2000), (640, 1000)), ((100, 1000), (256, 2560))]
)
def test_seg4diff_scales_the_shorter_side_within_a_longest_one(size, scaled):
    result = at_resolution(positions(*size), "seg4diff")
    assert result.image.size == scaled == result.truths[0].shape[::-1]


def test_other_names_are_refused():
    with pytest.raises(GensegError, match="unknown resolution '521': did you mean 512"):
        at_resolution(sample(), "521")
