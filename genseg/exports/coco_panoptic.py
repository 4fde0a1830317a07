"""COCO's panoptic format (Kirillov et al., 2019): a PNG of segment numbers for each image, and JSON about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_masks

from genseg.display.palette import palette
from genseg.exports.items import ExportImage, Target
from genseg.exports.json_arrays import JsonArrayWriter
from genseg.runs.rows import rle_of
from genseg.segmentation.coco import category_entries, image_entry


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``annotations/panoptic.json``, ``annotations/panoptic/`` and ``images/``.

    Without classes each segment is a thing. With classes they are stuff: the segments of one class are one segment.
    """
    colors = palette(len(target.categories)).tolist()
    categories = [
        entry | {"supercategory": entry["name"], "isthing": int(target.classes is None), "color": color}
        for entry, color in zip(category_entries(target.categories), colors, strict=True)
    ]
    head = {"info": {"description": target.description}, "categories": categories}
    folder = target.folder / "annotations/panoptic"
    with JsonArrayWriter(target.folder / "annotations/panoptic.json", head, "images", "annotations") as arrays:
        for item in items:
            placed = item.place(target.folder / "images", ".jpg")  # which detectron2 takes for granted
            arrays.add("images", image_entry(item.number, placed, item.row.size) | {"key": item.row.key})
            numbers = 1 + (item.labels if target.classes is None else item.categories)  # 0 is VOID
            path = folder / f"{item.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rgb_of(numbers)).save(path)
            entries = [
                entry | {"category_id": 1 if target.classes is None else entry["id"]} for entry in _segments(numbers)
            ]
            entry = {"image_id": item.number, "file_name": f"{item.name}.png", "segments_info": entries}
            arrays.add("annotations", entry)


def rgb_of(numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Numbers (H, W) as colours, uint8 (H, W, 3): the number is R + 256 G + 256² B."""
    return np.stack([numbers % 256, numbers // 256 % 256, numbers // 256**2], axis=-1).astype(np.uint8)


def _segments(numbers: npt.NDArray[np.int32]) -> Iterator[dict[str, Any]]:
    areas = np.bincount(numbers.ravel())
    for number in np.flatnonzero(areas[1:]) + 1:
        mask = {"size": list(numbers.shape), "counts": rle_of(numbers == number)}
        box = coco_masks.toBbox(mask).tolist()
        yield {"id": int(number), "area": int(areas[number]), "bbox": box, "iscrowd": 0}
