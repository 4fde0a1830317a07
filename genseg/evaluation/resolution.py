"""Resolution at which a sample is segmented and measured, which is part of every metric's definition."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from genseg.errors import unknown
from genseg.evaluation.datasets.base import Sample
from genseg.evaluation.metrics import Labels

Box: TypeAlias = tuple[int, int, int, int]
Resize: TypeAlias = Callable[[Image.Image, tuple[int, int]], Image.Image]
"""Scales an image, or labels in 32 bits, to a width and height."""


def lanczos(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale by Lanczos."""
    return image.resize(size, Image.Resampling.LANCZOS)


def bilinear(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale bilinearly, over a wider support where the image gets smaller, as Pillow does."""
    return image.resize(size, Image.Resampling.BILINEAR)


def aliased(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale bilinearly from the four nearest pixels, as TensorFlow and torch do unless they are told to antialias."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    scaled = F.interpolate(pixels, size[::-1], mode="bilinear", align_corners=False)
    return Image.fromarray(scaled[0].permute(1, 2, 0).round().byte().numpy())


def nearest(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale by the nearest pixel, as Pillow does."""
    return image.resize(size, Image.Resampling.NEAREST)


def nearest_exact(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale labels by the nearest pixel, as TensorFlow and torch do, who round otherwise between two pixels."""
    pixels = torch.from_numpy(np.array(image))[None, None].float()
    scaled = F.interpolate(pixels, size[::-1], mode="nearest-exact")
    return Image.fromarray(scaled[0, 0].int().numpy())


def square(
    sample: Sample,
    side: int,
    resize: Resize = lanczos,
    labels: Resize = nearest,
    margin: int = 0,
    step: int = 1,
    rounded: bool = False,
) -> Sample:
    """Cut the centre square, then scale it.

    Args:
        sample: The sample at full size.
        side: Side of the scaled square.
        resize: Scales the image.
        labels: Scales the ground truth.
        margin: Number of pixels by which the square is smaller than the image's shorter side.
        step: Of the scaled ground truth, every ``step``-th pixel is measured.
        rounded: Where half a pixel remains; see `centred`.
    """
    box = centred(sample.image.size, min(sample.image.size) - margin, rounded)
    scaled = _scaled(sample, box, (side, side), resize, labels)
    return dataclasses.replace(scaled, truths=tuple(truth[::step, ::step] for truth in scaled.truths))


def shorter_side(sample: Sample, side: int, resize: Resize, longest: int) -> Sample:
    """Scale the shorter side to ``side``, or the longer one to ``longest`` if it would be larger."""
    short, long = sorted(sample.image.size)
    scale = min(side / short, longest / long)
    width, height = (int(length * scale + 0.5) for length in sample.image.size)
    return _scaled(sample, (0, 0, *sample.image.size), (width, height), resize)


def scaled_square(sample: Sample, side: int, resize: Resize) -> Sample:
    """Scale the shorter side, then cut the centre square."""
    short = min(sample.image.size)
    width, height = (side * length // short for length in sample.image.size)
    scaled = _scaled(sample, (0, 0, *sample.image.size), (width, height), resize)
    left, top, right, bottom = box = centred((width, height), side, rounded=True)
    truths = tuple(truth[top:bottom, left:right] for truth in scaled.truths)
    return dataclasses.replace(scaled, image=scaled.image.crop(box), truths=truths)


def squeezed(sample: Sample, side: int, resize: Resize) -> Sample:
    """Scale width and height to the same side, whatever the proportions."""
    return _scaled(sample, (0, 0, *sample.image.size), (side, side), resize)


RESOLUTIONS: dict[str, Callable[[Sample], Sample]] = {
    "full": lambda sample: sample,
    "512": partial(square, side=512),
    "320": partial(square, side=320),
    "128": partial(square, side=128),
    "diffcut": partial(square, side=1024, resize=aliased, labels=nearest_exact, margin=1, step=8, rounded=True),
    "diffseg": partial(square, side=512, resize=aliased, labels=nearest_exact),
    "stego": partial(scaled_square, side=320, resize=nearest),
    "cause-voc": partial(squeezed, side=320, resize=nearest),
    "seg4diff": partial(shorter_side, side=640, resize=bilinear, longest=2560),
}
"""Resolutions by name; docs/protocols.md describes them."""


def at_resolution(sample: Sample, how: str) -> Sample:
    """Bring a sample to one of `RESOLUTIONS`.

    Args:
        sample: The sample at full size.
        how: A name.

    Returns:
        The sample with its image scaled, and its ground truth by nearest pixel. Masks are measured at the size of the
        ground truth, which ``"diffcut"`` makes smaller than the image.

    Raises:
        GensegError: If the resolution is unknown.
    """
    if how not in RESOLUTIONS:
        raise unknown("resolution", how, RESOLUTIONS)
    return RESOLUTIONS[how](sample)


def center_square(image: Image.Image) -> Image.Image:
    """Crop the largest centred square of an image."""
    return image.crop(centred(image.size, min(image.size)))


def centred(size: tuple[int, int], side: int, rounded: bool = False) -> Box:
    """Place a square in the centre of an image.

    Args:
        size: Width and height of the image.
        side: Side of the square.
        rounded: Whether half a pixel is rounded to even, as in torchvision, instead of down.

    Returns:
        Left, top, right and bottom.
    """
    left, top = (round((length - side) / 2) if rounded else (length - side) // 2 for length in size)
    return left, top, left + side, top + side


def _scaled(sample: Sample, box: Box, size: tuple[int, int], resize: Resize, labels: Resize = nearest) -> Sample:
    """Cut a box out of image and ground truth, and scale it."""

    def scaled(truth: Labels) -> Labels:
        return np.asarray(labels(Image.fromarray(truth.astype(np.int32)).crop(box), size), dtype=np.int64)

    image = resize(sample.image.crop(box), size)
    return dataclasses.replace(sample, image=image, truths=tuple(map(scaled, sample.truths)))
