"""Options of the Stable Diffusion backends besides a checkpoint, and the previews of their images."""

from dataclasses import replace

import pytest
import torch
from models import assert_same_weights, sd_parts, tiny_vae, write_hub_cache

import genseg
from genseg_backends.families.stable_diffusion import StableDiffusion

QUICK = {"n_clusters": 3, "n_init": 1, "draws": 2, "replay_steps": 3}


def load(name, model, **options):
    return genseg.load_backend(name, model=str(model), device="cpu", **options)


def test_tiling_is_switched_on_in_the_autoencoder(folders):
    assert load("sd15", folders["sd1"], tiling=True).codec.vae.use_tiling
    assert not load("sd15", folders["sd1"]).codec.vae.use_tiling


def test_offloaded_parts_take_turns_and_compute_the_same(folders, pixels):
    offloaded, plain = load("sd15", folders["sd1"], offload=True), load("sd15", folders["sd1"])
    unet, vae = offloaded.network, offloaded.codec.vae
    assert unet._hf_hook.prev_module_hook.model is vae
    assert vae._hf_hook.prev_module_hook.model is unet
    assert offloaded.device == torch.device("cpu")
    recipe, results = genseg.load_recipe(QUICK), []
    for backend in (offloaded, plain):
        state = backend.encode(pixels(64, 64), recipe, seed=0)
        point = next(iter(backend.points.values()))
        results.append(backend.decode(backend.regenerate(state, point, torch.ones(1, 4, 4), recipe)))
    assert torch.equal(*results)


def test_channels_last_is_a_matter_of_memory_alone(folders):
    last, first = (
        load("sd15", folders["sd1"], channels_last=wanted).network.conv_in.weight for wanted in (True, False)
    )
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    assert torch.equal(last, first)


def test_dtype_auto_is_float32_on_a_cpu(folders):
    backend = load("sd15", folders["sd1"], dtype="auto")
    assert {backend.dtype, backend.reader.dtype, backend.codec.vae.dtype} == {torch.float32}


def test_features_may_be_read_in_another_dtype(folders, pixels):
    whole, half, mixed = (
        load("sd15", folders["sd1"], **options)
        for options in ({}, {"dtype": "bfloat16"}, {"dtype": "bfloat16", "features_dtype": "float32"})
    )
    recipe = genseg.load_recipe(QUICK)
    features, branches = [], []
    for backend in (whole, half, mixed):
        state = backend.encode(pixels(64, 64), genseg.load_recipe(QUICK), seed=0)
        state = replace(state, latents=whole.encode(pixels(64, 64), recipe, seed=0).latents)
        features.append(backend.features(state, next(iter(backend.taps.values())), recipe))
        branches.append(backend.regenerate(state, next(iter(backend.points.values())), torch.ones(1, 4, 4), recipe))
    assert torch.equal(features[2], features[0])
    assert not torch.equal(features[1], features[0])
    assert torch.equal(branches[2], branches[1])
    assert mixed.network.dtype == mixed.codec.vae.dtype == torch.bfloat16


def test_an_option_that_is_none_is_not_given(folders):
    assert load("sd15", folders["sd1"], revision=None, tiling=None).taps


@pytest.mark.parametrize(("name", "near"), [("revison", "did you mean revision"), ("tilling", "did you mean tiling")])
def test_an_unknown_option_is_refused_naming_the_nearest(name, near):
    with pytest.raises(genseg.GensegError, match=f"unknown option of backend 'sd15', '{name}': {near}.*tiny_vae"):
        genseg.load_backend("sd15", **{name: "x"})


# Previews


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taesd")
    tiny_vae().save_pretrained(folder)
    return folder


@torch.no_grad()
def test_the_tiny_autoencoder_is_loaded_when_first_needed_and_decodes(folders, tiny_folder):
    latents = torch.randn(2, 4, 16, 24)
    backend = load("sd15", folders["sd1"], tiny_vae=str(tiny_folder))
    images = backend.preview(latents, "tiny")
    torch.testing.assert_close(images, tiny_vae().decode(latents).sample)
    assert images.shape == (2, 3, 128, 192)
    assert backend.meter.decodes == 2
    assert load("sd15", folders["sd1"], tiny_vae="nowhere/at-all-yet").taps


@pytest.mark.usefixtures("offline")
def test_the_tiny_autoencoder_of_stable_diffusion_is_the_default(folders, tiny_folder, offline):
    write_hub_cache(offline, "madebyollin/taesd", tiny_folder)
    assert_same_weights(load("sd21", folders["sd2-768-v"]).tiny_vae, tiny_vae())


@torch.no_grad()
def test_the_tiny_autoencoder_s_own_scaling_factor_is_undone():
    vae, latents = tiny_vae(), torch.randn(1, 4, 8, 8)
    vae.register_to_config(scaling_factor=0.5)
    backend = StableDiffusion(**sd_parts(), tiny_vae=vae)
    torch.testing.assert_close(backend.preview(latents, "tiny"), vae.decode(latents / 0.5).sample)


def test_a_latent_preview_is_the_estimates_themselves(sd):
    latents, decodes = torch.randn(2, 4, 16, 24), sd.meter.decodes
    assert torch.equal(sd.preview(latents, "latent"), latents)
    assert sd.meter.decodes == decodes


def test_a_tiny_preview_without_a_tiny_autoencoder_is_refused(sd):
    with pytest.raises(genseg.GensegError, match=r"no tiny autoencoder; pass tiny_vae=.* or use decoder=latent"):
        sd.preview(torch.zeros(1, 4, 16, 16), "tiny")


def test_a_tiny_autoencoder_of_another_kind_is_refused_naming_it(folders):
    backend = load("sd15", folders["sd1"], tiny_vae=str(folders["sd1"] / "vae"))
    with pytest.raises(genseg.GensegError, match=r"is of class AutoencoderKL \(looked for AutoencoderTiny\)"):
        backend.preview(torch.zeros(1, 4, 16, 16), "tiny")
