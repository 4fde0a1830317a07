"""Base class of datasets with ground truth: samples with keys, read one at a time."""

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
        key: Key of the image within its dataset, also used in file names: only letters, digits, ``-``, ``_``, ``.``.
        image: The image, upright and in RGB.
        truths: Ground truth maps, int64 [H, W] each, of the image's own size: one map of classes 0..C-1 with `IGNORE`
            where nothing is measured; or each annotator's regions, numbered from 0.
    """

    key: str
    image: Image.Image
    truths: tuple[Labels, ...]


@dataclass(frozen=True)
class DatasetInfo:
    """Description of a dataset that `load_dataset` can open.

    Attributes:
        name: Name for `load_dataset`.
        title: Title that its authors use.
        n_classes: C; None if it depends on the files, or annotators number regions of their own.
        splits: Names of the splits; the first is the default.
        licence: Terms of the images and labels, in a few words.
        paths: Required files below the root; ``SPLIT`` stands for the split, or the folder named after it.
        source: Archives to download, with their addresses.
        others: Other layouts that are read, each with the tool that writes it.
    """

    name: str
    title: str
    n_classes: int | None
    splits: tuple[str, ...]
    licence: str
    paths: tuple[str, ...]
    source: str
    others: tuple[str, ...] = ()


class Dataset(ABC):
    """Images with ground truth on disk. Opening a dataset checks its layout only; samples are read on access.

    Attributes:
        name: Name in `list_datasets`, such as ``"ade20k-150"``.
        classes: Names of the classes; empty for annotators' regions.
        split: Name of the split, such as ``"val"``.
        ignore: Value of pixels in files that are not measured (`IGNORE` in samples); None if there is none.
        licence: Terms of the images and labels, in a few words.
        keys: Keys of the samples, sorted.
    """

    name: str
    classes: tuple[str, ...]
    split: str
    ignore: int | None
    licence: str
    keys: Sequence[str]

    @property
    def n_classes(self) -> int | None:
        """C; None for annotators' regions."""
        return len(self.classes) or None

    def __len__(self) -> int:
        return len(self.keys)

    def spaced(self, limit: int | None) -> list[str]:
        """Choose at most ``limit`` keys, evenly spaced over the dataset; all for None.

        Raises:
            GensegError: If the limit is below 1.
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
            KeyError: If the key is unknown.
            GensegError: If image or ground truth is missing, damaged or has unknown values; the message names the file.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest the name and size of each file, without reading its content."""
