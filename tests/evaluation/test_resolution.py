"""Samples at the resolutions of the literature."""

import numpy as np
import pytest
from PIL import Image

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Sample
from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.resolution import RESOLUTIONS, at_resolution


def sample(width=211, height=149):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    truth = rng.integers(0, 200, (height, width))
    truth[5:40, 90:120] = IGNORE
    return Sample("one", image, (truth, rng.integers(0, 3, (height, width))))


def test_full_is_the_sample_itself():
    whole = sample()
    assert at_resolution(whole, "full") is whole


@pytest.mark.parametrize("how", RESOLUTIONS[1:])
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


def test_other_names_are_refused():
    with pytest.raises(GensegError, match="unknown resolution '521': did you mean 512"):
        at_resolution(sample(), "521")
