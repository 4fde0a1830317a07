import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from genseg import GensegError, difference_maps, load_recipe
from genseg.modulate import ROUNDING, blurred, labels_and_confidence, labels_at, normalized


def test_blur_is_the_gaussian_of_three_by_three_pixels():
    images = torch.randn(2, 3, 9, 7)
    expected = gaussian_filter(images.numpy(), sigma=0.8, axes=(2, 3), mode="mirror", radius=1)
    assert blurred(images, 0.8).numpy() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(blurred(images, 0), images)
    torch.testing.assert_close(blurred(images, 1e-300), images)


def test_normalised_maps_have_unit_rms():
    maps = torch.rand(4, 8, 8) * torch.tensor([1e-3, 1.0, 50.0, 0.0]).view(4, 1, 1)
    rms = normalized(maps, "rms").square().mean(dim=(1, 2)).sqrt()
    assert rms.tolist() == pytest.approx([1, 1, 1, 0])
    assert normalized(maps, "none") is maps


def test_labels_are_the_argmax_at_the_maps_own_size():
    maps = torch.rand(6, 10, 12)
    assert torch.equal(labels_at(maps, 10, 12), maps.argmax(dim=0).int())


def test_labels_at_another_size_are_the_argmax_of_scaled_maps():
    maps = torch.rand(5, 8, 8)
    scaled = torch.nn.functional.interpolate(maps[None], (23, 17), mode="bilinear", align_corners=False)[0]
    labels = labels_at(maps, 23, 17)
    assert labels.dtype == torch.int32
    assert (labels == scaled.argmax(dim=0)).float().mean() == 1


def test_margins_are_what_the_largest_map_is_ahead_of_the_second():
    maps = torch.rand(5, 8, 8)
    maps[:, 0, 0] = 0
    maps[:, 0, 1] = 0.7
    labels, margins = labels_and_confidence(maps, 8, 8)
    first, second = maps.topk(2, dim=0).values
    assert torch.equal(labels, labels_at(maps, 8, 8))
    assert torch.allclose(margins, ((first - second) / first.clamp(min=1e-9)))
    assert margins[0, :2].tolist() == [0, 0], "no difference at all, and a tie"


@pytest.fixture(scope="module")
def encoded(tiny):
    recipe = load_recipe("fast", calibration=tiny.recipe, replay_steps=1)
    ys, xs = np.mgrid[:128, :128] / 64 - 1
    image = torch.from_numpy(np.stack([xs, ys, -xs])).float()[None]
    return recipe, tiny.encode(image, recipe, seed=0)


def halves(tiny) -> torch.Tensor:
    masks = torch.zeros(2, *tiny.points[next(iter(tiny.points))].grid)
    masks[0, :, : masks.shape[2] // 2] = 1
    masks[1] = 1 - masks[0]
    return masks


def test_each_mask_moves_its_own_pixels_most(tiny, encoded):
    recipe, state = encoded
    maps = difference_maps(tiny, state, halves(tiny), recipe)
    assert maps.shape == (2, 128, 128)
    left, right = maps[:, :, :64].mean(dim=(1, 2)), maps[:, :, 64:].mean(dim=(1, 2))
    assert left[0] > right[0]
    assert right[1] > left[1]


def test_an_offset_without_effect_is_an_error(tiny, encoded):
    recipe, state = encoded
    nothing = torch.zeros(2, *tiny.points[next(iter(tiny.points))].grid)
    with pytest.raises(GensegError, match="changes no pixel"):
        difference_maps(tiny, state, nothing, recipe)
    assert difference_maps(tiny, state, nothing, load_recipe(recipe, strength=0)).max() < ROUNDING


def test_an_offset_that_overflows_is_an_error(tiny, encoded):
    recipe, state = encoded
    with pytest.raises(GensegError, match="not finite"):
        difference_maps(tiny, state, halves(tiny) * 1e38, recipe)
