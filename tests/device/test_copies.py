"""Work that a card waits for: copies from the host, synchronizations, and float64, which some have not."""

import pytest
import torch
from models import sd_parts, sd_unet
from standin import counted

import genseg
from genseg_backends.families.stable_diffusion import StableDiffusion


@pytest.fixture(scope="module")
def narrow():
    """The layers of Stable Diffusion 1.5 with few channels: as many launches and copies as the released weights."""
    unet = sd_unet(block_out_channels=(8, 8, 8, 8), attention_head_dim=2, norm_num_groups=4)
    parts = {**sd_parts(), "unet": unet}
    return StableDiffusion(**parts | {key: torch.nn.Module.to(parts[key], "cuda") for key in ("unet", "vae")})


def counts_of(backend, image, recipe, **overrides):
    segmenter = genseg.Segmenter(backend, recipe, **{"size": 128, "n_clusters": 15, "n_init": 1} | overrides)
    with counted() as counts:
        segmenter(image)
    return counts


@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_an_image_takes_few_copies_and_waits(narrow, photo, recipe):
    counts = counts_of(narrow, photo, recipe)
    assert counts["to_card"] <= 6  # the image, noise of inversion and features, masks
    assert counts["to_host"] <= 4  # features, labels and their confidence
    assert counts["synchronizations"] <= 12  # most of them for the times of the stages


def test_no_step_copies_anything_or_waits_for_the_card(narrow, photo):
    few, many = (counts_of(narrow, photo, "paper", replay_steps=steps) for steps in (3, 6))
    assert few["launches"] < many["launches"]
    for each in ("to_card", "to_host", "synchronizations"):
        assert few[each] == many[each], each


def test_float64_is_on_the_card_for_the_sum_of_features_alone(load, pixels):
    backend = load("sd3")  # that sum is in float32 on Apple's devices; FLUX's positions are as the library has them
    point, recipe = next(iter(backend.points.values())), backend.resolve(num_inference_steps=5, replay_steps=2)
    with counted() as counts:
        state = backend.encode(pixels(64, 64), recipe, 0)
        backend.decode(backend.regenerate(state, point, torch.ones(1, *point.grid_for(64, 64)), recipe))
        backend.generate("", 0, recipe)
    assert counts["float64"] == 0
