"""Polygons in the layout of YOLO's segmentation models."""

from __future__ import annotations

import json
from collections.abc import Iterable

from genseg.exports.items import ExportImage, Target
from genseg.segmentation.polygons import polygons

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
