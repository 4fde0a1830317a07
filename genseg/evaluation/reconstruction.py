"""How well a model gives an image back: the error of what it regenerates where nothing is perturbed."""

from __future__ import annotations

import math

from torch import Tensor

RANGE = 2.0  # of pixels in [-1, 1]
FLOOR = 2.0**-24  # float32's rounding at 1: an RMSE below it counts as it, so that the PSNR stays finite


def reconstruction_error(image: Tensor, reconstruction: Tensor) -> tuple[float, float]:
    """RMSE and PSNR, in dB, of a reconstruction, which is clamped as a picture is.

    Args:
        image: float32 [1, 3, H, W] in [-1, 1]: what the model was given.
        reconstruction: Of the same shape, nominally in [-1, 1].

    Returns:
        The RMSE over pixels and channels, in units of [-1, 1], and the PSNR for a data range of 2; the same image has
        0 and 150.5 dB.
    """
    rmse = (reconstruction.clamp(-1, 1).double() - image.double()).square().mean().sqrt().item()
    return rmse, 20 * math.log10(RANGE / max(rmse, FLOOR))
