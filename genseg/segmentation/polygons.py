"""Outlines of masks, along the centers of their border pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import find_contours

Ring: TypeAlias = npt.NDArray[np.int64]
"""(N, 2): column and row of pixels, the last joined to the first."""

LEVEL = 0.999  # of contours of a mask of 0 and 1: beside the pixels of the border


class Part(NamedTuple):
    """A connected part of a mask; pixels that touch at a corner are connected.

    Attributes:
        window: Its bounding box, as slices of the image's rows and columns.
        mask: bool: its pixels within the window.
        outer: Its border, in pixels of the image.
        holes: The borders of its holes, likewise: of the part's pixels around them.
    """

    window: tuple[slice, slice]
    mask: npt.NDArray[np.bool_]
    outer: Ring
    holes: list[Ring]


def parts_of(mask: npt.NDArray[np.bool_]) -> Iterator[Part]:
    """Yield the connected parts of a mask (H, W)."""
    numbers, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    for number, window in enumerate(ndimage.find_objects(numbers), start=1):
        part = numbers[window] == number
        contours = find_contours(np.pad(part, 1).astype(float), LEVEL, fully_connected="high")
        contours.sort(key=lambda contour: -abs(_area(contour)))
        corner = np.array([window[1].start, window[0].start]) - 1
        outer, *holes = (np.rint(contour[:-1, ::-1]).astype(np.int64) + corner for contour in contours)
        yield Part(window, part, outer, holes)


def corners_of(ring: Ring) -> Ring:
    """Keep the points at which a ring turns, or goes back."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: Ring = ring[turns | ((before * after).sum(axis=1) < 0)]
    return corners


def _area(contour: npt.NDArray[np.float64]) -> float:
    rows, columns = contour.T
    return float((rows[:-1] * columns[1:] - rows[1:] * columns[:-1]).sum() / 2)
