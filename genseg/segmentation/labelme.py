"""Segments as labelme's JSON has them, pixel by pixel.

labelme fills a polygon and draws its border, so that one along the centers of border pixels stands for exactly those
pixels. Its polygons have no holes: a part that has some, or that is too thin for three corners, is a mask.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.files import relative_to
from genseg.segmentation.polygons import corners_of, parts_of
from genseg.segmentation.result import Segmentation

VERSION = "5.3.0"  # of labelme: the first that has masks


def document(shapes: list[dict[str, Any]], image_path: str, size: tuple[int, ...]) -> dict[str, Any]:
    """Return the content of a file.

    Args:
        shapes: From `shapes_of`.
        image_path: Where the image lies, from the file's folder on.
        size: (H, W) of the image, upright.
    """
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def document_of(segmentation: Segmentation, image: Path, file: Path) -> dict[str, Any]:
    """Return the content of a segmentation's file: its segments by name, or as ``segment``."""
    shapes = [
        shape
        for mask in sorted(segmentation.masks(), key=lambda mask: mask.label)
        for shape in shapes_of(mask.segmentation, mask.name or "segment", mask.label, mask.confidence)
    ]
    return document(shapes, relative_to(image, file.parent), segmentation.labels.shape)


def shapes_of(
    mask: npt.NDArray[np.bool_], name: str, label: int, confidence: float | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a shape for each connected part of a segment.

    Args:
        mask: bool (H, W).
        name: Of its class.
        label: Number of the segment: the group of its parts.
        confidence: Mean over its pixels, which becomes the description.
    """
    for part in parts_of(mask):
        ring = corners_of(part.outer)
        is_mask = bool(part.holes) or len(ring) < 3
        rows, columns = part.window
        box = [[columns.start, rows.start], [columns.stop - 1, rows.stop - 1]]
        yield {
            "label": name,
            "points": np.array(box if is_mask else ring, dtype=float).tolist(),
            "group_id": label,
            "description": "" if confidence is None else f"confidence {confidence:.2f}",
            "shape_type": "mask" if is_mask else "polygon",
            "flags": {},
            "mask": _png(part.mask) if is_mask else None,
        }


def _png(mask: npt.NDArray[np.bool_]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
