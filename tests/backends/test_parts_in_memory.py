"""Parts in memory that do not go together: each is refused in a sentence before anything runs."""

import diffusers
import pytest
import torch
from families import PIPELINES
from models import sd_parts, tiny_vae

import genseg
from genseg_backends.families.stable_diffusion import StableDiffusion


def vae(channels):
    return diffusers.AutoencoderKL(latent_channels=channels, block_out_channels=(32,))


@pytest.mark.parametrize(("parts", "words"), [
    ({"vae": None}, "needs an autoencoder; pass an AutoencoderKL as vae="),
    ({"vae": tiny_vae()}, "an AutoencoderTiny is for previews; pass it as tiny_vae=..., and an AutoencoderKL as vae="),
    ({"vae": vae(16)}, "latents of this autoencoder have 16 channels, and the network takes 4"),
    ({"prompt_embeds": (torch.zeros(1, 77, 32), None)}, "must be a tensor, not a tuple; give the first of"),
    ({"prompt_embeds": torch.zeros(2, 77, 32)}, r"not \[2, 77, 32\]; give those of one prompt alone"),
    ({"unet": torch.nn.Linear(1, 1)}, "needs a UNet2DConditionModel, not a Linear"),
], ids=["no VAE", "tiny", "16 channels", "tuple", "two rows", "no U-Net"])  # fmt: skip
def test_what_does_not_belong_to_stable_diffusion_is_refused(parts, words):
    with pytest.raises(genseg.GensegError, match=words):
        StableDiffusion(**sd_parts() | parts)


@pytest.mark.parametrize(("conditioning", "words"), [
    ({"encoder_hidden_states": torch.zeros(2, 154, 64)}, r"must have one row, and is \[2, 154, 64\]"),
    ({"encoder_hidden_states": [torch.zeros(154, 64)]}, "encoder_hidden_states must be a tensor, not a list"),
])  # fmt: skip
def test_what_is_no_prompt_of_another_family_is_refused(conditioning, words):
    from genseg_backends.families.sd3 import SD3

    pipeline = PIPELINES["sd3"]()
    parts = {"network": pipeline.transformer, "vae": pipeline.vae, "scheduler": pipeline.scheduler}
    with pytest.raises(genseg.GensegError, match=words):
        SD3(**parts, conditioning=conditioning)


def test_the_device_may_be_a_string(pixels):
    backend = StableDiffusion(**sd_parts(), device="cpu")
    assert backend.device == torch.device("cpu")
    assert backend.encode(pixels(64, 64), genseg.load_recipe(), seed=0).latents.isfinite().all()


def test_a_device_without_values_is_refused(sd_checkpoint):
    with pytest.raises(genseg.GensegError, match=r"device 'meta' holds no values.*use device='cpu'"):
        genseg.load_backend("sd15", model=str(sd_checkpoint), device="meta")
