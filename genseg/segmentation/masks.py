"""Segments as masks, as Segment Anything's users know them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage


@dataclass(frozen=True, eq=False)
class Mask:
    """One segment of an image.

    Attributes:
        segmentation: bool (H, W): its pixels.
        area: In pixels.
        bbox: Left, top, width and height, in pixels.
        label: Its number in the label map; in a hierarchy, its node in the tree.
        confidence: Mean over its pixels, in [0, 1]; None where a segmentation has none.
        name: What it is called; None before segments have names.
        level: In a hierarchy, the coarsest level that has it, such as ``"whole"``; else None.
        parent: In a hierarchy, the smallest mask of a coarser level that contains it; else None.
        children: In a hierarchy, the masks it consists of at the next finer level that divides it; else empty.
    """

    segmentation: npt.NDArray[np.bool_]
    area: int
    bbox: tuple[int, int, int, int]
    label: int
    confidence: float | None = None
    name: str | None = None
    level: str | None = None
    parent: Mask | None = None
    children: list[Mask] = field(default_factory=list)

    def __repr__(self) -> str:
        """All but the pixels, in a line."""
        name = "" if self.name is None else f", name={self.name!r}"
        confidence = "" if self.confidence is None else f", confidence={self.confidence:.2f}"
        level = "" if self.level is None else f", level={self.level!r}, {len(self.children)} children"
        return f"Mask(label={self.label}, area={self.area}, bbox={self.bbox}{confidence}{name}{level})"

    def to_sam(self) -> dict[str, Any]:
        """The mask under the keys of Segment Anything's automatic mask generator.

        ``stability_score`` is the confidence: both say how firmly the mask's pixels belong to it. There is no
        ``predicted_iou``, since nothing here predicts one.
        """
        left, top, width, height = self.bbox
        rows, columns = np.nonzero(self.segmentation[top : top + height, left : left + width])
        middle = len(rows) // 2  # a pixel of the mask
        point = [float(left + columns[middle]), float(top + rows[middle])]
        image_height, image_width = self.segmentation.shape
        return {
            "segmentation": self.segmentation,
            "area": self.area,
            "bbox": list(self.bbox),
            "stability_score": self.confidence,
            "point_coords": [point],
            "crop_box": [0, 0, image_width, image_height],
        }


def masks_of(
    labels: npt.NDArray[np.int32],
    areas: npt.NDArray[np.int64],
    confidence: npt.NDArray[np.float32] | None,
    names: Sequence[str] | None,
    only: int | None = None,
) -> Iterator[Mask]:
    """Yield the masks of the labels that pixels have, in the order of labels; one at a time, for each is an image.

    Args:
        labels: int32 (H, W) in 0..K-1.
        areas: int64 (K,): the number of pixels of each label.
        confidence: float32 (K,); None for none.
        names: K names; None for none.
        only: The label of the only mask to yield; None for all.
    """
    for label, box in enumerate(ndimage.find_objects(labels + 1)):
        if box is None or only not in (None, label):
            continue
        rows, columns = box
        yield Mask(
            segmentation=labels == label,
            area=int(areas[label]),
            bbox=(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start),
            label=label,
            confidence=None if confidence is None else float(confidence[label]),
            name=None if names is None else names[label],
        )
