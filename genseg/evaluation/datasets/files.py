"""Images and labels in folders, one file of each a sample: what nearly all published layouts have in common."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo, Sample
from genseg.evaluation.metrics import IGNORE, Labels
from genseg.images import load_image
from genseg.images.files import open_image

MAX_PIXELS = 100_000_000  # larger files are refused before they are decoded; the recipe's own default
UNKNOWN = -2  # in lookup tables: a value that label files must not hold
SAFE_KEY = re.compile(r"[A-Za-z0-9._-]+")


class Reader(NamedTuple):
    """A data set that `load_dataset` knows, and what opens a split of it below a root."""

    info: DatasetInfo
    open: Callable[[DatasetInfo, Path, str], Dataset]


@dataclass
class FolderDataset:
    """Files of one kind: the images, or the labels.

    Attributes:
        root: The data set's folder.
        pattern: Below the root; its last ``*`` stands for the key.
        paths: By key; an image's labels may be several files.
    """

    root: Path
    pattern: str
    paths: dict[str, list[Path]]

    @classmethod
    def find(cls, root: Path, *patterns: str) -> FolderDataset:
        """The files of the first pattern that any file matches; none, of the first pattern, if there is no such."""
        for pattern in patterns:
            head, tail = pattern.rsplit("*", 1)
            start = len(head.rpartition("/")[2])
            paths = {path.name[start : len(path.name) - len(tail)]: [path] for path in root.glob(pattern)}
            if paths:
                return cls(root, pattern, paths)
        return cls(root, patterns[0], {})

    def expected(self, key: str) -> Path:
        """Where a key's file is looked for."""
        head, tail = self.pattern.rsplit("*", 1)
        return self.root / f"{head}{key}{tail}"


class FileDataset(Dataset):
    """A data set whose samples are an image file and one label PNG. Subclasses read labels of other formats.

    Args:
        info: The set.
        split: The split that the files belong to.
        images: The images.
        labels: The labels.
        keys: The samples of the split; None for all files there are, which must then come in pairs.
        classes: Names in the order of the classes' numbers; empty for regions.
        values: The class, or `IGNORE`, of every value that labels may hold; None for regions.
        ignore: See `Dataset`.

    Raises:
        GensegError: If files are missing, or a key cannot name files.
    """

    def __init__(
        self,
        info: DatasetInfo,
        split: str,
        images: FolderDataset,
        labels: FolderDataset,
        *,
        keys: Iterable[str] | None = None,
        classes: Sequence[str] = (),
        values: Mapping[int, int] | None = None,
        ignore: int | None = None,
    ):
        self.name, self.licence, self.split = info.name, info.licence, split
        self.classes, self.ignore = tuple(classes), ignore
        self.images, self.labels = images, labels
        self.keys = sorted(images.paths.keys() | labels.paths.keys() if keys is None else set(keys))
        self._classes_of = None if values is None else lookup(values)
        _check_files(info, self.keys, images, labels)

    def __getitem__(self, key: str) -> Sample:
        """Read one sample; see `Dataset`."""
        image = load_image(self.images.paths[key][0], MAX_PIXELS)
        maps = self.maps(key)
        return Sample(key, image, tuple(truth_map(found, self._classes_of, image.size, name) for name, found in maps))

    def maps(self, key: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """The maps of values [H, W] of a sample, each with the name of its file."""
        for path in self.labels.paths[key]:
            for found in self.read(path):
                yield str(path), found

    def read(self, path: Path) -> Iterator[npt.NDArray[Any]]:
        """The maps of values [H, W] that a label file holds: a PNG one."""
        yield np.asarray(open_image(path, MAX_PIXELS))

    def fingerprint(self) -> str:
        """A digest of the set's name, split and classes, and of each file's name and size; see `Dataset`."""
        lines = [self.name, self.split, *self.classes]
        for files in (self.images, self.labels):
            paths = sorted({path for key in self.keys for path in files.paths[key]})
            lines += [f"{path.relative_to(files.root).as_posix()} {path.stat().st_size}" for path in paths]
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def truth_map(
    found: npt.NDArray[Any], classes_of: npt.NDArray[np.int64] | None, size: tuple[int, int], name: str
) -> Labels:
    """Values as read, as the truth of a sample.

    Args:
        found: [H, W], any integers.
        classes_of: A table of `lookup`; None for regions, which are numbered from 0 in the order of their values.
        size: (W, H) of the image.
        name: Of the file, for messages.

    Returns:
        int64 [H, W].

    Raises:
        GensegError: If the values are of another kind or shape, or not in the table.
    """
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.integer):
        raise GensegError(f"{name} must hold one whole number a pixel, as published; get the file again")
    if found.shape != size[::-1]:
        raise GensegError(
            f"{name} has {found.shape[1]}x{found.shape[0]} pixels and its image {size[0]}x{size[1]}; get both again"
        )
    if classes_of is None:
        return np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int64)
    inside = (found >= 0) & (found < len(classes_of))
    truth = np.where(inside, classes_of[np.where(inside, found, 0)], UNKNOWN)
    if (truth == UNKNOWN).any():
        value = int(found[truth == UNKNOWN][0])
        raise GensegError(f"{name} holds the value {value}, which the data set does not have; get the file again")
    return truth


