"""Low-resolution masks to difference maps: perturb one mask, see which pixels change (EmerDiff, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import Backend, pick
from genseg.recipe import Recipe

ROUNDING = 1e-5  # differences of pixels in [-1, 1] that two equal rows of one batch may have


def difference_maps(
    backend: Backend, state: Any, masks: Tensor, recipe: Recipe, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """How much each pixel changes when each mask is perturbed.

    d_k(x, y) = ‖I⁻(x, y) − I⁺(x, y)‖₂ over RGB, where I^± are regenerated with ±λ added at the mask's positions
    of the modulation point, and blurred.

    Args:
        backend: The model.
        state: What ``backend.encode`` returned.
        masks: float32 [K, h, w] in {0, 1} on the modulation point's grid.
        recipe: Gives `point`, `strength`, `blur` and `batch_size`.
        progress: Told after every batch how many masks are done, and how many there are.

    Returns:
        float32 [K, H, W] at the model's resolution, on the CPU.

    Raises:
        GensegError: If no mask changes any pixel, or the differences are not finite.
    """
    point = pick("point", backend.points, recipe.point)
    masks = masks.to(backend.device)
    maps = []
    pairs = max(recipe.batch_size // 2, 1)
    for chunk in torch.split(masks, pairs):
        signs = torch.cat([-chunk, chunk]) * recipe.strength
        images = blurred(backend.decode(backend.regenerate(state, point, signs, recipe)), recipe.blur)
        minus, plus = images.chunk(2)
        maps.append((minus - plus).norm(dim=1).cpu())
        if progress is not None:
            progress(sum(map(len, maps)), len(masks))
    differences = torch.cat(maps)
    if not differences.isfinite().all():
        raise GensegError("the difference maps are not finite; try dtype='float32' or a smaller strength")
    if recipe.strength > 0 and differences.max() < ROUNDING:
        raise GensegError(
            f"an offset at point {point.module} changes no pixel; choose another point or a larger strength"
        )
    return differences


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Blur [N, 3, H, W] by a 3×3 Gaussian of standard deviation ``sigma`` pixels, borders reflected."""
    if sigma == 0:
        return images
    side = math.exp(-0.5 / sigma**2)
    kernel = torch.tensor([side, 1.0, side], device=images.device) / (1 + 2 * side)
    channels = images.shape[1]
    window = (kernel[:, None] * kernel).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), window, groups=channels)


def normalised(maps: Tensor, how: str) -> Tensor:
    """Difference maps [K, H, W] as the argmax takes them: as they are, or each divided by its RMS."""
    if how == "none":
        return maps
    return maps / maps.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=torch.finfo(maps.dtype).tiny)


def labels_at(maps: Tensor, height: int, width: int) -> Tensor:
    """Argmax over k of the maps [K, H', W'] scaled bilinearly to ``height`` × ``width``: int32 [height, width].

    One map at a time, so that memory does not grow with K.
    """
    best = torch.full((height, width), -torch.inf)
    labels = torch.zeros(height, width, dtype=torch.int32)
    for k, d in enumerate(maps):
        scaled = F.interpolate(d[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        better = scaled > best
        best[better] = scaled[better]
        labels[better] = k
    return labels
