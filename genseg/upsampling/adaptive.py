"""Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020): values spread to neighbors of like color."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.upsampling.bilateral import bilinear

DILATIONS = (1, 2, 4, 8, 12, 24)  # pixels, of 3×3 neighborhoods (the paper's)
ITERATIONS = 10
SHARPNESS = 10.0  # how fast affinity falls with a difference in local standard deviations (the authors' code: 1 / 0.1)


def pamr(image: Tensor, features: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Scale features bilinearly, then replace each pixel by the color-weighted mean of its neighbors, repeatedly.

    The weights are the softmax over neighbors n of −|I_n − I| / (0.1 σ), averaged over the color channels, where σ is
    the standard deviation of each channel over all neighborhoods, each with its center, as in the authors' code. There
    are `ITERATIONS` of it.

    Args:
        image: float32 [1, 3, H, W] in [-1, 1].
        features: float32 [C, h, w].
        dilations: Those of the 3×3 neighborhoods, in pixels.

    Returns:
        float32 [C, H, W].
    """
    weights = affinity_of((image[0] + 1) / 2, dilations)
    maps = bilinear(image, features)
    for _ in range(ITERATIONS):
        spread = torch.zeros_like(maps)
        for weight, neighbors in zip(weights, _neighbors(maps, dilations), strict=True):
            spread.addcmul_(neighbors, weight)
        maps = spread
    return maps


def affinity_of(image: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Compute the weights of each pixel's neighbors.

    Args:
        image: float32 [3, H, W] in [0, 1].
        dilations: Those of the neighborhoods, in pixels.

    Returns:
        float32 [8·dilations, H, W], with sum 1.
    """
    around = torch.stack(list(_neighbors(image, dilations)))
    deviation = torch.cat([around, image.expand(len(dilations), *image.shape)]).std(dim=0)
    distances = (around - image).abs() / (deviation / SHARPNESS + 1e-8)  # 0 / 1e-8 in uniform neighborhoods
    return torch.softmax(-distances.mean(dim=1), dim=0)


def _neighbors(maps: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield the maps [C, H, W] shifted to each neighbor in turn, with the nearest pixel beyond the borders."""
    height, width = maps.shape[1:]
    for d in dilations:
        padded = F.pad(maps[None], (d, d, d, d), mode="replicate")[0]
        for row in (0, d, 2 * d):
            for column in (0, d, 2 * d):
                if (row, column) != (d, d):
                    yield padded[:, row : row + height, column : column + width]
