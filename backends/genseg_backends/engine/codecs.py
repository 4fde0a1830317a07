"""Between pixels and latents: the autoencoders of the families, each with its own scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:  # diffusers imports all of its autoencoders with one
    from diffusers import AutoencoderDC, AutoencoderKL


class Codec(Protocol):
    """Between pixels and latents, float32 on both sides: a VAE, or anything with these two methods.

    Attributes:
        stride: Image pixels per latent pixel, along each side.
    """

    stride: int

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] to latents [N, C, h, w], scaled as the network expects them."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to [N, 3, H, W], not clamped."""


class Pixels:
    """No autoencoder: the network works on pixels."""

    stride = 1

    def encode(self, image: Tensor) -> Tensor:
        """The image itself."""
        return image

    def decode(self, latents: Tensor) -> Tensor:
        """The latents themselves."""
        return latents


class KLCodec:
    """A diffusers `AutoencoderKL`: the posterior's mean, shifted and scaled as its configuration says.

    Some configurations standardize latents by channel before they are scaled (``latents_mean`` and ``latents_std``).
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae
        self.stride = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self._scale: float | Tensor = vae.config["scaling_factor"]
        self._shift: float | Tensor = vae.config.get("shift_factor") or 0.0
        mean, deviation = vae.config.get("latents_mean"), vae.config.get("latents_std")
        if mean is not None and deviation is not None:
            self._scale = self._scale / torch.tensor(deviation).view(1, -1, 1, 1)
            self._shift = torch.tensor(mean).view(1, -1, 1, 1)

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] to latents [N, C, H/8, W/8]."""
        latents = self.vae.encode(image.to(self.vae.dtype)).latent_dist.mean
        self._place(latents)
        return (latents - self._shift) * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to [N, 3, H, W], not clamped."""
        latents = latents.to(self.vae.dtype)
        self._place(latents)
        return self.vae.decode(latents / self._scale + self._shift).sample

    def _place(self, latents: Tensor) -> None:
        """Bring scale and shift to the device and dtype of latents, once."""
        self._scale, self._shift = (
            value.to(latents) if isinstance(value, Tensor) else value for value in (self._scale, self._shift)
        )


class DeepCompressionCodec:
    """A diffusers `AutoencoderDC`, as Sana has it: deterministic, scaled as its configuration says."""

    def __init__(self, vae: AutoencoderDC) -> None:
        self.vae = vae
        self.stride = vae.spatial_compression_ratio

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] to latents [N, 32, H/32, W/32]."""
        return self.vae.encode(image.to(self.vae.dtype)).latent * self.vae.config["scaling_factor"]

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to [N, 3, H, W], not clamped."""
        return self.vae.decode(latents.to(self.vae.dtype) / self.vae.config["scaling_factor"]).sample


class FrameCodec:
    """An autoencoder of videos that takes an image as one frame, its latents standardized by channel (Qwen-Image)."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.stride = 2 ** len(vae.temperal_downsample)  # the library's spelling
        mean, deviation = (torch.tensor(vae.config[key]) for key in ("latents_mean", "latents_std"))
        self._moments = torch.stack([mean, deviation]).view(2, 1, -1, 1, 1)

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] to latents [N, 16, H/8, W/8]."""
        latents = self.vae.encode(image[:, :, None].to(self.vae.dtype)).latent_dist.mean[:, :, 0]
        self._moments = self._moments.to(latents)
        mean, deviation = self._moments
        return (latents - mean) / deviation

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to [N, 3, H, W], not clamped."""
        self._moments = self._moments.to(latents)
        mean, deviation = self._moments
        return self.vae.decode((latents * deviation + mean)[:, :, None].to(self.vae.dtype)).sample[:, :, 0]


class PackedCodec:
    """FLUX.2's autoencoder: squares of 2×2 latents packed into channels, then normalized by running statistics."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.stride = 2 * 2 ** (len(vae.config["block_out_channels"]) - 1)

    def _moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        norm = self.vae.bn  # on another device than `like` while the autoencoder waits offloaded
        deviation = (norm.running_var + self.vae.config["batch_norm_eps"]).sqrt()
        return norm.running_mean.view(1, -1, 1, 1).to(like), deviation.view(1, -1, 1, 1).to(like)

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] to latents [N, 128, H/16, W/16]."""
        latents = self.vae.encode(image.to(self.vae.dtype)).latent_dist.mean
        mean, deviation = self._moments(latents)
        return (torch.nn.functional.pixel_unshuffle(latents, 2) - mean) / deviation

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to [N, 3, H, W], not clamped."""
        latents = latents.to(self.vae.dtype)
        mean, deviation = self._moments(latents)
        packed = latents * deviation + mean
        return self.vae.decode(torch.nn.functional.pixel_shuffle(packed, 2)).sample
