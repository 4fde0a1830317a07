"""Names of segments, written into pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

FINEST = 512
"""Positions a side at which the place of a name is looked for: distances in all pixels of a photo take seconds."""


def captioned(picture: Image.Image, labels: npt.NDArray[np.int32], names: Sequence[str]) -> Image.Image:
    """Write each label's name where the label is widest.

    Args:
        picture: RGB, of the labels' size.
        labels: int32 (H, W) in 0..K-1.
        names: One for each label.

    Returns:
        A new picture; labels of a few pixels may have none. Text is white in black outlines, as tall as a 25th of the
        picture and at least 10 pixels, and never runs over the left or right border unless it is longer than the
        picture is wide.
    """
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(10, picture.height // 25))
    step = max(labels.shape) // FINEST + 1
    sampled = labels[::step, ::step]
    for label in np.unique(sampled).tolist():
        depth = distance_transform_edt(np.pad(sampled == label, 1))[1:-1, 1:-1]
        y, x = (step * position for position in np.unravel_index(depth.argmax(), depth.shape))
        name = " ".join(names[label].split())  # in one line, or Pillow refuses it
        half = draw.textlength(name, font=font) / 2 + 1
        x = min(max(float(x), half), max(picture.width - half, half))
        draw.text((x, float(y)), name, "white", font, anchor="mm", stroke_width=1, stroke_fill="black")
    return picture
