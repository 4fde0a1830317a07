"""Polygons in the layout of YOLO's segmentation models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from genseg.exports.items import ExportImage, Target
from genseg.segmentation.polygons import Ring, corners_of, parts_of

INSIDE = 0.25  # of a pixel: so that tools which round and tools which cut off find the same one


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
    for part in parts_of(mask):
        outer = part.outer
        for hole in sorted(part.holes, key=lambda ring: int(ring[:, 0].min())):
            outer = _cut(outer, hole)
        ring = corners_of(outer)
        if len(ring) >= 3:
            yield ring


def _cut(ring: Ring, hole: Ring) -> Ring:
    distances, nearest = KDTree(ring).query(hole)
    at_hole = int(distances.argmin())
    at_ring = int(nearest[at_hole])
    return np.concatenate([ring[: at_ring + 1], hole[at_hole:], hole[: at_hole + 1], ring[at_ring:]])
