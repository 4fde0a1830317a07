"""Embedders: models that put pixels and texts into one space, by which segments are named (EmerDiff, section 4.4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from genseg.plugins import PluginInfo, discovered


class Embedder(ABC):
    """A model whose embeddings of pixels and of texts can be compared by their cosine. Subclass it for another one.

    Its licence and checkpoint stand in the attribute ``card``, a `genseg.ModelCard`, of the factory that loads it.

    Attributes:
        name: The name under which results are reported.
        image_size: Side of the square, in pixels, whose area an image is scaled to.
        size_multiple: Both sides of an image must be multiples of this, in pixels.
    """

    image_size: int
    size_multiple: int

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def pixels(self, image: Tensor) -> Tensor:
        """Embed the parts of an image.

        Args:
            image: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of `size_multiple`.

        Returns:
            float32 [D, h, w] on the CPU, of any length: cell (i, j) is the part of the image that lies there when h × w
            cells of equal size cover it.
        """

    @abstractmethod
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Embed texts: float32 [N, D] on the CPU, of any length."""


_registry = partial(discovered, "embedder")


def list_embedders() -> list[PluginInfo]:
    """All registered embedders, in order of name, and whether each is usable here."""
    return _registry().infos()


def embedder_info(name: str) -> PluginInfo:
    """The line of `list_embedders` on one embedder.

    Raises:
        GensegError: If the name is unknown, or claimed by two plug-ins.
    """
    return _registry().info(name)


def load_embedder(
    name: str, *, model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Any
) -> Embedder:
    """Load an embedder.

    Args:
        name: One of `list_embedders`.
        model: A local checkpoint, or a hub id; None for the embedder's own.
        device: A torch device such as ``"cuda:0"``; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``; None for float32.
        **options: What else the embedder's factory takes, such as ``size=224``; None means "not given".

    Returns:
        The embedder, its weights loaded.

    Raises:
        GensegError: For an unknown name or option, a missing package, missing or wrong weights, or a device that is
            not there.
    """
    embedder: Embedder = _registry().load(name, Embedder, options, model=model, device=device, dtype=dtype)  # type: ignore[type-abstract]
    return embedder
