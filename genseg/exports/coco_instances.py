"""COCO's instances: a JSON file with a mask for each segment."""

from __future__ import annotations

from collections.abc import Iterable

from pycocotools import mask as coco_masks

from genseg.exports.items import ExportImage, Target
from genseg.exports.json_arrays import JsonArrayWriter
from genseg.segmentation.coco import annotation, category_entries, image_entry


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``annotations/instances.json`` and ``images/``; annotations have the mask's confidence as ``score``."""
    head = {"info": {"description": target.description}, "categories": category_entries(target.categories)}
    count = 0
    with JsonArrayWriter(target.folder / "annotations/instances.json", head, "images", "annotations") as arrays:
        for item in items:
            size = item.row.size
            entry = image_entry(item.number, item.place(target.folder / "images"), size)
            arrays.add("images", entry | {"key": item.row.key})
            for segment in item.segments:
                count += 1
                mask = {"size": list(size), "counts": item.rle(segment.label)}
                box = coco_masks.toBbox(mask).tolist()
                entry = annotation(count, item.number, segment.category, mask, segment.area, box)
                arrays.add("annotations", entry | {"score": round(segment.confidence, 4)})
