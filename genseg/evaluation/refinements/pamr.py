"""Pixel-adaptive mask refinement of labels (Araslanov and Roth, CVPR 2020)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from genseg.upsampling import adaptive


def pamr(segments: npt.NDArray[np.int32], colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Take the argmax of the labels' masks after `genseg.upsampling.adaptive.pamr`.

    Args:
        segments: int32 [H, W] in 0..K-1.
        colors: uint8 [H, W, 3].

    Returns:
        int32 [H, W] in 0..K-1.
    """
    image = torch.from_numpy(colors.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    masks = F.one_hot(torch.from_numpy(segments).long()).permute(2, 0, 1).float()
    return adaptive.pamr(image, masks).argmax(dim=0).int().numpy()
