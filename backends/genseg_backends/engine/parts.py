"""Parts that callers have in memory: what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg_backends.engine.codecs import Codec, Pixels


def check_class(network: Any, name: str) -> None:
    """Refuse a network that is not of diffusers' class ``name``.

    Raises:
        GensegError: If it is not.
    """
    if not isinstance(network, getattr(diffusers, name)):
        raise GensegError(f"this backend needs a {name}, not a {type(network).__name__}; use the backend of its family")


def check_conditioning(conditioning: Mapping[str, Any]) -> None:
    """Refuse inputs of a network that are not tensors of one row each.

    Raises:
        GensegError: If one is not; the message names it.
    """
    for name, value in conditioning.items():
        if not isinstance(value, Tensor):
            raise GensegError(f"{name} must be a tensor, not a {type(value).__name__}; give one of its items")
        if value.shape[:1] != (1,):
            raise GensegError(
                f"{name} must have one row, and is {list(value.shape)}; give that of one prompt alone, without the "
                "other of classifier-free guidance"
            )


def codec_of(vae: Any, kind: str, make: Callable[[Any], Codec], channels: int) -> Codec:
    """The codec of an autoencoder, or what stands in its place.

    Args:
        vae: The autoencoder; a codec, which is returned; or None for pixels.
        kind: Name of the autoencoder's class in diffusers; empty where the network works on pixels.
        make: Makes the codec.
        channels: Of the latents that the network takes.

    Raises:
        GensegError: If the autoencoder is missing or does not belong to the network.
    """
    if vae is None and kind:
        raise GensegError(f"this backend needs an autoencoder; pass an {kind} as vae=...")
    if not isinstance(vae, nn.Module):
        codec: Codec = vae or Pixels()
        return codec
    if isinstance(vae, diffusers.AutoencoderTiny):
        raise GensegError(f"an AutoencoderTiny is for previews; pass it as tiny_vae=..., and an {kind} as vae=...")
    config: Any = vae.config
    if (latents := config.get("latent_channels", channels)) != channels:
        raise GensegError(
            f"the latents of this autoencoder have {latents} channels, and the network takes {channels}; use the "
            "autoencoder that belongs to it"
        )
    return make(vae)
