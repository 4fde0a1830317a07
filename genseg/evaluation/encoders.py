"""Encoders: vision models that give features and generate nothing, so that their clusters can be compared with ours.

An encoder is no `genseg.interface.Backend`: it has no modulation point. Plug-ins register theirs by the hook
`register_encoders`, as they do backends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

from torch import Tensor

from genseg.interface import ModelCard
from genseg.plugins import PluginInfo, discovered


class Encoder(ABC):
    """One vision model behind the harness's contract.

    Attributes:
        name: The name under which results are reported.
        image_size: Side of the square image that the model was made for, in pixels.
        size_multiple: Both sides of an image must be multiples of this, in pixels: the side of a patch.
        card: What is known of the model; None where nothing is.
    """

    name: str
    image_size: int
    size_multiple: int
    card: ModelCard | None = None

    @abstractmethod
    def features(self, image: Tensor) -> Tensor:
        """Features of an image.

        Args:
            image: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of `size_multiple`.

        Returns:
            float32 [C, h, w], one feature a patch.
        """


_registry = partial(discovered, "encoder")


def list_encoders() -> list[PluginInfo]:
    """All registered encoders, in order of name, and whether each is usable here."""
    return _registry().infos()


def encoder_info(name: str) -> PluginInfo:
    """The line of `list_encoders` on one encoder.

    Raises:
        GensegError: If the name is unknown, or claimed by two plug-ins.
    """
    return _registry().info(name)


def load_encoder(
    name: str, *, model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Any
) -> Encoder:
    """Load an encoder.

    Args:
        name: One of `list_encoders`.
        model: A local checkpoint, or a hub id; None for the encoder's own.
        device: A torch device such as ``"cuda:0"``; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``; None for float32.
        **options: What else the factory takes, such as ``revision="main"``; None means "not given".

    Returns:
        The encoder, its weights loaded.

    Raises:
        GensegError: For an unknown name or option, a missing package, missing or wrong weights, or a device that is
            not there.
    """
    encoder: Encoder = _registry().load(name, Encoder, options, model=model, device=device, dtype=dtype)  # type: ignore[type-abstract]
    return encoder
