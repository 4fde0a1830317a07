"""Input of the formats: images one at a time, with the segments that are confident and large enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from genseg.exports.images import place
from genseg.runs.rows import Row, rle_of


@dataclass(frozen=True)
class Target:
    """Where and what to write.

    Attributes:
        folder: Where files go.
        classes: Names of the classes; None for masks of no class.
        images: One of `genseg.exports.images.IMAGES`.
        min_confidence: Pixels below it are ignored.
        min_area: Segments with fewer pixels are ignored.
        description: Where the masks come from, in a line.
        things: Classes of which each mask is a thing, in formats that tell things from stuff.
        suffix: The one that images may have; None for any.
    """

    folder: Path
    classes: tuple[str, ...] | None = None
    images: str = "link"
    min_confidence: float = 0.0
    min_area: int = 0
    description: str = ""
    things: tuple[str, ...] = ()
    suffix: str | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the classes; ``("segment",)`` for masks without classes."""
        return self.classes or ("segment",)


class Segment(NamedTuple):
    """A segment of an export.

    Attributes:
        label: Its number in the label map.
        category: Index among the target's categories.
        area: In pixels.
        confidence: Mean over its pixels, in [0, 1].
    """

    label: int
    category: int
    area: int
    confidence: float


@dataclass(frozen=True)
class ExportImage:
    """One image of an export.

    Attributes:
        number: 1, 2, … in the order of the run.
        name: Of its files, without suffix; may have folders.
        row: What the run has of it.
        target: What is to be written.
    """

    number: int
    name: str
    row: Row
    target: Target

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Segments with a class and enough confident pixels, by ascending label."""
        return tuple(s for s in self._segments() if s.category >= 0 and s.area >= self.target.min_area)

    @cached_property
    def labels(self) -> npt.NDArray[np.int32]:
        """int32 (H, W): the label of each pixel's segment; -1 for "ignore"."""
        return self._table({segment.label: segment.label for segment in self.segments})[self._sure]

    @property
    def categories(self) -> npt.NDArray[np.int32]:
        """int32 (H, W): the category of each pixel's segment; -1 for "ignore"."""
        return self._table({segment.label: segment.category for segment in self.segments})[self._sure]

    def rle(self, label: int) -> str:
        """Return a segment's mask as COCO's compressed run lengths."""
        if not self.target.min_confidence:
            return next(mask.rle for mask in self.row.masks if mask.label == label)
        return rle_of(self._sure == label)

    def place(self, folder: Path, name: str | None = None) -> str:
        """Put the image into a folder, under the item's name or another; see `genseg.exports.images.place`."""
        return place(self.row, folder, name or self.name, self.target.images, self.target.suffix)

    @cached_property
    def _sure(self) -> npt.NDArray[np.int32]:
        least, labels = self.target.min_confidence, self.row.labels
        return np.where(self.row.confidence < least, np.int32(-1), labels) if least else labels

    def _segments(self) -> Iterator[Segment]:
        if not self.target.min_confidence:  # no need to decode the map
            for mask in self.row.masks:
                yield Segment(mask.label, self._category(mask.label), mask.area, mask.confidence)
            return
        numbers = self._sure.ravel() + 1
        areas, sums = np.bincount(numbers)[1:], np.bincount(numbers, self.row.confidence.ravel())[1:]
        for label in np.flatnonzero(areas).tolist():
            area = int(areas[label])
            yield Segment(label, self._category(label), area, float(sums[label]) / area)

    def _category(self, label: int) -> int:
        return 0 if self.row.classes is None else int(self.row.classes[label])

    def _table(self, values: dict[int, int]) -> npt.NDArray[np.int32]:
        """Values by label; -1 for all others, and at the end, where that of -1 is looked up."""
        table = np.full(max(mask.label for mask in self.row.masks) + 2, -1, dtype=np.int32)
        table[list(values)] = list(values.values())
        return table
