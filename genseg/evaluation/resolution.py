"""The resolution at which a sample is segmented and measured: a part of every figure's definition."""

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
        sample: At full size.
        how: ``"full"`` leaves it as it is. A number is the side of the centre square, scaled: 512 as DiffSeg has it,
            320 as PiCIE, STEGO and the paper's COCO-Stuff-27 have it, 128 as this project's development figures do.

    Returns:
        The image scaled by Lanczos, the truths by taking the nearest pixel.

    Raises:
        GensegError: For an unknown resolution.
    """
    if how not in RESOLUTIONS:
        raise unknown("resolution", how, RESOLUTIONS)
    if how == "full":
        return sample
    side = int(how)
    image = center_square(sample.image).resize((side, side), Image.Resampling.LANCZOS)
    return dataclasses.replace(sample, image=image, truths=tuple(_scaled(truth, side) for truth in sample.truths))


def center_square(image: Image.Image) -> Image.Image:
    """The largest centred square of an image."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _scaled(truth: Labels, side: int) -> Labels:
    square = center_square(Image.fromarray(truth.astype(np.int32)))
    return np.asarray(square.resize((side, side), Image.Resampling.NEAREST), dtype=np.int64)
