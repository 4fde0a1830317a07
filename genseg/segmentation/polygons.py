"""Outlines of masks, along the centers of their border pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import approximate_polygon, find_contours

Ring: TypeAlias = npt.NDArray[np.int64]
"""(N, 2): column and row of pixels, the last joined to the first."""

LEVEL = 0.999  # of contours of a mask of 0 and 1: beside the pixels of the border


TOLERANCE = 1.0  # pixels; a hundred corners a segment in place of many hundred


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


def polygons(mask: npt.NDArray[np.bool_]) -> Iterator[Ring]:
    """Yield the parts of a mask (H, W), each as one ring.

    A hole is cut in: the ring goes from its border to the hole's, around it, and back the same way. Pixels that touch
    at a corner are one part. A part that is a line, one pixel wide, encloses nothing and is left out.
    """
    for part in parts_of(mask):
        outer = part.outer
        for hole in sorted(part.holes, key=lambda ring: int(ring[:, 0].min())):
            outer = _cut(outer, hole)
        ring = corners_of(outer)
        if len(ring) >= 3:
            yield ring


def editable(mask: npt.NDArray[np.bool_]) -> Iterator[Ring]:
    """Yield the parts of a mask as `polygons` does, with the few corners that a hand can move.

    Outlines are at most `TOLERANCE` pixels beside those of the mask.
    """
    for ring in polygons(mask):
        closed = np.concatenate([ring, ring[:1]])
        corners: Ring = approximate_polygon(closed, TOLERANCE)[:-1]
        if len(corners) >= 3:
            yield corners


def _cut(ring: Ring, hole: Ring) -> Ring:
    distances, nearest = KDTree(ring).query(hole)
    at_hole = int(distances.argmin())
    at_ring = int(nearest[at_hole])
    return np.concatenate([ring[: at_ring + 1], hole[at_hole:], hole[: at_hole + 1], ring[at_ring:]])


def _area(contour: npt.NDArray[np.float64]) -> float:
    rows, columns = contour.T
    return float((rows[:-1] * columns[1:] - rows[1:] * columns[:-1]).sum() / 2)
