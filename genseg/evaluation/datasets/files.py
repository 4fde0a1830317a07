"""Datasets of image and label files in folders, the basis of nearly all published layouts."""

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
from PIL import Image

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo, Sample
from genseg.evaluation.metrics import IGNORE, Labels
from genseg.images import load_image
from genseg.images.files import open_image

MAX_PIXELS = 100_000_000  # larger files are refused before they are decoded; the recipe's own default
UNKNOWN = -2  # in lookup tables, a value that label files must not contain
SAFE_KEY = re.compile(r"[A-Za-z0-9._-]+")


class AbsentError(GensegError):
    """A dataset's files are not where they are expected."""


class Reader(NamedTuple):
    """Description of a dataset, and the function that opens a split of it below a root folder."""

    info: DatasetInfo
    open: Callable[[DatasetInfo, Path, str], Dataset]


@dataclass
class FolderDataset:
    """Files of one kind: images or labels.

    Attributes:
        root: Folder of the dataset.
        pattern: Glob pattern below the root; its last ``*`` stands for the key.
        paths: Files by key; labels of one image may be several files.
    """

    root: Path
    pattern: str
    paths: dict[str, list[Path]]

    @classmethod
    def find(cls, root: Path, *patterns: str) -> FolderDataset:
        """Find the files of the first pattern that matches any; if none does, there are no files."""
        for pattern in patterns:
            head, tail = pattern.rsplit("*", 1)
            start = len(head.rpartition("/")[2])
            paths = {path.name[start : len(path.name) - len(tail)]: [path] for path in root.glob(pattern)}
            if paths:
                return cls(root, pattern, paths)
        return cls(root, patterns[0], {})

    def expected(self, key: str) -> Path:
        """Return the path where a key's file is expected."""
        head, tail = self.pattern.rsplit("*", 1)
        return self.root / f"{head}{key}{tail}"


class FileDataset(Dataset):
    """A dataset whose samples are an image file and a label PNG. Subclasses read labels of other formats.

    Args:
        info: Description of the dataset.
        split: Name of the split.
        images: The images.
        labels: The labels.
        keys: Keys of the split; None for all files, which must then come in pairs.
        classes: Names of the classes 0..C-1; empty for regions.
        values: The class, or `IGNORE`, of every value that labels may contain; None for regions.
        ignore: Value of pixels that are not measured; None if there is none.
        named_in: As for `truth_map`.

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
        named_in: str = "",
    ):
        self.name, self.licence, self.split = info.name, info.licence, split
        self.classes, self.ignore = tuple(classes), ignore
        self.images, self.labels, self._named_in = images, labels, named_in
        self.keys = sorted(images.paths.keys() | labels.paths.keys() if keys is None else set(keys))
        self._classes_of = None if values is None else lookup(values)
        _check_files(info, self.keys, images, labels)

    def __getitem__(self, key: str) -> Sample:
        """Read one sample; see `Dataset`."""
        image = self.image(self.images.paths[key][0])
        maps = self.maps(key)
        truths = (truth_map(values, self._classes_of, image.size, name, self._named_in) for name, values in maps)
        return Sample(key, image, tuple(truths))

    def image(self, path: Path) -> Image.Image:
        """Read an image file."""
        return load_image(path, MAX_PIXELS)

    def maps(self, key: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Yield the label maps [H, W] of a sample, each with the name of its file."""
        for path in self.labels.paths[key]:
            for values in self.read(path):
                yield str(path), values

    def read(self, path: Path) -> Iterator[npt.NDArray[Any]]:
        """Yield the label maps [H, W] of a label file; a PNG file has one."""
        yield np.asarray(open_image(path, MAX_PIXELS))

    def fingerprint(self) -> str:
        """Digest the dataset's name, split and classes, and each file's name and size; see `Dataset`."""
        lines = [self.name, self.split, *self.classes]
        for files in (self.images, self.labels):
            paths = sorted({path for key in self.keys for path in files.paths[key]})
            lines += [f"{path.relative_to(files.root).as_posix()} {path.stat().st_size}" for path in paths]
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def home(root: Path, holds: Sequence[str], published: str, *others: str) -> Path:
    """Find a dataset's own folder: the root itself, or a folder below it.

    Args:
        root: Folder that the user named.
        holds: Folders of which the dataset's own folder has at least one.
        published: Path of the dataset's own folder below the root, as its archives unpack; ``""`` for the root.
        *others: Other paths below the root, as other tools have them.

    Returns:
        The first of root, ``published`` and ``others`` that has such a folder; ``published`` if none has.
    """
    places = (root, root / published, *(root / other for other in others))
    existing = (place for place in places if any((place / folder).is_dir() for folder in holds))
    return next(existing, root / published)


