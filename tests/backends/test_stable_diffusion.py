"""Backends of the Stable Diffusion family: what they declare, what they leave behind, what they refuse."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from models import sd_parts, sd_unet

import genseg
from genseg.sites import module_at
from genseg_backends.families.stable_diffusion import StableDiffusion

QUICK = {"n_clusters": 3, "n_init": 1, "draws": 2, "replay_steps": 3}


@pytest.fixture(scope="module")
def recipe():
    return genseg.load_recipe(QUICK)


@pytest.fixture(scope="module")
def state(sd, pixels, recipe):
    return sd.encode(pixels(64, 64), recipe, seed=0)


@pytest.fixture(scope="module")
def point(sd):
    return next(iter(sd.points.values()))


@contextmanager
def counted_rows(module):
    """Count the rows of every call of a module."""
    rows = []
    handle = module.register_forward_pre_hook(lambda _module, inputs: rows.append(len(inputs[0])))
    yield rows
    handle.remove()


# What is declared is what comes out


def test_the_first_tap_and_point_are_the_papers(sd):
    name, tap = next(iter(sd.taps.items()))
    assert (name, tap.module) == ("up1.0.query", "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q")
    name, point = next(iter(sd.points.items()))
    assert (name, point.module) == ("up1.2.cross", "up_blocks.1.attentions.2.transformer_blocks.0.attn2")
    assert (sd.image_size, sd.size_multiple, tap.grid, point.grid) == (64, 32, (4, 4), (4, 4))


@torch.no_grad()
def test_latents_are_the_posteriors_mean_times_the_scaling_factor(sd_parts, state, pixels):
    expected = sd_parts["vae"].encode(pixels(64, 64)).latent_dist.mean * 0.18215
    torch.testing.assert_close(state.latents[-1:], expected)


# Offsets


def test_an_offset_at_every_point_changes_pixels(sd, pixels, recipe):
    one_step = genseg.load_recipe(recipe, replay_steps=1)
    state = sd.encode(pixels(64, 64), one_step, seed=0)
    for name, point in sd.points.items():
        masks = torch.ones(1, *point.grid_for(64, 64))
        maps = genseg.difference_maps(sd, state, masks, genseg.load_recipe(one_step, point=name))
        assert maps.max() > 0.01, name


def test_each_row_of_a_batch_is_what_it_is_alone(sd, state, point, recipe):
    offsets = 10 * torch.eye(16)[:3].reshape(3, 4, 4)
    together = sd.regenerate(state, point, offsets, recipe)
    alone = torch.cat([sd.regenerate(state, point, offset[None], recipe) for offset in offsets])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_the_embedded_model_changes_most_inside_the_mask(tiny, pixels):
    recipe = genseg.load_recipe("paper", replay_steps=3)
    state = tiny.encode(pixels(64, 64), recipe, seed=0)
    quadrants = torch.eye(4).reshape(4, 2, 2).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    maps = genseg.difference_maps(tiny, state, quadrants, recipe)
    for changed, inside in zip(maps, quadrants.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2), strict=True):
        assert changed[inside == 1].mean() > 2 * changed[inside == 0].mean()


# Nothing is left behind


class StopHereError(Exception):
    pass


def fail(*_):
    raise StopHereError


def fingerprint(parts):
    """Everything about in-memory parts that a backend might change."""
    modules = {f"{part}.{name}": m for part in ("unet", "vae") for name, m in parts[part].named_modules()}
    return {
        "processors": {name: id(processor) for name, processor in parts["unet"].attn_processors.items()},
        "hooks": {name: (*m._forward_hooks, *m._forward_pre_hooks) for name, m in modules.items()},
        "forwards": {name: "forward" in vars(m) for name, m in modules.items()},
        "training": {name: m.training for name, m in modules.items()},
        "weights": {part: sum(p.double().sum().item() for p in parts[part].parameters()) for part in ("unet", "vae")},
        "gradients": [p.requires_grad for part in ("unet", "vae") for p in parts[part].parameters()],
        "scheduler": (dict(parts["scheduler"].config), parts["scheduler"].timesteps.tolist()),
        "prompt": parts["prompt_embeds"].sum().item(),
    }


def test_in_memory_parts_are_left_as_they_were(photo):
    parts = sd_parts()
    before = fingerprint(parts)
    assert genseg.segment(photo, StableDiffusion(**parts), QUICK).n_segments > 1
    assert fingerprint(parts) == before


@pytest.mark.parametrize(
    ("method", "module"),
    [
        ("features", "mid_block"),
        ("regenerate", "mid_block"),
        ("regenerate", "up_blocks.2"),
    ],  # before and after the point
)
def test_an_exception_midway_leaves_no_hook_and_no_processor_behind(pixels, recipe, method, module):
    parts = sd_parts()
    sd = StableDiffusion(**parts)
    state, before = sd.encode(pixels(64, 64), recipe, seed=0), fingerprint(parts)
    tap, point = next(iter(sd.taps.values())), next(iter(sd.points.values()))
    midway = module_at(sd.network, module).register_forward_hook(fail)
    arguments = {"features": (state, tap, recipe), "regenerate": (state, point, torch.ones(1, 4, 4), recipe)}
    with pytest.raises(StopHereError):
        getattr(sd, method)(*arguments[method])
    midway.remove()
    assert fingerprint(parts) == before


def test_dropout_of_a_unet_in_training_mode_does_not_act(pixels, recipe):
    first, second = (
        StableDiffusion(**sd_parts() | {"unet": sd_unet(dropout=0.5).train()}).encode(pixels(64, 64), recipe, seed=0)
        for _ in range(2)
    )
    assert torch.equal(first.residuals, second.residuals)


# Same seed, same result; what it costs


def test_the_same_seed_gives_the_same_segmentation(sd, photo):
    first, second = (genseg.segment(photo, sd, QUICK, seed=3, keep_scores=True) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.scores, second.scores)
    assert first.labels.shape == (64, 96)


def test_another_seed_gives_other_noise(sd, pixels, recipe, state):
    other = sd.encode(pixels(64, 64), recipe, seed=1)
    assert torch.equal(other.latents[-1], state.latents[-1])
    assert not torch.isclose(other.latents[:-1], state.latents[:-1]).flatten(1).all(dim=1).any()


@pytest.mark.parametrize("overrides", [{}, {"batch_size": 4}, {"injection": False}], ids=str)
def test_cost_counts_every_row_that_the_network_and_the_decoder_saw(sd_parts, sd, photo, overrides):
    with counted_rows(sd_parts["unet"]) as evaluations, counted_rows(sd_parts["vae"].decoder) as decodes:
        cost = genseg.segment(photo, sd, QUICK, **overrides).cost
    assert cost.evaluations == sum(evaluations)
    assert cost.decodes == sum(decodes) == 2 * 3
    assert cost.evaluations >= 2 * 3 * 3  # two branches a mask at every step


def test_a_network_short_of_memory_gives_the_same_in_smaller_batches(pixels, point, recipe):
    parts, most, sizes, recipe = sd_parts(), 3, [], genseg.load_recipe(recipe, draws=7)
    sd = StableDiffusion(**parts)

    def short(_module, inputs):
        rows = len(inputs[0])
        if rows > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        sizes.append(rows)

    state, offsets = sd.encode(pixels(64, 64), recipe, seed=0), 10 * torch.eye(16)[:7].reshape(7, 4, 4)
    tap = next(iter(sd.taps.values()))
    whole = sd.regenerate(state, point, offsets, recipe), sd.features(state, tap, recipe)
    handle = parts["unet"].conv_in.register_forward_pre_hook(short)
    try:
        halved = sd.regenerate(state, point, offsets, recipe), sd.features(state, tap, recipe)
    finally:
        handle.remove()
    assert max(sizes) <= most
    for found, expected in zip(halved, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# What is refused, and in what words


@pytest.mark.parametrize(
    "config",
    [{"up_block_types": ("UpBlock2D",) * 3}, {"layers_per_block": 1}],
    ids=["no cross-attention upward", "two layers upward"],
)
def test_a_unet_without_the_papers_block_is_refused_saying_what_was_looked_for(config):
    with pytest.raises(genseg.GensegError, match=r"no upward block with three cross-attention layers.*looked for"):
        StableDiffusion(**sd_parts() | {"unet": sd_unet(**config)})


def test_a_scheduler_of_another_kind_is_refused_naming_it():
    with pytest.raises(genseg.GensegError, match=r"FlowMatchEulerDiscreteScheduler.*use a DDIM or DDPM scheduler"):
        StableDiffusion(**sd_parts() | {"scheduler": FlowMatchEulerDiscreteScheduler()})


def test_an_unknown_prediction_type_is_refused_naming_it():
    parts = sd_parts(prediction_type="epsilon")
    parts["scheduler"].register_to_config(prediction_type="score")
    with pytest.raises(genseg.GensegError, match="'score' is not a variance-preserving schedule"):
        StableDiffusion(**parts)


@pytest.mark.parametrize(
    ("kind", "name", "near"), [("tap", "up1.0.qurey", "up1.0.query"), ("point", "up1.2.crss", "up1.2.cross")]
)
def test_an_unknown_tap_or_point_is_refused_naming_the_nearest(sd, kind, name, near):
    with pytest.raises(genseg.GensegError, match=f"unknown {kind} '{name}': did you mean {near}"):
        genseg.Segmenter(sd, QUICK, **{kind: name})


def test_a_zero_offset_gives_the_image_back_in_bfloat16(sd_checkpoint, pixels, recipe):
    backend = genseg.load_backend("sd15", model=str(sd_checkpoint), device="cpu", dtype="bfloat16")
    state = backend.encode(pixels(64, 64), recipe, seed=0)
    estimates = backend.regenerate(state, next(iter(backend.points.values())), torch.zeros(2, 4, 4), recipe)
    torch.testing.assert_close(estimates, state.latents[-1:].expand_as(estimates), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["SimpleCrossAttnUpBlock2D", "AttnUpBlock2D"])
def test_a_unet_with_attention_of_another_kind_is_refused_saying_what_was_looked_for(kind):
    with pytest.raises(genseg.GensegError, match="no upward block with three cross-attention layers"):
        StableDiffusion(**sd_parts() | {"unet": sd_unet(up_block_types=("UpBlock2D", kind, kind))})


@pytest.mark.parametrize(
    "config",
    [
        {"in_channels": 9},
        {"cross_attention_dim": 48},
        {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 80,
        },
    ],
    ids=["inpainting", "another prompt width", "SDXL"],
)
def test_a_unet_that_needs_other_inputs_is_refused_before_anything_runs(config):
    with pytest.raises(genseg.GensegError):
        StableDiffusion(**sd_parts() | {"unet": sd_unet(**config)})


def test_masks_on_another_grid_are_refused_even_with_as_many_positions(sd, pixels, recipe):
    state = sd.encode(pixels(64, 96), recipe, seed=0)  # the grid is 4×6
    with pytest.raises(genseg.GensegError):
        genseg.difference_maps(sd, state, torch.ones(1, 6, 4), recipe)
