"""Pixel-adaptive mask refinement of labels (Araslanov and Roth, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.ndimage import median_filter

from genseg.upsampling import adaptive


def pamr(
    segments: npt.NDArray[np.int32], colors: npt.NDArray[np.uint8], dilations: Sequence[int] = adaptive.DILATIONS
) -> npt.NDArray[np.int32]:
    """Take the argmax of the labels' masks after `genseg.upsampling.adaptive.pamr`.

    Args:
        segments: int32 [H, W] in 0..K-1.
        colors: uint8 [H, W, 3].
        dilations: Those of the neighborhoods, in pixels.

    Returns:
        int32 [H, W] in 0..K-1.
    """
    image = torch.from_numpy(colors.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    masks = F.one_hot(torch.from_numpy(segments).long()).permute(2, 0, 1).float()
    return adaptive.pamr(image, masks, dilations).argmax(dim=0).int().numpy()


def pamr_diffcut(segments: npt.NDArray[np.int32], colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Refine labels as DiffCut's code does: by `pamr` over shorter distances, then the median of 3×3 labels.

    Args:
        segments: int32 [H, W] in 0..K-1; the median depends on their order.
        colors: uint8 [H, W, 3].

    Returns:
        int32 [H, W] in 0..K-1, renumbered without gaps.
    """
    numbered = np.unique(segments, return_inverse=True)[1].reshape(segments.shape).astype(np.int32)
    refined: npt.NDArray[np.int32] = median_filter(pamr(numbered, colors, (1, 2, 4, 8)), 3)
    return refined
