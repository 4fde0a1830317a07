"""Massive channels: planted in features and in the weights of a transformer, and left out of clusters."""

from __future__ import annotations

import pytest
import torch
from families import dit
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

import genseg
from genseg import GensegError, load_recipe
from genseg.cluster import cluster
from genseg.cluster.channels import massive_channels, with_channels
from genseg.pipeline import encode, find_clusters


@pytest.fixture
def planted() -> tuple[Tensor, Tensor]:
    """Features of two halves, top and bottom, with a massive channel of noise; and the halves."""
    halves = (torch.arange(8) < 4).float()[:, None].expand(8, 8)
    features = 0.1 * torch.randn(9, 8, 8, generator=torch.Generator().manual_seed(0))
    features[:8] += torch.where(halves > 0, 1.0, -1.0)
    features[8] = 100 + 10 * features[8]
    return features, halves


def agreement(features: Tensor, halves: Tensor, channels: str) -> float:
    recipe = load_recipe("paper", n_clusters=2, n_init=3)
    labels, _ = cluster(with_channels(features, channels), recipe)
    return adjusted_rand_score(halves.flatten().numpy(), labels.ravel())


def test_a_massive_channel_decides_clusters_unless_it_is_left_out_or_scaled(planted):
    features, halves = planted
    assert massive_channels(features).nonzero().flatten().tolist() == [8]
    assert agreement(features * torch.tensor([1.0] * 8 + [10.0])[:, None, None], halves, "all") < 0.5
    assert agreement(features, halves, "without-massive") == 1
    assert agreement(features, halves, "standardized") == 1
    assert with_channels(features, "massive")[:8].count_nonzero() == 0
    assert torch.equal(with_channels(features, "massive")[8], features[8])
    standardized = with_channels(features, "standardized")
    assert standardized.mean(dim=(1, 2)).abs().max() < 1e-4
    assert (standardized.square().mean(dim=(1, 2)) - 1).abs().max() < 1e-4


def test_no_massive_channel_is_an_error_that_says_what_to_do(planted):
    assert torch.equal(with_channels(planted[0][:8], "without-massive"), planted[0][:8])
    with pytest.raises(GensegError, match="use channels=all"):
        with_channels(planted[0][:8], "massive")


def test_channels_planted_in_a_transformer_are_found_at_its_output_and_left_out(tmp_path):
    pipeline = dit()
    block = pipeline.transformer.transformer_blocks[1]
    with torch.no_grad():
        block.ff.net[2].bias[5] = 1e6
    pipeline.save_pretrained(tmp_path)
    backend = genseg.load_backend("dit", model=str(tmp_path), device="cpu")
    assert backend.recipe["channels"] == "without-massive"
    recipe = backend.resolve(tap="b1.output", n_clusters=2, draws=1, n_init=1)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    state = encode(backend, pixels, recipe, 0)
    raw = find_clusters(backend, state, (64, 64), load_recipe(recipe, channels="all")).features
    assert massive_channels(raw)[5]
    assert find_clusters(backend, state, (64, 64), recipe).features[5].count_nonzero() == 0