def lookup(values: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """A table of the class of each value; `UNKNOWN` where there is none."""
    table = np.full(max(values) + 1, UNKNOWN)
    table[list(values)] = list(values.values())
    return table


def numbered(n: int, first: int = 0, ignored: Iterable[int] = ()) -> dict[int, int]:
    """The classes 0..n-1 as the values from ``first`` on, and values that are not measured."""
    return {first + number: number for number in range(n)} | dict.fromkeys(ignored, IGNORE)


@cache
def class_names(name: str) -> tuple[str, ...]:
    """A list of names that is part of the package, ``classes/NAME.txt``."""
    text = resources.files(__package__).joinpath(f"classes/{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def read_lines(path: Path, info: DatasetInfo) -> list[str]:
    """The lines of a text file of a data set, without spaces around them.

    Raises:
        GensegError: If it is missing, or no text.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").strip().splitlines()]
    except OSError as error:
        raise absent(info, path) from error
    except UnicodeDecodeError as error:
        raise GensegError(f"{path} is not text in UTF-8; save it as such") from error


def load_mat(path: Path, key: str) -> npt.NDArray[Any]:
    """A variable of a MATLAB file.

    Raises:
        GensegError: If the file cannot be read, or lacks the variable.
    """
    from scipy.io import loadmat

    try:
        found: npt.NDArray[Any] = loadmat(path, variable_names=[key])[key]
    except KeyError as error:
        raise GensegError(f"{path} has no variable {key}; get the file again") from error
    except Exception as error:  # damaged files make SciPy raise whatever its parser stumbles over
        raise GensegError(f"{path} is damaged or no MATLAB file ({error}); get the file again") from error
    return found


def absent(info: DatasetInfo, path: Path) -> GensegError:
    """The error for what must be there and is not."""
    wanted = ", ".join(info.paths)
    return GensegError(f"{info.name} lacks {path}; fetch {info.source}; the root must then hold {wanted}")


def _check_files(info: DatasetInfo, keys: Sequence[str], images: FolderDataset, labels: FolderDataset) -> None:
    if not keys:
        raise absent(info, images.root / images.pattern)
    for kind, files in (("image", images), ("label", labels)):
        if not files.paths:
            raise absent(info, files.root / files.pattern)
        missing = [key for key in keys if key not in files.paths]
        if missing:
            raise GensegError(
                f"{info.name} is incomplete: {len(missing)} of {len(keys)} samples have no {kind} file, the first "
                f"lacking {files.expected(missing[0])}; fetch {info.source}"
            )
    for key in keys:
        if not SAFE_KEY.fullmatch(key):
            path = images.paths[key][0]
            raise GensegError(f"{path} must be renamed: letters, digits, '-', '_' and '.' alone can name results")
