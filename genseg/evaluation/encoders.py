"""Encoders: vision models that give features and generate nothing, so that their clusters can be compared with ours.

An encoder is no `genseg.interface.Backend`: it has no modulation point. Plug-ins register theirs by the hook
`register_encoders`, as they do backends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import ModelCard
from genseg.plugins import Providers, called, described, imported


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


@dataclass(frozen=True)
class EncoderInfo:
    """One line of `list_encoders`.

    Attributes:
        name: What to pass to `load_encoder`.
        provider: The distribution and entry point that registered it.
        description: First line of the factory's docstring; empty if it cannot be imported here.
        problem: Why it cannot be used here, in one sentence; empty if it can.
        card: What is known of its model before it is loaded; None where the factory does not tell.
    """

    name: str
    provider: str
    description: str
    problem: str
    card: ModelCard | None


@cache
def _providers() -> Providers:
    return Providers.installed("encoder", "register_encoders")


def list_encoders() -> list[EncoderInfo]:
    """All registered encoders, in order of name, and whether each can be used here."""
    return [
        EncoderInfo(name, provider, *described("encoder", name, factory))
        for name, provider, factory in _providers().claims()
    ]


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
    factory = imported("encoder", name, _providers().factory(name))
    encoder = called("encoder", name, factory, options, model=model, device=device, dtype=dtype)
    if not isinstance(encoder, Encoder):
        raise GensegError(f"the factory of encoder {name!r} returned a {type(encoder).__name__}, not a genseg Encoder")
    return encoder
