"""Polygons in the layout of YOLO's segmentation models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import find_contours

from genseg.exports.items import ExportImage, Target

INSIDE = 0.25  # of a pixel: so that tools which round and tools which cut off find the same one

Ring = npt.NDArray[np.int64]
"""(N, 2): column and row of pixels, the last joined to the first."""

LEVEL = 0.999  # of contours of a mask of 0 and 1: beside the pixels of the border


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``images/train/``, ``labels/train/`` with a line ``CLASS x y x y …`` for each part, and ``data.yaml``."""
    names = "".join(
        f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(target.categories)
    )
    about = "train: images/train\nval: images/train  # keep images aside for it\n"
    (target.folder / "data.yaml").write_text(f"{about}names:\n{names}", encoding="utf-8")
    folder = target.folder / "labels/train"
    folder.mkdir(parents=True)
    for item in items:
        item.place(target.folder / "images/train")
        height, width = item.row.size
        with (folder / f"{item.name}.txt").open("w", encoding="utf-8") as file:
            for segment in item.segments:
                for ring in polygons(item.labels == segment.label):
                    numbers = (ring + INSIDE) / [width, height]
                    file.write(f"{segment.category} {' '.join(f'{number:.6f}' for number in numbers.ravel())}\n")


def polygons(mask: npt.NDArray[np.bool_]) -> Iterator[Ring]:
    """Yield the parts of a mask (H, W), each as one ring.

    A hole is cut in: the ring goes from its border to the hole's, around it, and back the same way. Pixels that touch
    at a corner are one part. A part that is a line, one pixel wide, encloses nothing and is left out.
    """
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    for number, window in enumerate(ndimage.find_objects(parts), start=1):
        part = np.pad(parts[window] == number, 1).astype(float)
        contours = find_contours(part, LEVEL, fully_connected="high")
        contours.sort(key=lambda contour: -abs(_area(contour)))
        outer, *holes = (np.rint(contour[:-1, ::-1]).astype(np.int64) - 1 for contour in contours)
        for hole in sorted(holes, key=lambda ring: int(ring[:, 0].min())):
            outer = _cut(outer, hole)
        ring = _corners(outer)
        if len(ring) >= 3:
            yield ring + np.array([window[1].start, window[0].start])


def _cut(ring: Ring, hole: Ring) -> Ring:
    distances, nearest = KDTree(ring).query(hole)
    at_hole = int(distances.argmin())
    at_ring = int(nearest[at_hole])
    return np.concatenate([ring[: at_ring + 1], hole[at_hole:], hole[: at_hole + 1], ring[at_ring:]])


def _corners(ring: Ring) -> Ring:
    """Keep the points at which a ring turns, or goes back."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: Ring = ring[turns | ((before * after).sum(axis=1) < 0)]
    return corners


def _area(contour: npt.NDArray[np.float64]) -> float:
    rows, columns = contour.T
    return float((rows[:-1] * columns[1:] - rows[1:] * columns[:-1]).sum() / 2)
