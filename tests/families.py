"""Small checkpoints of every family, with seeded random weights, written by the real pipelines in the hub's layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from models import clip_text_model, sd_vae


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    """A module of fresh weights that are the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval().requires_grad_(False)


def vae(channels: int = 4, **config: Any) -> diffusers.AutoencoderKL:
    """`sd_vae`, with other latents."""
    shape = dict(sd_vae().config) | {"latent_channels": channels} | config
    made = seeded(lambda: diffusers.AutoencoderKL.from_config(shape))
    with torch.no_grad():
        layer = made.quant_conv if made.quant_conv is not None else made.encoder.conv_out
        layer.weight *= 10  # latents about as large as noise
    return made


def clip_tokenizer() -> transformers.CLIPTokenizer:
    """Of the vocabulary of `models.clip_text_model`."""
    vocabulary = {"!": 0, "!</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}
    return transformers.CLIPTokenizer(vocabulary, [], model_max_length=77, pad_token="<|endoftext|>")


def clip_with_projection(**config: Any) -> transformers.CLIPTextModelWithProjection:
    """A CLIP text encoder whose pooled output is projected."""
    shape = clip_text_model().config.to_dict() | {"projection_dim": 32} | config
    made = transformers.CLIPTextConfig(**shape)
    return seeded(lambda: transformers.CLIPTextModelWithProjection(made))


def t5(width: int = 32) -> transformers.T5EncoderModel:
    """A T5 encoder for a vocabulary of four tokens."""
    config = transformers.T5Config(vocab_size=4, d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return seeded(lambda: transformers.T5EncoderModel(config))


def t5_tokenizer() -> transformers.T5Tokenizer:
    """Padding, end, unknown and space."""
    return transformers.T5Tokenizer(extra_ids=0, model_max_length=300)


FLOW = {"num_train_timesteps": 1000, "shift": 3.0}


def pixart_alpha() -> Any:
    """PixArt-α at 64 pixels."""
    network = seeded(lambda: _pixart(sample_size=8))
    return _pixart_pipeline(diffusers.PixArtAlphaPipeline, network)


def pixart_sigma() -> Any:
    """PixArt-Σ at 64 pixels."""
    return _pixart_pipeline(diffusers.PixArtSigmaPipeline, seeded(lambda: _pixart(sample_size=8)))


def _pixart(sample_size: int) -> diffusers.PixArtTransformer2DModel:
    return diffusers.PixArtTransformer2DModel(
        num_attention_heads=4, attention_head_dim=8, num_layers=3, cross_attention_dim=32, sample_size=sample_size,
        caption_channels=32, interpolation_scale=1, use_additional_conditions=False,
    )  # fmt: skip


def _pixart_pipeline(kind: Any, network: nn.Module) -> Any:
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    return kind(t5_tokenizer(), t5(), vae(), network, scheduler)


def sd3(**config: Any) -> Any:
    """Stable Diffusion 3 at 64 pixels."""
    shape = {
        "sample_size": 8, "num_layers": 3, "attention_head_dim": 8, "num_attention_heads": 4, "joint_attention_dim": 64,
        "caption_projection_dim": 32, "pooled_projection_dim": 64, "pos_embed_max_size": 16,
    }  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=seeded(lambda: diffusers.SD3Transformer2DModel(**shape | config)),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**FLOW),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_with_projection(), tokenizer=clip_tokenizer(),
        text_encoder_2=clip_with_projection(), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(64), tokenizer_3=t5_tokenizer(),
    )  # fmt: skip


def sd35() -> Any:
    """Stable Diffusion 3.5 medium at 64 pixels: with a second attention of the image's own and normalised queries."""
    return sd3(dual_attention_layers=(0, 1), qk_norm="rms_norm")


PIPELINES: dict[str, Callable[[], Any]] = {
    "pixart-alpha": pixart_alpha,
    "pixart-sigma": pixart_sigma,
    "sd3": sd3,
    "sd35-medium": sd35,
    "sd35-large": lambda: sd3(qk_norm="rms_norm"),
}
"""What makes a checkpoint of each backend."""


def write_checkpoint(folder: Path, name: str) -> Path:
    """Write the checkpoint of a backend as the hub holds it."""
    PIPELINES[name]().save_pretrained(folder)
    return folder
