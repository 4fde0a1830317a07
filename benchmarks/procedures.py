"""Procedures that the speed and FLOP benchmarks compare, and models of released shapes with random weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor
from torch.autograd import DeviceType
from torch.utils.flop_counter import FlopCounterMode

import genseg
from genseg.recipe import list_presets
from genseg_backends.families.sdxl import StableDiffusionXL
from genseg_backends.families.stable_diffusion import StableDiffusion
from genseg_backends.loading.placement import place

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

SD15_UNET: dict[str, Any] = {  # the classes' own defaults but for these
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,  # diffusers' historic name for the number of heads
    "cross_attention_dim": 768,
}
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD15_VAE: dict[str, Any] = {  # SDXL's has the same shape
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


@dataclass(frozen=True)
class Procedure:
    """One way to segment.

    Attributes:
        name: ``published``, or a preset of the engine.
        dtype: What the network computes in.
        options: Recipe keys as ``key=value``, laid over the preset and the backend's calibration.
    """

    name: str
    dtype: str = "float32"
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Procedure:
        """Read ``NAME[:DTYPE][,key=value]...``, such as ``paper:bfloat16,draws=1``.

        Raises:
            GensegError: For an unknown name or dtype.
        """
        head, *options = text.split(",")
        name, _, dtype = head.partition(":")
        dtype = dtype or "float32"
        if name not in ("published", *list_presets()) or dtype not in DTYPES:
            raise genseg.GensegError(
                f"{text!r} is no procedure; give published or {' or '.join(list_presets())}, then :DTYPE "
                f"({', '.join(DTYPES)}) and ,key=value if wanted"
            )
        return cls(name, dtype, tuple(options))

    def __str__(self) -> str:
        return ",".join([f"{self.name}:{self.dtype}", *self.options])

    def recipe(self, calibration: Mapping[str, Any], shared: list[str]) -> genseg.Recipe:
        """The recipe: preset < the backend's calibration < ``shared`` options < the procedure's own."""
        preset = "paper" if self.name == "published" else self.name
        return genseg.load_recipe(preset, calibration=calibration, options=[*shared, *self.options])


def with_overrides(args: argparse.Namespace, key: str) -> argparse.Namespace:
    """Move ``key=value`` words that stand behind the option ``key``, which takes many words, to ``args.overrides``."""
    words = getattr(args, key)
    args.overrides += [word for word in words if "=" in word.split(",")[0]]
    setattr(args, key, [word for word in words if "=" not in word.split(",")[0]])
    return args


def random_sd15(device: str, dtype: str, seed: int = 0) -> StableDiffusion:
    """A backend of SD 1.5's exact shape and size with random weights; on device "meta", without any."""
    unet, vae, prompt = _random_parts(SD15_UNET, 0.18215, device, dtype, seed)
    scheduler = DDIMScheduler(**BETAS, set_alpha_to_one=False)
    return StableDiffusion(unet=unet, vae=vae, scheduler=scheduler, prompt_embeds=prompt, name="random-sd15")


def random_sdxl(device: str, dtype: str, seed: int = 0) -> StableDiffusionXL:
    """A backend of SDXL's exact shape and size with random weights; on device "meta", without any."""
    network, vae, prompt = _random_parts(SDXL_UNET, 0.13025, device, dtype, seed)
    conditioning = {"encoder_hidden_states": prompt, "text_embeds": prompt[:, 0, :1280]}
    scheduler = EulerDiscreteScheduler(**BETAS)
    return StableDiffusionXL(
        network=network, vae=vae, scheduler=scheduler, conditioning=conditioning, name="random-sdxl"
    )


RANDOM = {"random-sd15": random_sd15, "random-sdxl": random_sdxl}
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def _random_parts(
    shape: Mapping[str, Any], scaling_factor: float, device: str, dtype: str, seed: int
) -> tuple[Any, Any, Tensor]:
    """U-Net, autoencoder and prompt.

    Queries are scaled up, since fresh attention is uniform and nothing would then depend on it; and latents, since
    those of a fresh autoencoder vanish beside the noise.
    """
    with torch.device(device), torch.no_grad(), nullcontext() if device == "meta" else torch.random.fork_rng():
        torch.manual_seed(seed)
        unet, vae = UNet2DConditionModel(**shape), AutoencoderKL(**SD15_VAE, scaling_factor=scaling_factor)
        prompt = torch.randn(1, 77, shape["cross_attention_dim"])
        for name, weight in unet.named_parameters():
            if name.endswith("to_q.weight"):
                weight *= 8
        unet.conv_out.weight *= 3
        vae.quant_conv.weight *= 10
    for part in (unet, vae):  # rounded from the same weights; diffusers' own method warns whatever the model
        torch.nn.Module.to(part, DTYPES[dtype])
    place(unet, vae, torch.device(device), DTYPES[dtype])  # in the memory format that loading gives them
    return unet.requires_grad_(False), vae.eval().requires_grad_(False), prompt


def flop_counter() -> FlopCounterMode:
    """Counts the FLOPs of convolutions, matrix products and attentions, two for a multiplication and an addition.

    torch counts fused attention on GPUs, and on "meta" sees it as two products; the fused kernel of CPUs it leaves out.
    """
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={fused: attention_flops})


def launches_of(run: genseg.Segmenter, photo: Any) -> int | None:
    """Kernels that one photo launches on CUDA, copies not among them; None elsewhere, and where none are seen."""
    if run.backend.device.type != "cuda":
        return None
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run(photo)
            torch.cuda.synchronize()
    except (AssertionError, RuntimeError) as error:  # a torch without NVIDIA's profiler must not cost the measurement
        print(f"launches not counted: {error}", file=sys.stderr)
        return None
    return sum(
        event.count
        for event in profile.key_averages()
        if event.device_type == DeviceType.CUDA and not event.key.startswith(("Memcpy", "Memset"))
    )


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """QKᵀ and its product with V, from the shapes [N, heads, tokens, d]."""
    rows, heads, tokens, width = query
    return 2 * rows * heads * tokens * key[2] * (width + value[3])
