"""Resolution at which a sample is segmented and measured, which is part of every metric's definition."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from genseg.errors import unknown
from genseg.evaluation.datasets.base import Sample
from genseg.evaluation.metrics import Labels

RESOLUTIONS = ("full", "512", "320", "128")


def at_resolution(sample: Sample, how: str) -> Sample:
    """Bring a sample to one of `RESOLUTIONS`.

    Args:
        sample: The sample at full size.
        how: ``"full"`` for no change, or the side to which the centre square is scaled: 512 as in DiffSeg, 320 as in
            PiCIE, STEGO and the paper's COCO-Stuff-27, 128 for development.

    Returns:
        The sample with its image scaled by Lanczos, and its ground truth by nearest pixel.

    Raises:
        GensegError: If the resolution is unknown.
    """
    if how not in RESOLUTIONS:
        raise unknown("resolution", how, RESOLUTIONS)
    if how == "full":
        return sample
    side = int(how)
    image = center_square(sample.image).resize((side, side), Image.Resampling.LANCZOS)
    return dataclasses.replace(sample, image=image, truths=tuple(_scaled(truth, side) for truth in sample.truths))


def center_square(image: Image.Image) -> Image.Image:
    """Crop the largest centred square of an image."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _scaled(truth: Labels, side: int) -> Labels:
    square = center_square(Image.fromarray(truth.astype(np.int32)))
    return np.asarray(square.resize((side, side), Image.Resampling.NEAREST), dtype=np.int64)
