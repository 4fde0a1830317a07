"""Joint bilateral upsampling (Kopf et al., 2007): means over pixels that are near, in the plane and in color."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (16, 8, 4, 2, 1)  # pixels between the taps of the joint bilateral filter, one pass each

PASSES = 2  # over all dilations

COLOR, SPACE = 0.05, 1.5  # σ of its 5×5 kernel: in RGB, each channel in [0, 1], and in taps


def bilinear(image: Tensor, features: Tensor) -> Tensor:
    """Scale features bilinearly, without regard to the image's colors.

    Args:
        image: float32 [1, 3, H, W]; gives the size alone.
        features: float32 [C, h, w].

    Returns:
        float32 [C, H, W].
    """
    return F.interpolate(features[None], image.shape[2:], mode="bilinear", align_corners=False)[0]


def jbu(image: Tensor, features: Tensor) -> Tensor:
    """Scale features bilinearly, then filter them by the image's colors, in passes of falling width.

    Args:
        image: float32 [1, 3, H, W] in [-1, 1].
        features: float32 [C, h, w].

    Returns:
        float32 [C, H, W].
    """
    maps, colors = bilinear(image, features), (image[0] + 1) / 2
    for dilation in PASSES * DILATIONS:
        maps = filtered(maps, colors, dilation)
    return maps


def filtered(maps: Tensor, image: Tensor, dilation: int) -> Tensor:
    """Replace each pixel by the mean of 5×5 around it, weighted by distance in the plane and in the image's colors.

    With falling dilations this is the edge-avoiding à-trous transform (Dammertz et al., 2010): a wide filter in a few
    small ones.

    Args:
        maps: float32 [K, H, W].
        image: float32 [3, H, W] in [0, 1].
        dilation: Pixels between the kernel's taps.

    Returns:
        float32 [K, H, W].
    """
    total, weights = torch.zeros_like(maps), torch.zeros_like(maps[:1])
    for (steps, colors), (_, values) in zip(_shifted(image, dilation), _shifted(maps, dilation), strict=True):
        distance = (colors - image).square().sum(dim=0, keepdim=True)
        weight = torch.exp(-distance / (2 * COLOR**2) - steps / (2 * SPACE**2))
        total.addcmul_(values, weight)
        weights += weight
    return total / weights


def _shifted(maps: Tensor, dilation: int) -> Iterator[tuple[int, Tensor]]:
    """Maps [C, H, W] shifted to each tap of a 5×5 kernel, with its squared distance in taps; borders are repeated."""
    height, width = maps.shape[1:]
    padded = F.pad(maps[None], (2 * dilation,) * 4, mode="replicate")[0]
    for row in range(5):
        for column in range(5):
            top, left = row * dilation, column * dilation
            yield (row - 2) ** 2 + (column - 2) ** 2, padded[:, top : top + height, left : left + width]
