"""How much each pixel of an image looks like one on the border of two segments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE, SIGMA = 480, 2.5  # the longer side at which edges are found, and how wide they are, in pixels
UNSURE = 0.1  # the confidence of segments that have none


def contrast(
    image: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float16] | None = None
) -> npt.NDArray[np.float32]:
    """Multiply the strength of an image's edges with the model's confidence, and take the root.

    Where the color changes at once, and pixels respond to the perturbation of one cluster alone, two segments are two
    things. Where the color changes slowly, or pixels respond to both, they are parts of one.

    Args:
        image: uint8 (H, W, 3).
        confidence: float16 (H, W) in [0, 1]; None for `UNSURE` everywhere.

    Returns:
        float32 (H, W), above 0. Edges are gradients of CIELAB colors, at a longer side of `SIDE` pixels.
    """
    from scipy.ndimage import gaussian_gradient_magnitude
    from skimage.color import rgb2lab

    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX if scale < 1 else None))
    channels = np.moveaxis(rgb2lab(small), 2, 0)
    edges = np.sqrt(sum(gaussian_gradient_magnitude(channel, SIGMA) ** 2 for channel in channels), dtype=np.float32)
    edges = np.asarray(Image.fromarray(edges).resize((width, height), Image.Resampling.BILINEAR))
    sure = np.float32(UNSURE) if confidence is None else confidence.astype(np.float32)
    borders: npt.NDArray[np.float32] = np.sqrt((1 + edges) * (np.float32(0.05) + sure))
    return borders
