"""Cues for merging segments from the colors of an image: the strength of its edges, and bins of like colors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE, SIGMA = 480, 2.5  # the longer side at which edges are found, and how wide they are, in pixels
BINS = 8  # of each channel of a color, over what photos have of it: L* from 0 to 100, a* and b* from -40 to 40


def contrast_and_colors(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Measure the contrast of an image at each pixel, and sort its colors into bins.

    Both are those of CIELAB colors, at a longer side of `SIDE` pixels.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        A pair: contrast, float32 (H, W), above 0, the strength of edges plus 1, relative to the root of the image's
        mean; and colors, int32 (H, W) in 0..`BINS`³-1.
    """
    from scipy.ndimage import gaussian_gradient_magnitude
    from skimage.color import rgb2lab

    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    lab = rgb2lab(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX if scale < 1 else None)))
    edges = 1 + np.sqrt(sum(gaussian_gradient_magnitude(channel, SIGMA) ** 2 for channel in np.moveaxis(lab, 2, 0)))
    edges = (edges / np.sqrt(edges.mean())).astype(np.float32)
    bins = np.clip((lab + np.array([0, 40, 40])) * BINS / (100, 80, 80), 0, BINS - 1).astype(np.int32)
    colors = np.ravel_multi_index(tuple(np.moveaxis(bins, 2, 0)), (BINS,) * 3).astype(np.int32)
    contrast = Image.fromarray(edges).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(contrast), np.asarray(Image.fromarray(colors).resize((width, height), Image.Resampling.NEAREST))
