"""Base of latent U-Nets: their inputs, and the taps and points of their upward blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import FeatureTap, ModulationPoint
from genseg_backends.engine.latent import LatentBackend, Sites
from genseg_backends.engine.schedule import NoiseSchedule


class UNetBackend(LatentBackend):
    """Base of the families whose denoiser is a `UNet2DConditionModel` over latents."""

    network_class = "UNet2DConditionModel"
    part = "unet"

    def declare(self) -> Sites:
        """Taps and points of the upward blocks; see `sites`."""
        config = self.network.config
        self.width = config["block_out_channels"][0]
        self.image_size = config["sample_size"] * self.codec.stride
        self.size_multiple = self.codec.stride * 2 ** (len(config["block_out_channels"]) - 1)
        if config["time_cond_proj_dim"]:
            self.guidance_scale = 1.0
        return sites(self.network, self.codec.stride)

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Any) -> Tensor:
        """The U-Net's output under a prompt."""
        if width := self.network.config["time_cond_proj_dim"]:
            conditioning["timestep_cond"] = no_guidance(width, x)
        return network(x, timesteps, **conditioning).sample

    def schedule_of(self, scheduler: Any) -> NoiseSchedule:
        """The noise schedule, variance-preserving."""
        return NoiseSchedule.of(scheduler)


def no_guidance(width: int, x: Tensor) -> Tensor:
    """The guidance-scale embedding of w = 0 for each row of x [N, ...], [N, width]: sines and cosines of zero.

    If the width is odd, a zero follows. Latent consistency models take the scale of classifier-free guidance as an
    input, w = 0 being none, and never run twice for it. Their boundary scalings c_skip and c_out are left out: from
    t = 1 on they are within 0.3% of 0 and 1, and inversion by residuals is exact with or without them.
    """
    rows, half = len(x), width // 2
    return torch.cat([x.new_zeros(rows, half), x.new_ones(rows, half), x.new_zeros(rows, width % 2)], dim=1)


def check_prompt(config: Mapping[str, Any], prompt_embeds: Any) -> None:
    """Refuse what is no embedding of one prompt, of the width that a U-Net takes."""
    if not isinstance(prompt_embeds, Tensor):
        raise GensegError(
            f"prompt_embeds must be a tensor, not a {type(prompt_embeds).__name__}; give the "
            "first of what encode_prompt returns"
        )
    if prompt_embeds.ndim not in (2, 3) or (prompt_embeds.ndim == 3 and len(prompt_embeds) != 1):
        raise GensegError(
            f"prompt_embeds must be [tokens, dim] or [1, tokens, dim], not {list(prompt_embeds.shape)}; give those of "
            "one prompt alone, without those of classifier-free guidance"
        )
    if config["cross_attention_dim"] != prompt_embeds.shape[-1]:
        raise GensegError(
            f"prompt_embeds have {prompt_embeds.shape[-1]} channels and this U-Net takes "
            f"{config['cross_attention_dim']}; use the text encoder that belongs to it"
        )


def sites(unet: UNet2DConditionModel, latent_stride: int) -> tuple[dict[str, FeatureTap], dict[str, ModulationPoint]]:
    """Taps and points of every upward block with cross-attention, the paper's first.

    ``up1.0.query`` is the paper's tap: the query vectors of the first cross-attention of the upward 16×16 block
    (section 3.2). ``up1.2.cross`` is its point: the output, after projection, of the third one (section 3.3).
    """
    size, levels = unet.config["sample_size"], len(unet.config["block_out_channels"])
    taps: dict[str, FeatureTap] = {}
    points: dict[str, ModulationPoint] = {}
    for index, block in enumerate(unet.up_blocks):
        stride = 2 ** (levels - 1 - index)
        grid = (size // stride, size // stride)
        transformers = [a for a in getattr(block, "attentions", []) if hasattr(a, "transformer_blocks")]
        for number, transformer in enumerate(transformers):
            path, name = f"up_blocks.{index}.attentions.{number}", f"up{index}.{number}"
            inner = f"{path}.transformer_blocks.{len(transformer.transformer_blocks) - 1}"
            first = f"{path}.transformer_blocks.0"
            width = transformer.transformer_blocks[0].attn2.to_q.out_features
            site = (latent_stride * stride, grid)
            taps[f"{name}.query"] = FeatureTap(f"{first}.attn2.to_q", width, *site)
            taps[f"{name}.self-query"] = FeatureTap(f"{first}.attn1.to_q", width, *site)
            taps[f"{name}.output"] = FeatureTap(path, transformer.out_channels, *site)
            points[f"{name}.cross"] = ModulationPoint(f"{inner}.attn2", width, *site)
            points[f"{name}.self"] = ModulationPoint(f"{inner}.attn1", width, *site)
    default_point = f"up{min(int(name[2]) for name in points)}.2.cross" if points else None
    if default_point not in points:
        raise GensegError(
            "this U-Net has no upward block with three cross-attention layers "
            "(looked for up_blocks[i].attentions[0] and [2]); use a checkpoint shaped like Stable Diffusion 1.x or 2.x"
        )
    return taps, {default_point: points.pop(default_point), **points}
