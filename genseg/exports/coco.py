"""Entries of COCO's JSON, which annotation tools and pycocotools read (Lin et al., 2014)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def image_entry(number: int, file_name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the entry of an image, with its (H, W)."""
    return {"id": number, "file_name": file_name, "height": size[0], "width": size[1]}


def annotation(
    number: int, image: int, category: int, mask: Mapping[str, Any], area: int, box: Sequence[float]
) -> dict[str, Any]:
    """Return the entry of a mask, as run lengths: exact, unlike polygons.

    Args:
        number: Number of the annotation within the file, from 1.
        image: Number of the image.
        category: Index among the categories, from 0.
        mask: ``size`` and ``counts``, compressed or not.
        area: In pixels.
        box: Left, top, width and height in pixels.
    """
    return {
        "id": number,
        "image_id": image,
        "category_id": 1 + category,
        "segmentation": dict(mask),
        "area": area,
        "bbox": list(box),
        "iscrowd": 0,  # a thing to learn from; readers tell run lengths from polygons by their type
    }


def category_entries(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the categories 1, 2, … of names."""
    return [{"id": 1 + index, "name": name} for index, name in enumerate(names)]
