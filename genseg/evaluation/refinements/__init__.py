"""Refinement of a method's masks by the image's colors. `REFINEMENTS` has them by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.errors import unknown
from genseg.evaluation.method import Masks
from genseg.evaluation.refinements.crf import STEGO, crf
from genseg.evaluation.refinements.pamr import pamr, pamr_diffcut
from genseg.evaluation.resolution import aliased, lanczos

Refinement = Callable[[npt.NDArray[np.int32], npt.NDArray[np.uint8]], npt.NDArray[np.int32]]
"""Maps segments int32 [H, W] in 0..K-1 and colors uint8 [H, W, 3] to refined segments in 0..K-1."""

REFINEMENTS: dict[str, Refinement] = {
    "pamr": pamr,
    "crf": crf,
    "pamr-diffcut": pamr_diffcut,
    "crf-stego": partial(crf, parameters=STEGO),
}

RESIZED = {"pamr-diffcut": aliased}
"""How the image is scaled to the masks' resolution, unless by Lanczos."""


def refined(masks: Masks, image: Image.Image, how: str) -> Masks:
    """Refine masks by the colors of the image.

    Args:
        masks: Masks at any resolution.
        image: The image, in RGB; scaled to the masks' resolution.
        how: One of `REFINEMENTS`.

    Returns:
        Masks of the same resolution. Segments keep their embeddings; those left without pixels are dropped.

    Raises:
        GensegError: If there is no such refinement; the message suggests the closest name.
    """
    if how not in REFINEMENTS:
        raise unknown("refinement", how, REFINEMENTS)
    height, width = masks.segments.shape
    colors = np.asarray(RESIZED.get(how, lanczos)(image, (width, height)))
    remaining, segments = np.unique(REFINEMENTS[how](masks.segments, colors), return_inverse=True)
    embeddings = None if masks.embeddings is None else masks.embeddings[remaining]
    return Masks(segments.reshape(height, width).astype(np.int32), embeddings)
