"""Entries of COCO's JSON, which annotation tools and pycocotools read (Lin et al., 2014)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.segmentation.masks import Mask

UNNAMED = "segment"  # the category of segments without a name


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


def coco_of(
    masks: Iterable[Mask], size: tuple[int, ...], classes: Sequence[str], file_name: str, description: str
) -> dict[str, Any]:
    """Return one image's masks as COCO's JSON; see `Segmentation.to_coco`."""
    categories = {name: index for index, name in enumerate(classes)}
    annotations = []
    for mask in masks:
        category = categories.setdefault(mask.name or UNNAMED, len(categories))
        runs = {"size": list(size), "counts": run_lengths(mask.segmentation)}
        entry = annotation(mask.label + 1, 1, category, runs, mask.area, mask.bbox)
        annotations.append(entry if mask.confidence is None else entry | {"score": round(mask.confidence, 4)})
    return {
        "info": {"description": description},
        "images": [image_entry(1, file_name, (size[0], size[1]))],
        "annotations": annotations,
        "categories": category_entries(categories),
    }


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths of a mask (H, W): of 0 and 1 in turn, column by column, of 0 first."""
    edges = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False, append=False))
    bounds = np.concatenate([[0], edges, [mask.size]])
    lengths: list[int] = np.diff(bounds).tolist()
    return lengths if lengths[-1] else lengths[:-1]
