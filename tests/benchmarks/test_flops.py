"""FLOP counts against hand arithmetic, and counts on the meta device against those of real runs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from models import sd_parts, sd_unet
from rich.console import Console
from torch import nn

import flops
import genseg
import procedures
from genseg.cluster import cluster
from genseg_backends.families.stable_diffusion import StableDiffusion
from procedures import Procedure, flop_counter
from published import Published

SIDE = 64


@pytest.fixture(scope="module")
def image():
    return torch.zeros(1, 3, SIDE, SIDE)


OPTIONS = ["num_inference_steps=3", "t_m=334", "n_clusters=2", "batch_size=3", "n_init=1", "size=64", "resize=square"]
"""Of t = 667, 334, 1 the last two are run: few, since to count takes as long for a small model as for a large one."""


@pytest.fixture(scope="module")
def recipe():
    return genseg.load_recipe("paper", options=OPTIONS, draws=2)


@pytest.fixture(scope="module")
def parts():
    """Those of a small model with one level, since every operation takes its time to count."""
    levels = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    levels |= {"block_out_channels": (32,)}
    return sd_parts() | {"unet": sd_unet(**levels)}


@pytest.fixture(scope="module")
def small(parts):
    return StableDiffusion(**parts)


@pytest.fixture(scope="module")
def on_meta(parts):
    """The same model on the meta device."""
    moved = {name: copy.deepcopy(parts[name]).to("meta") for name in ("unet", "vae", "prompt_embeds")}
    return StableDiffusion(**parts | moved)


def by_hand(network, run):
    """2·inputs·outputs of every convolution and linear layer and 2·2·L·M·C of every attention that ``run`` runs."""
    total, handles = 0, []

    def convolution(module, _inputs, output):
        nonlocal total
        taps = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
        total += 2 * taps * output.numel()

    def linear(module, _inputs, output):
        nonlocal total
        total += 2 * module.in_features * output.numel()

    def attention(module, args, kwargs, _output):
        nonlocal total
        rows, *_ = shape = args[0].shape
        tokens = shape[1] if len(shape) == 3 else shape[2] * shape[3]
        context = kwargs.get("encoder_hidden_states")
        total += 4 * rows * tokens * (tokens if context is None else context.shape[1]) * module.to_q.out_features

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(convolution))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(linear))
        elif hasattr(module, "to_q"):
            handles.append(module.register_forward_hook(attention, with_kwargs=True))
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return total


def test_single_passes_are_those_of_hand_arithmetic(small, on_meta, image):
    found = flops.single_figures(on_meta, image)
    latents, vae = torch.zeros(1, 4, SIDE // 8, SIDE // 8), small.codec.vae
    assert found["unet"] == by_hand(small.network, lambda: small.network(latents, 1, small.prompt_embeds))
    assert found["encode"] == by_hand(vae, lambda: vae.encode(image))
    assert found["decode"] == by_hand(vae, lambda: vae.decode(latents))
    assert found == flops.single_figures(small, image)  # the same model for real


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_attention_at_64_by_64_counts_both_products(device):
    tokens = torch.zeros(1, 8, 4096, 40, device=device)
    with flop_counter() as counted:
        F.scaled_dot_product_attention(tokens, tokens, tokens)
    assert counted.get_total_flops() == 2 * 2 * 4096**2 * 320


@pytest.mark.slow
def test_published_flops_are_those_of_a_whole_real_run(small, on_meta, recipe, image, photo, monkeypatch):
    clustering = []  # which is no work of the network

    def counted_apart(*arguments):
        before = counted.get_total_flops()
        clusters = cluster(*arguments)
        clustering.append(counted.get_total_flops() - before)
        return clusters

    monkeypatch.setattr("published.cluster", counted_apart)
    with flop_counter() as counted:
        Published(small, recipe)(photo)
    found = flops.published_flops(on_meta, recipe, image)
    assert sum(found.values()) == counted.get_total_flops() - sum(clustering)
    assert 0 < found["features"] < found["encode"] < found["modulate"]


@pytest.mark.slow
def test_engine_flops_on_meta_are_those_of_the_same_run_for_real(small, on_meta, recipe, image):
    assert flops.engine_flops(on_meta, recipe, image) == flops.engine_flops(small, recipe, image)


def test_regions_partition_the_grid_into_k_connected_parts():
    labels = flops.regions(25, 16, 16)
    assert sorted(set(labels.ravel())) == list(range(25))


def test_shares_are_of_the_reference_and_bars_are_judged(on_meta, image):
    procedures = [Procedure.of(text) for text in (flops.REFERENCE, "fast")]
    found = flops.measure(on_meta, procedures, image, [*OPTIONS, "draws=1"], Console(quiet=True))
    assert found[flops.REFERENCE]["ratio"] == 1
    for entry in found.values():
        assert entry["ratio"] == sum(entry["stages"].values()) / found[flops.REFERENCE]["flops"]
    assert found["fast:float32"]["within_bar"] == (found["fast:float32"]["ratio"] <= 0.08)
    table = flops.table_of(found, flops.single_figures(on_meta, image))
    assert table.row_count == 2


def test_the_shape_is_that_of_stable_diffusion_15():
    backend = procedures.random_sd15("meta", "float32")
    assert sum(p.numel() for p in backend.network.parameters()) == 859_520_964
    assert sum(p.numel() for p in backend.codec.vae.parameters()) == 83_653_863
    assert backend.image_size == 512
    assert next(iter(backend.taps.values())).grid == (16, 16)


@pytest.mark.parametrize("text", ["nothing", "paper:float8", ":float32"])
def test_what_is_no_procedure_is_refused(text):
    with pytest.raises(genseg.GensegError, match="no procedure"):
        Procedure.of(text)


def test_without_its_reference_there_are_no_shares(small, image):
    with pytest.raises(genseg.GensegError, match=f"shares of {flops.REFERENCE}"):
        flops.measure(small, [], image, [], Console(quiet=True))
