"""Upsamplers by name, and `upsample`, which the field's signature is: an image, its features and a size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from numbers import Integral
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.errors import GensegError, unknown
from genseg.images import ImageLike, load_image, to_tensor
from genseg.recipe import Recipe
from genseg.registry import UPSAMPLERS
from genseg.upsampling.adaptive import pamr
from genseg.upsampling.bilateral import bilinear, jbu
from genseg.upsampling.splatting import upsample_anything

Upsample: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Called with an image, float32 [1, 3, H, W] in [-1, 1], and features, float32 [C, h, w]; returns float32 [C, H, W]."""

METHODS: dict[str, Upsample] = {
    "bilinear": bilinear,
    "jbu": jbu,
    "upsample-anything": upsample_anything,
    "pamr": pamr,
}
"""The upsamplers that need no model."""

FILTERS = ("bilinear", "jbu", "pamr")  # what also changes features that have the image's resolution already

CELL = 8  # pixels along each side of the cells to which other upsamplers' features are averaged if they are finer


def upsample(
    image: ImageLike | Sequence[ImageLike], features: Tensor, size: tuple[int, int], method: str | Upsample = "jbu"
) -> Tensor:
    """Bring features of any model to the resolution of their image, or to another size.

    Args:
        image: An image as for `genseg.segment`, whose values are floating point in [0, 1] if it is a tensor. For N
            feature maps: one image for all, or N of them, in a sequence or a tensor [N, 3, H, W].
        features: [C, h, w] or [N, C, h, w], of any floating-point type.
        size: (H, W) of the result in pixels; the image is scaled to it.
        method: ``"bilinear"``; ``"jbu"``, joint bilateral upsampling in ten passes; ``"upsample-anything"``, Gaussians
            that are fitted to the image (arXiv 2511.16301); ``"pamr"``, pixel-adaptive refinement; the name of a
            plug-in's upsampler; or a loaded one.

    Returns:
        float32 [C, H, W] or [N, C, H, W], on the features' device.

    Raises:
        GensegError: If there is no such method, or the image, the features or the size cannot be used.
    """
    if not isinstance(features, Tensor) or features.ndim not in (3, 4) or not features.is_floating_point():
        raise GensegError("features must be a floating-point tensor [C, h, w] or [N, C, h, w]")
    if not (isinstance(size, Iterable) and [isinstance(each, Integral) and each > 0 for each in size] == [True, True]):
        raise GensegError(f"size must be (height, width) in pixels, not {size!r}")
    function = upsampler_named(method) if isinstance(method, str) else method
    batch = features.float() if features.ndim == 4 else features.float()[None]
    maps = [
        function(to_tensor(load_image(each, Recipe.max_pixels), (size[1], size[0])).to(batch.device), one)
        for each, one in zip(_images(image, len(batch)), batch, strict=True)
    ]
    return torch.stack(maps) if features.ndim == 4 else maps[0]


def _images(image: ImageLike | Sequence[ImageLike], count: int) -> Sequence[ImageLike]:
    """One image for each of ``count`` feature maps."""
    is_batch = isinstance(image, (list, tuple)) or getattr(image, "ndim", 0) == 4
    images: Sequence[ImageLike] = list(image) if is_batch else [image] * count  # type: ignore[arg-type, list-item]
    if len(images) != count:
        raise GensegError(f"{count} feature maps need one image for all of them, or {count} images, not {len(images)}")
    return images


def upsampler_named(name: str) -> Upsample:
    """Return an upsampler by name, one of `METHODS` or of a plug-in.

    Raises:
        GensegError: If there is no such upsampler; the message suggests the closest name.
    """
    if name in METHODS:
        return METHODS[name]
    if name not in UPSAMPLERS.plugins.names():
        raise unknown("upsampler", name, [*METHODS, *UPSAMPLERS.plugins.names()])
    return _loaded(name)


@lru_cache(maxsize=1)
def _loaded(name: str) -> Upsample:
    return UPSAMPLERS.load(name)


def refined(maps: Tensor, pixels: Tensor, how: str) -> Tensor:
    """Bring maps to the image's resolution and its edges, so that their argmax follows these.

    Args:
        maps: float32 [K, h, w]: difference maps or soft masks.
        pixels: float32 [1, 3, H, W] in [-1, 1].
        how: The recipe's `refine`: "none" to leave the maps as they are, or the name of an upsampler.

    Returns:
        float32 [K, H, W], or the maps themselves for "none".

    Raises:
        GensegError: If there is no such upsampler; the message suggests the closest name.
    """
    if how == "none":
        return maps
    return upsampler_named(how)(pixels.to(maps.device), coarsened(maps, pixels, how))


def coarsened(maps: Tensor, pixels: Tensor, how: str) -> Tensor:
    """Average maps [K, h, w] over cells of `CELL` pixels, if they are finer and ``how`` is no filter.

    At the image's own resolution the others would have nothing to upsample.
    """
    cells = (max(pixels.shape[2] // CELL, 1), max(pixels.shape[3] // CELL, 1))
    if how in ("none", *FILTERS) or (maps.shape[1] <= cells[0] and maps.shape[2] <= cells[1]):
        return maps
    return F.adaptive_avg_pool2d(maps, cells)
