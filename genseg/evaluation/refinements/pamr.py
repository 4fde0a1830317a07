"""Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020): labels spread to neighbours of like colour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (1, 2, 4, 8, 12, 24)  # pixels, of 3×3 neighbourhoods (the paper's)
ITERATIONS = 10
SHARPNESS = 10.0  # how fast affinity falls with a difference in local standard deviations (the authors' code: 1 / 0.1)


def pamr(segments: npt.NDArray[np.int32], colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Replace each pixel's label by the colour-weighted mean of its neighbours' labels, `ITERATIONS` times.

    The result is the argmax. The weights are the softmax over neighbours n of −|I_n − I| / (0.1 σ), averaged over the
    colour channels, where σ is the standard deviation of each channel over all neighbours.

    Args:
        segments: int32 [H, W] in 0..K-1.
        colors: uint8 [H, W, 3].

    Returns:
        int32 [H, W] in 0..K-1.
    """
    weights = affinity_of(torch.from_numpy(colors.astype(np.float32) / 255).permute(2, 0, 1))
    soft = F.one_hot(torch.from_numpy(segments).long()).permute(2, 0, 1).float()
    for _ in range(ITERATIONS):
        spread = torch.zeros_like(soft)
        for weight, neighbours in zip(weights, _neighbours(soft), strict=True):
            spread.addcmul_(neighbours, weight)
        soft = spread
    return soft.argmax(dim=0).int().numpy()


def affinity_of(image: Tensor) -> Tensor:
    """Compute the weights of each pixel's neighbours.

    Args:
        image: float32 [3, H, W] in [0, 1].

    Returns:
        float32 [8·dilations, H, W], with sum 1.
    """
    around = torch.stack(list(_neighbours(image)))
    deviation = around.std(dim=0)
    distances = (around - image).abs() / (deviation / SHARPNESS + 1e-8)  # 0 / 1e-8 in uniform neighbourhoods
    return torch.softmax(-distances.mean(dim=1), dim=0)


def _neighbours(maps: Tensor) -> Iterator[Tensor]:
    """Yield the maps [C, H, W] shifted to each neighbour in turn, with the nearest pixel beyond the borders."""
    height, width = maps.shape[1:]
    for d in DILATIONS:
        padded = F.pad(maps[None], (d, d, d, d), mode="replicate")[0]
        for row in (0, d, 2 * d):
            for column in (0, d, 2 * d):
                if (row, column) != (d, d):
                    yield padded[:, row : row + height, column : column + width]
