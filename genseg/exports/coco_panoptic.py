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

    Each mask of a thing is a segment; those of one class of stuff are one segment. Masks without classes are things.
    """
    colors = palette(len(target.categories)).tolist()
    is_thing = np.array([target.classes is None or name in target.things for name in target.categories])
    categories = [
        entry | {"supercategory": entry["name"], "isthing": int(thing), "color": color}
        for entry, thing, color in zip(category_entries(target.categories), is_thing, colors, strict=True)
    ]
    head = {"info": {"description": target.description}, "categories": categories}
    first_thing = 0 if is_thing.all() else len(categories)  # numbers below are of stuff, by category
    folder = target.folder / "annotations/panoptic"
    folder.mkdir(parents=True)
    with JsonArrayWriter(target.folder / "annotations/panoptic.json", head, "images", "annotations") as arrays:
        for item in items:
            placed = item.place(target.folder / "images")
            arrays.add("images", image_entry(item.number, placed, item.row.size) | {"key": item.row.key})
            kinds = item.categories
            of_thing = is_thing[kinds] & (kinds >= 0)
            numbers = 1 + np.where(of_thing, first_thing + item.labels, kinds)  # 0 is VOID
            Image.fromarray(rgb_of(numbers)).save(folder / f"{item.name}.png")
            entries = list(_segments(numbers, kinds))
            entry = {"image_id": item.number, "file_name": f"{item.name}.png", "segments_info": entries}
            arrays.add("annotations", entry)


def rgb_of(numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Numbers (H, W) as colors, uint8 (H, W, 3): the number is R + 256 G + 256² B."""
    return np.stack([numbers % 256, numbers // 256 % 256, numbers // 256**2], axis=-1).astype(np.uint8)


def _segments(numbers: npt.NDArray[np.int32], categories: npt.NDArray[np.int32]) -> Iterator[dict[str, Any]]:
    areas = np.bincount(numbers.ravel())
    for number in np.flatnonzero(areas[1:]) + 1:
        mask = numbers == number
        box = coco_masks.toBbox({"size": list(numbers.shape), "counts": rle_of(mask)}).tolist()
        category = 1 + int(categories.flat[mask.argmax()])  # of its first pixel, as of all others
        yield {"id": int(number), "category_id": category, "area": int(areas[number]), "bbox": box, "iscrowd": 0}
