"""Data sets that are rows of a table, such as those of Hugging Face's ``datasets``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from genseg.errors import GensegError, unknown
from genseg.evaluation.datasets.base import Dataset, Sample
from genseg.evaluation.datasets.files import MAX_PIXELS, lookup, numbered, truth_map
from genseg.images import load_image


class Rows(Protocol):
    """Rows by number: a list of mappings, or a ``datasets.Dataset``."""

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        """One row, its columns by name."""
        ...


def from_rows(
    rows: Rows,
    image: str = "image",
    label: str = "label",
    *,
    classes: Sequence[str],
    ignore: int = 255,
    name: str = "rows",
) -> Dataset:
    """Take a table's rows as a data set; a row is read when its sample is.

    Args:
        rows: Any sequence of mappings.
        image: The column of images: whatever `genseg.images.load_image` reads.
        label: The column of maps [H, W] of 0..C-1: PIL images or arrays of integers.
        classes: The C names, that of value 0 first.
        ignore: The value, from 0 on, where nothing is measured; it may be that of a class.
        name: What to call the set. Fingerprints know the name, the number of rows and the classes alone, so tables
            that hold other rows need other names.

    Raises:
        GensegError: If there are no rows, or ``ignore`` is negative.
    """
    return RowDataset(rows, image, label, classes, ignore, name)


class RowDataset(Dataset):
    """A table's rows as samples, their keys the rows' numbers; see `from_rows`."""

    def __init__(self, rows: Rows, image: str, label: str, classes: Sequence[str], ignore: int, name: str):
        if not len(rows):
            raise GensegError(f"{name} has no rows; give a table that has some")
        if ignore < 0:
            raise GensegError(f"ignore must be a value from 0 on, not {ignore}; 255 is usual")
        self.name, self.classes, self.ignore = name, tuple(classes), ignore
        self.split, self.licence = "all", "that of the rows"
        self._rows, self._image, self._label = rows, image, label
        self._classes_of = lookup(numbered(len(classes), ignored=[ignore]))
        digits = len(str(len(rows) - 1))
        self._numbers = {f"{number:0{digits}d}": number for number in range(len(rows))}
        self.keys = list(self._numbers)

    def __getitem__(self, key: str) -> Sample:
        """Read one sample; see `Dataset`."""
        row = self._rows[self._numbers[key]]
        for column in (self._image, self._label):
            if column not in row:
                raise unknown(f"column of {self.name}", column, row)
        image = load_image(row[self._image], MAX_PIXELS)
        labels = np.asarray(row[self._label])
        return Sample(key, image, (truth_map(labels, self._classes_of, image.size, f"row {key} of {self.name}"),))

    def fingerprint(self) -> str:
        """A digest of the name, the number of rows and the classes: rows have neither file names nor sizes."""
        lines = [self.name, str(len(self)), *self.classes]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