def check_map(values: npt.NDArray[Any], size: tuple[int, int], name: str, *, published: bool = False) -> None:
    """Check that an array can be the ground truth of an image.

    Args:
        values: The array.
        size: (H, W) of the image.
        name: Name of the file, for messages.
        published: Whether others published it, so that the user is to get it again and not to change it.

    Raises:
        GensegError: If it does not hold integers, or has another shape.
    """
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        cure = "as published; get the file again" if published else "so give a grayscale or indexed PNG"
        raise GensegError(f"{name} must hold one whole number a pixel, {cure}")
    if values.shape != size:
        cure = "get both again" if published else "scale the labels to the image's size"
        raise GensegError(
            f"{name} has {values.shape[1]}x{values.shape[0]} pixels and its image {size[1]}x{size[0]}; {cure}"
        )


def truth_map(
    values: npt.NDArray[Any],
    classes_of: npt.NDArray[np.int64] | None,
    size: tuple[int, int],
    name: str,
    named_in: str = "",
) -> Labels:
    """Turn the values of a label file into a ground truth map.

    Args:
        values: [H, W], any integers.
        classes_of: A table of `lookup`; None for regions, which are numbered from 0 in the order of their values.
        size: (W, H) of the image.
        name: Name of the file, for messages.
        named_in: Where the user names the classes, for messages; "" for a published dataset.

    Returns:
        int64 [H, W].

    Raises:
        GensegError: If the values have another type or shape, or are not in the table.
    """
    check_map(values, size[::-1], name, published=not named_in)
    if classes_of is None:
        return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int64)
    inside = (values >= 0) & (values < len(classes_of))
    truth = np.where(inside, classes_of[np.where(inside, values, 0)], UNKNOWN)
    if (truth == UNKNOWN).any():
        value = int(values[truth == UNKNOWN][0])
        if not named_in:
            raise GensegError(f"{name} holds the value {value}, which the dataset does not have; get the file again")
        n_classes, ignored = int(classes_of.max()) + 1, np.flatnonzero(classes_of == IGNORE)
        allowed = " and ".join([f"0 to {n_classes - 1}", *map(str, ignored)])
        number = "1 class" if n_classes == 1 else f"{n_classes} classes"
        raise GensegError(
            f"{name} holds the value {value}, but {named_in} names {number}, so values are {allowed}; "
            "change the labels, or name their class"
        )
    return truth


def lookup(values: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """Build a table with the class of each value, `UNKNOWN` for values without a class."""
    table = np.full(max(values) + 1, UNKNOWN)
    table[list(values)] = list(values.values())
    return table


def numbered(n: int, first: int = 0, ignored: Iterable[int] = ()) -> dict[int, int]:
    """Map the values from ``first`` on to the classes 0..n-1, and ignored values to `IGNORE`."""
    return {first + number: number for number in range(n)} | dict.fromkeys(ignored, IGNORE)


@cache
def class_names(name: str) -> tuple[str, ...]:
    """Read a list of class names that is part of the package, ``classes/NAME.txt``."""
    text = resources.files(__package__).joinpath(f"classes/{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def read_lines(path: Path, info: DatasetInfo) -> list[str]:
    """Read the lines of a text file of a dataset, without surrounding spaces.

    Raises:
        GensegError: If the file is missing, or not UTF-8 text.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").strip().splitlines()]
    except OSError as error:
        raise absent(info, path) from error
    except UnicodeDecodeError as error:
        raise GensegError(f"{path} is not text in UTF-8; save it as such") from error


def load_mat(path: Path, key: str) -> npt.NDArray[Any]:
    """Load a variable of a MATLAB file.

    Raises:
        GensegError: If the file cannot be read, or lacks the variable.
    """
    from scipy.io import loadmat

    try:
        array: npt.NDArray[Any] = loadmat(path, variable_names=[key])[key]
    except KeyError as error:
        raise GensegError(f"{path} has no variable {key}; get the file again") from error
    except Exception as error:  # damaged files make SciPy raise almost any exception
        raise GensegError(f"{path} is damaged or no MATLAB file ({error}); get the file again") from error
    return array


def absent(info: DatasetInfo, path: Path) -> AbsentError:
    """Create the error for a missing file, which says what to download."""
    required = ", ".join(info.paths)
    return AbsentError(f"{info.name} lacks {path}; fetch {info.source}; the root must then hold {required}")


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
