"""Parts of the small checkpoints of `families`: autoencoders, text encoders and tokenizers."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers
from models import clip_text_model, sd_vae
from torch import nn


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    """A module of fresh weights that are the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval().requires_grad_(False)


def vae_shape() -> dict[str, Any]:
    """The configuration of `sd_vae`."""
    return {key: value for key, value in sd_vae().config.items() if not key.startswith("_")}


def vae(channels: int = 4, **config: Any) -> diffusers.AutoencoderKL:
    """`sd_vae`, with other latents."""
    made = seeded(lambda: diffusers.AutoencoderKL(**vae_shape() | {"latent_channels": channels} | config))
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
