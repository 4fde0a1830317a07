"""What a data set with ground truth is to the evaluation: named samples, read one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from genseg.errors import GensegError
from genseg.evaluation.metrics import Labels


@dataclass(frozen=True)
class Sample:
    """One image with its ground truth, at full size.

    Attributes:
        key: Names the image within its set, and files made of it: letters, digits, ``-``, ``_``, ``.`` alone.
        image: RGB, upright.
        truths: int64 [H, W] each, of the image's own size: one map of classes 0..C-1 with `IGNORE` where nothing is
            measured; or, of a set without classes, each annotator's regions, numbered from 0.
    """

    key: str
    image: Image.Image
    truths: tuple[Labels, ...]


@dataclass(frozen=True)
class DatasetInfo:
    """What is to be known of a data set before it is on disk.

    Attributes:
        name: As in `load_dataset`.
        title: As its authors call it.
        n_classes: C; None where it depends on the files, or where annotators number regions of their own.
        splits: Names of the splits; the first is read unless another is asked for.
        licence: Terms of the images and labels, in a few words.
        paths: The files that are wanted, below the root; ``SPLIT`` stands for the split, or the folder named after it.
        source: What to fetch, and where.
    """

    name: str
    title: str
    n_classes: int | None
    splits: tuple[str, ...]
    licence: str
    paths: tuple[str, ...]
    source: str


class Dataset(ABC):
    """Images with ground truth on disk. Opening one looks at the layout alone; samples are read when asked for.

    Attributes:
        name: As in `list_datasets`, such as ``"ade20k-150"``.
        classes: Names of the classes; empty for a set of annotators' regions.
        split: Such as ``"val"``.
        ignore: The value that files have where nothing is measured (samples have `IGNORE` there); None for none.
        licence: Terms of the images and labels, in a few words.
        keys: The samples' keys, sorted.
    """

    name: str
    classes: tuple[str, ...]
    split: str
    ignore: int | None
    licence: str
    keys: Sequence[str]

    @property
    def n_classes(self) -> int | None:
        """C; None for a set of annotators' regions."""
        return len(self.classes) or None

    def __len__(self) -> int:
        return len(self.keys)

    def spaced(self, limit: int | None) -> list[str]:
        """At most ``limit`` of the keys, evenly spaced over the set; all for None.

        Raises:
            GensegError: For a limit below 1.
        """
        if limit is None or limit >= len(self.keys):
            return list(self.keys)
        if limit < 1:
            raise GensegError(f"limit must be at least 1, not {limit}")
        return [self.keys[i] for i in np.linspace(0, len(self.keys) - 1, limit).round().astype(int)]

    def __iter__(self) -> Iterator[Sample]:
        return (self[key] for key in self.keys)

    @abstractmethod
    def __getitem__(self, key: str) -> Sample:
        """Read one sample.

        Raises:
            KeyError: If it is none of the keys.
            GensegError: If its image or truth is missing, damaged or of unknown values; the message names the file.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of what the set holds: of each file's name and size, without reading its content."""
