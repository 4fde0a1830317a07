"""A custom dataset: folders of images and of labels with the same names, and a list of classes."""

from __future__ import annotations

import re
from pathlib import Path

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, numbered, read_lines


def open_folder(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open a folder with classes if it has ``classes.txt``; else with regions, whose labels are numbered by annotator.

    Regions may have any values, including 255.

    Raises:
        GensegError: If files are missing, ``classes.txt`` is no list of names, or there are neither classes nor
            annotators.
    """
    images = FolderDataset.find(root, "images/*.jpg")
    images.paths |= FolderDataset.find(root, "images/*.png").paths
    labels = FolderDataset.find(root, "labels/*.png")
    table = root / "classes.txt"
    if table.exists():
        classes = read_lines(table, info)
        if len(set(classes)) < len(classes) or not all(classes):
            raise GensegError(f"{table} must name each class once, one a line, without blank lines; mend it")
        values = numbered(len(classes), ignored=[255])
        return FileDataset(
            info, split, images, labels, classes=classes, values=values, ignore=255, named_in="classes.txt"
        )
    if labels.paths and not any(re.search(r"\.\d+$", name) for name in labels.paths.keys() - images.paths.keys()):
        raise GensegError(
            f"{table} is missing; write the names of the classes into it, one a line, that of value 0 first"
        )
    labels.paths = _by_annotator(labels.paths)
    return FileDataset(info, split, images, labels, named_in="classes.txt")


def _by_annotator(paths: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Group ``NAME.0``, ``NAME.1``, ... by NAME, in the order of the numbers."""
    by_image: dict[str, list[tuple[int, Path]]] = {}
    for name, (path,) in paths.items():
        key, _, number = name.rpartition(".")
        if not number.isdigit() or not key:
            raise GensegError(f"{path} must be named NAME.0.png, NAME.1.png, ... like its neighbors, by annotators")
        by_image.setdefault(key, []).append((int(number), path))
    return {key: [path for _, path in sorted(numbers)] for key, numbers in by_image.items()}


READERS = (
    Reader(
        DatasetInfo(
            "folder", "A folder of one's own", None, ("all",), "that of the folder",
            (
                "images/*.jpg (or *.png)", "labels/*.png (for annotators' regions: NAME.0.png, NAME.1.png, ...)",
                "classes.txt (one name a line; not for regions)",
            ),
            "nothing: put the files there",
        ),
        open_folder,
    ),
)  # fmt: skip
