"""Checkpoints: what is read from a folder in the hub's layout, and what is refused."""

import shutil

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from models import clip_text_model, sd_parts, sd_unet
from safetensors.torch import load_file, save_file

import genseg
from genseg_backends.families.stable_diffusion import StableDiffusion

QUICK = {"n_clusters": 3, "n_init": 1, "draws": 2, "replay_steps": 3}


def copied(folder, to):
    shutil.copytree(folder, to)
    return to


def test_a_photo_is_segmented_end_to_end_from_a_checkpoint_folder(sd_checkpoint, photo):
    segmentation = genseg.segment(photo, "sd14", QUICK, model=str(sd_checkpoint), device="cpu")
    parts = sd_parts() | {"prompt_embeds": clip_text_model()(torch.tensor([[2] + 76 * [3]])).last_hidden_state.detach()}
    in_memory = genseg.segment(photo, StableDiffusion(**parts), QUICK)
    assert segmentation.backend == "sd14"
    assert segmentation.n_segments == 3
    assert np.mean(segmentation.labels == in_memory.labels) > 0.999


def test_bfloat16_gives_nearly_the_maps_of_float32(sd_checkpoint, pixels):
    recipe, maps = genseg.load_recipe(QUICK), []
    for dtype in ("bfloat16", "float32"):
        backend = genseg.load_backend("sd15", model=str(sd_checkpoint), device="cpu", dtype=dtype)
        state = backend.encode(pixels(64, 64), recipe, seed=0)
        masks = torch.eye(2).reshape(2, 1, 2).repeat_interleave(2, dim=2).expand(2, 4, 4)
        maps.append(genseg.difference_maps(backend, state, masks, recipe).flatten())
        assert backend.network.dtype == getattr(torch, dtype)
        assert maps[-1].dtype == state.latents.dtype == state.residuals.dtype == torch.float32
    assert not torch.equal(*maps)
    assert torch.corrcoef(torch.stack(maps))[0, 1] > 0.95


# What is refused, and in what words


@pytest.mark.parametrize("name", ["sd15", "tiny"])
def test_a_missing_folder_is_refused_saying_what_can_be_given(tmp_path, name):
    with pytest.raises(genseg.GensegError, match=r"there is no file or folder .*gone, .*; give a local folder"):
        genseg.load_backend(name, model=str(tmp_path / "gone"), device="cpu")


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler", "text_encoder"])
def test_a_folder_without_a_part_is_refused_naming_the_part(sd_checkpoint, tmp_path, part):
    folder = copied(sd_checkpoint, tmp_path / "checkpoint")
    shutil.rmtree(folder / part)
    with pytest.raises(genseg.GensegError, match=f"has no usable {part}/.*diffusers layout with safetensors"):
        genseg.load_backend("sd15", model=str(folder), device="cpu")


def test_weights_that_are_not_safetensors_are_refused(sd_checkpoint, tmp_path):
    folder = copied(sd_checkpoint, tmp_path / "checkpoint")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(sd_unet().state_dict(), folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(genseg.GensegError, match=r"has no usable unet/.*safetensors"):
        genseg.load_backend("sd15", model=str(folder), device="cpu")


def test_an_unknown_dtype_is_refused_listing_those_there_are(sd_checkpoint):
    with pytest.raises(genseg.GensegError, match="must be one of float32, float16, bfloat16 or auto, not 'float8'"):
        genseg.load_backend("sd15", model=str(sd_checkpoint), dtype="float8")


@pytest.mark.skipif(torch.cuda.device_count() > 9, reason="this machine has a cuda:9")
@pytest.mark.parametrize("device", ["cuda:9", "banana"])
def test_a_device_that_is_not_there_is_refused(sd_checkpoint, device):
    with pytest.raises(genseg.GensegError, match=f"device '{device}' is not available here; use device='cpu'"):
        genseg.load_backend("sd15", model=str(sd_checkpoint), device=device)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_lack_a_parameter_are_refused_naming_the_part(sd_checkpoint, tmp_path, part):
    folder = copied(sd_checkpoint, tmp_path / "checkpoint")
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    del weights[next(name for name in weights if "norm" in name)]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(genseg.GensegError, match=part):
        genseg.load_backend("sd15", model=str(folder), device="cpu")


def test_a_folder_without_tokenizer_is_refused_naming_it(sd_checkpoint, tmp_path):
    folder = copied(sd_checkpoint, tmp_path / "checkpoint")
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(genseg.GensegError, match="tokenizer"):
        genseg.load_backend("sd15", model=str(folder), device="cpu")


def test_a_folder_whose_scheduler_is_of_another_kind_is_refused(sd_checkpoint, tmp_path):
    folder = copied(sd_checkpoint, tmp_path / "checkpoint")
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(genseg.GensegError, match="FlowMatchEulerDiscreteScheduler"):
        genseg.load_backend("sd15", model=str(folder), device="cpu")
