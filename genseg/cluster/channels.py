"""Which channels of a tap's features are clustered, and on what scale.

A few fixed channels of diffusion transformers are far larger than all others at every token, and would decide every
distance that k-means computes: the massive activations of DiTF (arXiv 2505.18584), which reads features after AdaLN and
sets them to zero, and of arXiv 2605.13974, which clusters them alone to find the subject.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genseg.errors import GensegError

MASSIVE = 20.0
"""How many times larger than the median channel a massive channel is, by the mean of absolute values."""


def with_channels(features: Tensor, channels: str) -> Tensor:
    """Select or scale the channels of a feature map.

    Args:
        features: float32 [C, h, w].
        channels: The recipe's key: ``"all"`` for the features as they are; ``"standardized"`` for mean 0 and standard
            deviation 1 in each channel; ``"without-massive"`` for 0 in the massive channels; ``"massive"`` for 0 in all
            others.

    Returns:
        float32 [C, h, w].

    Raises:
        GensegError: If no channel is massive, for ``"massive"``.
    """
    if channels == "all":
        return features
    if channels == "standardized":
        deviation, mean = torch.std_mean(features, dim=(1, 2), keepdim=True, correction=0)
        return (features - mean) / deviation.clamp(min=1e-6)
    massive = massive_channels(features)
    if channels == "massive" and not massive.any():
        raise GensegError("no channel of the features is massive; use channels=all, or another tap")
    return torch.where((massive == (channels == "massive"))[:, None, None], features, 0.0)


def massive_channels(features: Tensor) -> Tensor:
    """Find the channels [C] of features [C, h, w] whose mean absolute value exceeds `MASSIVE` times the median's."""
    sizes = features.abs().mean(dim=(1, 2))
    return sizes > MASSIVE * sizes.median()
