"""Refinement by color: coarse masks find the edges of the image, and filters agree with their definitions."""

import numpy as np
import pytest
import torch
from PIL import Image

from genseg import GensegError
from genseg.evaluation.method import Masks
from genseg.evaluation.refinements import REFINEMENTS, refined
from genseg.evaluation.refinements.crf import BilateralGrid
from genseg.upsampling.adaptive import affinity_of

SIDE = 48
DISC = ((np.indices((SIDE, SIDE)) - 23.5) ** 2).sum(axis=0) < 15**2


@pytest.fixture(scope="module")
def image():
    """A disc on a ground of another color, with a little noise."""
    colors = np.where(DISC[..., None], (200, 60, 60), (60, 90, 190)) + np.random.default_rng(0).normal(
        0, 4, (SIDE, SIDE, 3)
    )
    return Image.fromarray(colors.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def coarse():
    """The disc as a grid of 8×8 pixels a cell sees it, and a third segment of one pixel."""
    cells = DISC.reshape(6, 8, 6, 8).mean(axis=(1, 3)) > 0.5
    segments = np.repeat(np.repeat(cells, 8, axis=0), 8, axis=1).astype(np.int32)
    segments[2, 2] = 2
    return Masks(segments, np.arange(6, dtype=np.float32).reshape(3, 2))


@pytest.mark.parametrize("how", REFINEMENTS)
def test_coarse_masks_come_to_the_edges_of_the_image(how, image, coarse):
    found = refined(coarse, image, how)
    before, after = ((masks.segments == 1) == DISC for masks in (coarse, found))
    assert before.mean() < 0.95
    assert after.mean() > 0.99
    assert found.segments.dtype == np.int32
    assert found.segments.shape == (SIDE, SIDE)
    assert (found.embeddings == coarse.embeddings[:2]).all()  # the speck is gone, and its embedding with it


@pytest.mark.parametrize("how", REFINEMENTS)
def test_masks_that_follow_the_colors_stay(how, image):
    masks = Masks(DISC.astype(np.int32))
    found = refined(masks, image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST), how)
    assert (found.segments == DISC).mean() > 0.995
    assert found.embeddings is None


@pytest.mark.parametrize("how", REFINEMENTS)
def test_one_segment_stays_one(how, image):
    assert (refined(Masks(np.zeros((SIDE, SIDE), np.int32)), image, how).segments == 0).all()


def test_an_unknown_refinement_gives_the_nearest(image, coarse):
    with pytest.raises(GensegError, match="unknown refinement 'pmar': did you mean pamr"):
        refined(coarse, image, "pmar")


def test_affinity_is_even_where_all_is_of_one_color_and_small_across_an_edge():
    flat = affinity_of(torch.full((3, 9, 9), 0.3))
    assert flat.sum(dim=0) == pytest.approx(np.ones((9, 9)), abs=1e-5)
    assert flat.max() == pytest.approx(1 / 48)
    halves = torch.zeros(3, 64, 64)
    halves[:, :, 32:] = 1
    weights = affinity_of(halves)[:, 32, 31].reshape(6, 8)  # beside the edge; the neighbors to the right are across
    assert weights[:, [2, 4, 7]].max() < weights[:, [0, 1, 3, 5, 6]].min() / 100


def test_affinity_is_the_softmax_of_distances_in_deviations_of_whole_neighborhoods():
    image = np.random.default_rng(0).random((3, 3, 3)).astype(np.float32)
    around = np.delete(image.reshape(3, 9), 4, axis=1)
    deviation = image.reshape(3, 9).std(axis=1, ddof=1)  # with the pixel itself, as in the authors' code
    distances = np.abs(around - image[:, 1, 1, None]) / (0.1 * deviation[:, None])
    expected = np.exp(-distances.mean(axis=0))
    weights = affinity_of(torch.from_numpy(image), (1,))[:, 1, 1]
    assert weights == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_the_grid_filters_as_the_gaussian_over_position_and_color_does():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 120, 16)[None, :, None] + rng.normal(0, 5, (16, 16, 3))
    colors = ramp.clip(0, 255).astype(np.uint8)
    position, color = 6.0, 20.0
    found = BilateralGrid(colors, position, color)
    where = np.concatenate([np.indices((16, 16)).reshape(2, -1) / position, colors.reshape(-1, 3).T / color])
    kernel = np.exp(-((where[:, :, None] - where[:, None]) ** 2).sum(axis=0) / 2)
    maps = rng.random((16, 16, 2))
    expected = kernel @ maps.reshape(256, 2) / kernel.sum(axis=1, keepdims=True)
    got = (found.filtered(maps) / found.filtered(np.ones((16, 16, 1)))).reshape(256, 2)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.97
    assert np.abs(got - expected).max() < 0.15 * np.ptp(maps)
