"""Work that a card waits for: copies from the host, synchronizations, and float64, which some have not."""

import pytest
import torch
from models import sd_parts, sd_unet
from standin import counted

import genseg
from genseg.cluster.kmeans import kmeans
from genseg_backends.families.stable_diffusion import StableDiffusion


@pytest.fixture(scope="module")
def narrow():
    """The layers of Stable Diffusion 1.5 with few channels: as many launches and copies as the released weights."""
    ways = {
        "down": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }
    levels = {"block_out_channels": (8,) * 4} | {f"{way}_block_types": kinds for way, kinds in ways.items()}
    unet = sd_unet(**levels, attention_head_dim=2, norm_num_groups=4, sample_size=16)
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
    assert counts["to_card"] <= 6  # the image, noise of inversion and features, draws of k-means, masks
    assert counts["to_host"] <= 4  # clusters and their means, labels and their confidence
    assert counts["synchronizations"] <= 16  # most of them for the times of the stages and steps of k-means


def test_no_step_copies_anything_or_waits_for_the_card(narrow, photo):
    few, many = (counts_of(narrow, photo, "paper", replay_steps=steps) for steps in (3, 6))
    assert few["launches"] < many["launches"]
    for each in ("to_card", "to_host", "synchronizations"):
        assert few[each] == many[each], each


def test_starts_of_kmeans_run_at_once_and_wait_for_no_step():
    points = torch.randn(200, 40, generator=torch.Generator().manual_seed(2)).cuda()
    with counted() as few:
        kmeans(points, 10, 2, seed=0)
    with counted() as many:
        kmeans(points, 10, 40, seed=0)
    assert many["launches"] < 2 * few["launches"]
    assert (many["to_card"], many["to_host"]) == (1, 0)
    assert many["synchronizations"] < 10


def test_float64_is_on_the_card_for_the_sum_of_features_alone(load, pixels):
    backend = load("sd3")  # that sum is in float32 on Apple's devices; FLUX's positions are as the library has them
    point, recipe = next(iter(backend.points.values())), backend.resolve(num_inference_steps=5, replay_steps=2)
    with counted() as counts:
        state = backend.encode(pixels(64, 64), recipe, 0)
        backend.decode(backend.regenerate(state, point, torch.ones(1, *point.grid_for(64, 64)), recipe))
        backend.generate("", 0, recipe)
    assert counts["float64"] == 0
