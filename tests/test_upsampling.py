"""Upsamplers agree with their definitions, find the edges of the image, and are called as the field calls them."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import genseg
from genseg import GensegError
from genseg.hookspecs import hookimpl
from genseg.images import to_tensor
from genseg.interface import Upsampler
from genseg.plugins import Plugins
from genseg.registry import UPSAMPLERS
from genseg.upsampling import splatting
from genseg.upsampling.bilateral import COLOR, SPACE, filtered, jbu
from genseg.upsampling.splatting import upsample_anything
from genseg.upsampling.upsample import CELL, METHODS, refined

DISC = torch.from_numpy(((np.indices((64, 64)) - 31.5) ** 2).sum(axis=0) < 400)
GUIDED = [name for name in METHODS if name != "bilinear"]


@pytest.fixture(scope="module")
def disc():
    """A disc on a ground of another color, with a little noise: float32 [1, 3, 64, 64]."""
    noise = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    return (torch.where(DISC, 0.6, -0.4) + 0.02 * noise)[None]


def scaled(features, size):
    return F.interpolate(features, size, mode="bilinear", align_corners=False)


def test_bilinear_is_that_of_torch(photo):
    features = torch.rand(2, 5, 7, 9)
    assert torch.equal(genseg.upsample(photo, features, (40, 56), method="bilinear"), scaled(features, (40, 56)))
    assert torch.equal(genseg.upsample(photo, features[0], (40, 56), "bilinear"), scaled(features, (40, 56))[0])


@pytest.mark.parametrize("method", METHODS)
def test_constant_features_stay_constant_at_any_size(method, photo):
    constants = torch.tensor([-3.0, 0.0, 0.25])[:, None, None]
    result = genseg.upsample(photo, constants.expand(3, 5, 7).half(), (37, 50), method)  # no multiples of the grid
    assert result.shape == (3, 37, 50)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, constants.expand(3, 37, 50), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_channels_are_means_of_cells_and_all_treated_alike(method, disc):
    features = torch.rand(3, 8, 8)
    result = METHODS[method](disc, features)
    assert result.min() >= features.min() - 1e-5
    assert result.max() <= features.max() + 1e-5
    torch.testing.assert_close(METHODS[method](disc, features.flip(0)), result.flip(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", GUIDED)
def test_coarse_maps_come_to_the_edges_of_the_image(method, disc):
    coarse = F.avg_pool2d(torch.stack([~DISC, DISC]).float(), 8)
    before, after = scaled(coarse[None], (64, 64))[0], METHODS[method](disc, coarse)
    assert (before.argmax(dim=0) == DISC).float().mean() < 0.98
    assert (after.argmax(dim=0) == DISC).float().mean() > 0.995


def test_a_pass_of_jbu_is_the_weighted_mean_that_it_says():
    rng = torch.Generator().manual_seed(0)
    maps, image = torch.rand(2, 12, 12, generator=rng), torch.rand(3, 12, 12, generator=rng) / 10
    row, column, dilation = 6, 1, 2  # two taps lie beyond the border
    total, weights = torch.zeros(2), 0.0
    for down in range(-2, 3):
        for right in range(-2, 3):
            y, x = row + dilation * down, max(column + dilation * right, 0)
            distance = float((image[:, y, x] - image[:, row, column]).square().sum())
            weight = np.exp(-distance / (2 * COLOR**2) - (down**2 + right**2) / (2 * SPACE**2))
            total, weights = total + weight * maps[:, y, x], weights + weight
    torch.testing.assert_close(filtered(maps, image, dilation)[:, row, column], (total / weights).float())


def test_upsample_anything_rebuilds_an_image_from_its_small_copy(photo):
    image = to_tensor(photo, (64, 48))
    small = scaled(image, (6, 8))[0]
    errors = [(method(image, small) - image[0]).abs().mean() for method in (METHODS["bilinear"], upsample_anything)]
    assert errors[1] < 0.4 * errors[0]


def test_the_gradient_of_upsample_anything_is_that_of_its_error(photo):
    splats = splatting.Splats((to_tensor(photo, (40, 32))[0] + 1) / 2, (4, 5))
    around = splatting._neighbors(splatting._precisions(splats.gaussians)).requires_grad_()
    weights = torch.cat([splats._weights(around, chunk)[0] for chunk in splats.chunks], dim=1)
    F.l1_loss(splatting._mean(weights, splats.colors), splats.pixels).backward()
    assert around.grad.abs().max() > 1e-5
    torch.testing.assert_close(splats._gradient(around.detach()), around.grad, atol=1e-8, rtol=1e-4)


def test_upsample_anything_takes_gradients_where_the_caller_takes_none(disc):
    image, features = disc[:, :, 16:48, 16:48], torch.rand(2, 4, 4)
    result = upsample_anything(image, features)
    with torch.inference_mode():
        assert torch.equal(upsample_anything(image.clone(), features.clone()), result)
    assert not result.requires_grad


def test_each_of_several_feature_maps_has_its_own_image(disc):
    features, levels = torch.rand(1, 2, 8, 8).expand(2, -1, -1, -1), (disc / 2 + 0.5).clamp(0, 1)
    images = torch.cat([levels, levels.flip(3)])
    result = genseg.upsample(images, features, (64, 64))
    assert torch.equal(result[1], genseg.upsample(images[1], features[1], (64, 64)))
    assert torch.equal(result, genseg.upsample(list(images), features, (64, 64)))
    assert not torch.equal(result[0], result[1])
    assert torch.equal(genseg.upsample(images[0], features, (64, 64))[1], result[0])


def test_refinement_leaves_maps_as_they_are_or_filters_them(disc):
    maps = torch.rand(2, 64, 64)
    assert refined(maps, disc, "none") is maps
    assert torch.equal(refined(maps, disc, "jbu"), jbu(disc, maps))


def test_fine_maps_are_averaged_for_what_only_upsamples(disc):
    image, maps = disc[:, :, 16:48, 16:48], torch.rand(2, 32, 32)
    coarse = F.avg_pool2d(maps, CELL)
    expected = upsample_anything(image, coarse)
    assert torch.equal(refined(maps, image, "upsample-anything"), expected)
    assert torch.equal(refined(coarse, image, "upsample-anything"), expected)


def test_what_cannot_be_upsampled_is_refused(photo):
    features = torch.rand(2, 8, 8)
    with pytest.raises(GensegError, match="unknown upsampler 'jbuu': did you mean jbu"):
        genseg.upsample(photo, features, (64, 64), method="jbuu")
    for wrong in (features[0], features.int(), features.numpy()):
        with pytest.raises(GensegError, match=r"floating-point tensor \[C, h, w\] or \[N, C, h, w\]"):
            genseg.upsample(photo, wrong, (64, 64))
    for size in ((64,), (0, 64), 64, None, (64.0, 64), "64"):
        with pytest.raises(GensegError, match=r"size must be \(height, width\)"):
            genseg.upsample(photo, features, size)
    with pytest.raises(GensegError, match="2 feature maps need one image for all of them, or 2 images, not 3"):
        genseg.upsample([photo] * 3, torch.stack([features] * 2), (64, 64))


class Nearest(Upsampler):
    """Repeats cells, from a factory of this module."""

    name = "nearest"

    def __call__(self, image, features):
        return F.interpolate(features[None], image.shape[2:])[0]


def nearest(model=None, device=None, dtype=None):  # noqa: ARG001
    return Nearest()


@hookimpl
def register_upsamplers(register):
    register("nearest", f"{__name__}:nearest")


@pytest.fixture
def plugin(monkeypatch):
    """This module as a plug-in."""
    plugins = Plugins("upsampler")
    plugins.add(sys.modules[__name__], "test:nearest")
    monkeypatch.setattr(UPSAMPLERS, "plugins", plugins)


@pytest.mark.usefixtures("plugin")
def test_an_upsampler_of_a_plug_in_has_its_name(photo):
    features = torch.rand(2, 8, 8)
    expected = features.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(genseg.upsample(photo, features, (32, 32), "nearest"), expected)
    assert torch.equal(genseg.upsample(photo, features, (32, 32), Nearest()), expected)
    with pytest.raises(GensegError, match="did you mean nearest"):
        genseg.upsample(photo, features, (32, 32), "neares")
