"""Stable Diffusion 1.x and every other latent U-Net of its shape: the model of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import FeatureTap, ModulationPoint
from genseg_backends.attention import SharedQueryKey, shared_queries_and_keys
from genseg_backends.checkpoints import device_of, dtype_of, empty_prompt, load_part, load_scheduler
from genseg_backends.diffusion import Codec, DiffusionBackend
from genseg_backends.schedule import NoiseSchedule


class KLCodec:
    """A diffusers `AutoencoderKL` as codec: the posterior's mean, times the scaling factor."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae
        self.stride = 2 ** (len(vae.config["block_out_channels"]) - 1)

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] to latents [N, 4, H/8, W/8]."""
        return self.vae.encode(image.to(self.vae.dtype)).latent_dist.mean * self.vae.config["scaling_factor"]

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to [N, 3, H, W], not clamped."""
        return self.vae.decode(latents.to(self.vae.dtype) / self.vae.config["scaling_factor"]).sample


class StableDiffusion(DiffusionBackend):
    """EmerDiff over in-memory parts, which are used as they are: only dropout is switched off, for good.

    Args:
        unet: A `UNet2DConditionModel` whose upward blocks have cross-attention.
        vae: An `AutoencoderKL`, or a codec with ``stride``, ``encode(image)`` and ``decode(latents)``.
        scheduler: Any diffusers scheduler of the variance-preserving kind; only its ᾱ_t are used.
        prompt_embeds: The prompt, [1, tokens, dim] or [tokens, dim]; the paper's is the encoded empty string.
        name: The name under which results are reported.
        recipe: Calibrated recipe values, laid over the preset.
        preset: The preset used when the caller names none.

    Raises:
        GensegError: If the U-Net has no upward block with three cross-attentions or needs other inputs than latents,
            timestep and prompt, or the scheduler is of another kind.
    """

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | Codec,
        scheduler: Any,
        prompt_embeds: Tensor,
        name: str = "stable-diffusion",
        recipe: Mapping[str, Any] | None = None,
        preset: str = "paper",
    ) -> None:
        super().__init__(name)
        _check_inputs(unet, prompt_embeds)
        self.network = unet.eval()
        self.codec = KLCodec(vae) if isinstance(vae, AutoencoderKL) else vae
        self.schedule = NoiseSchedule.of(scheduler)
        self.dtype = unet.dtype
        self.prompt_embeds = prompt_embeds.reshape(1, *prompt_embeds.shape[-2:]).to(unet.device, unet.dtype)
        self.recipe = recipe or {}
        self.preset = preset
        levels, self.width = len(unet.config["block_out_channels"]), unet.config["block_out_channels"][0]
        self.image_size = unet.config["sample_size"] * self.codec.stride
        self.size_multiple = self.codec.stride * 2 ** (levels - 1)
        self.taps, self.points = _sites(unet, self.codec.stride)

    def predict(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """The U-Net's output under the fixed prompt."""
        return self.network(x, timesteps, self.prompt_embeds.expand(len(x), -1, -1)).sample

    def injection(self) -> AbstractContextManager[SharedQueryKey]:
        """Shared queries and keys in every self- and cross-attention of the U-Net."""
        return shared_queries_and_keys(self.network)


def _check_inputs(unet: UNet2DConditionModel, prompt_embeds: Tensor) -> None:
    """Refuse a U-Net that cannot run on latents, a timestep and this prompt alone."""
    config = unet.config
    if config["in_channels"] != config["out_channels"] or config["addition_embed_type"] or config["class_embed_type"]:
        raise GensegError(
            "this U-Net needs more inputs than latents, timestep and prompt (inpainting, SDXL or class labels); "
            "use a text-to-image checkpoint shaped like Stable Diffusion 1.x or 2.x"
        )
    if config["cross_attention_dim"] != prompt_embeds.shape[-1]:
        raise GensegError(
            f"prompt_embeds have {prompt_embeds.shape[-1]} channels and this U-Net takes "
            f"{config['cross_attention_dim']}; use the text encoder that belongs to it"
        )


def _sites(unet: UNet2DConditionModel, latent_stride: int) -> tuple[dict[str, FeatureTap], dict[str, ModulationPoint]]:
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


def sd14(model: str | None = None, device: str | None = None, dtype: str | None = None) -> StableDiffusion:
    """Stable Diffusion 1.4, the model of the paper (CreativeML OpenRAIL-M)."""
    return from_pretrained(model or "CompVis/stable-diffusion-v1-4", "sd14", device, dtype)


def sd15(model: str | None = None, device: str | None = None, dtype: str | None = None) -> StableDiffusion:
    """Stable Diffusion 1.5 (CreativeML OpenRAIL-M)."""
    return from_pretrained(model or "stable-diffusion-v1-5/stable-diffusion-v1-5", "sd15", device, dtype)


def from_pretrained(model: str, name: str, device: str | None = None, dtype: str | None = None) -> StableDiffusion:
    """Load a checkpoint in the diffusers folder layout, from a local folder or the hub.

    The text encoder is loaded, asked for the embedding of the empty prompt, and dropped.

    Raises:
        GensegError: If the weights are missing or of another architecture, or the device is not there.
    """
    where, precision = device_of(device), dtype_of(dtype)
    unet = load_part(UNet2DConditionModel, model, "unet", precision)
    vae = load_part(AutoencoderKL, model, "vae", precision)
    scheduler = load_scheduler(model)
    return StableDiffusion(
        unet=unet.to(where),
        vae=vae.to(where).eval(),
        scheduler=scheduler,
        prompt_embeds=empty_prompt(model),
        name=name,
    )
