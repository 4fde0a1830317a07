"""Datasets from the rows of a table, such as those of Hugging Face's ``datasets``."""

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
    """Rows by index: a list of mappings, or a ``datasets.Dataset``."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        """Return one row, with its columns by name."""
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
    """Use the rows of a table as a dataset. A row is read when its sample is accessed.

    Args:
        rows: Any sequence of mappings.
        image: Column of images, of any type that `genseg.images.load_image` reads.
        label: Column of label maps [H, W] in 0..C-1, as PIL images or arrays of integers.
        classes: Names of the C classes, that of value 0 first.
        ignore: Value of pixels that are not measured, at least 0; it may be that of a class.
        name: Name of the dataset. Its fingerprint depends on the name, the number of rows and the classes only, so
            tables with other rows need other names.

    Returns:
        The dataset; its keys are the numbers of the rows.

    Raises:
        GensegError: If there are no rows, or ``ignore`` is negative.
    """
    return RowDataset(rows, image, label, classes, ignore, name)


class RowDataset(Dataset):
    """Rows of a table as samples; see `from_rows`."""

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
        name = f"row {key} of {self.name}"
        return Sample(key, image, (truth_map(labels, self._classes_of, image.size, name, "the argument classes"),))

    def fingerprint(self) -> str:
        """Digest the name, the number of rows and the classes, as rows have neither file names nor sizes."""
        lines = [self.name, str(len(self)), *self.classes]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
