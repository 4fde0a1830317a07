"""PASCAL VOC 2012 (Everingham et al., 2010) and PASCAL-Context with 59 or 459 classes (Mottaghi et al., 2014).

The maps of PASCAL-Context hold the numbers 1..459 of its ``labels.txt``. Number 431 is the class "unknown", which is
measured like any other; 0 is not measured. The 59 frequent classes are in the order of the 459, which is also the order
of mmsegmentation's converter (whose PNG files are 0 elsewhere), but not that of ``59_labels.txt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import (
    FileDataset,
    FolderDataset,
    Reader,
    class_names,
    load_mat,
    numbered,
    read_lines,
)
from genseg.evaluation.metrics import IGNORE

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC2010, VOC2012 = "VOCdevkit/VOC2010", "VOCdevkit/VOC2012"
LICENCE = "images: terms of Flickr; labels: none stated"


def open_voc(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open VOC 2012: 20 objects and background; object borders (255) are not measured."""
    return FileDataset(
        info, split,
        FolderDataset.find(root, f"{VOC2012}/JPEGImages/*.jpg"),
        FolderDataset.find(root, f"{VOC2012}/SegmentationClass/*.png"),
        keys=read_lines(root / f"{VOC2012}/ImageSets/Segmentation/{split}.txt", info),
        classes=VOC_CLASSES, values=numbered(21, ignored=[255]), ignore=255,
    )  # fmt: skip


def open_context(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open PASCAL-Context on a split of VOC 2010, from the published maps or, for 59 classes, from mmsegmentation's."""
    classes = class_names(info.name)
    images = FolderDataset.find(root, f"{VOC2010}/JPEGImages/*.jpg")
    maps = FolderDataset.find(root, "trainval/*.mat")
    converted = FolderDataset.find(root, f"{VOC2010}/SegmentationClassContext/*.png")
    if info.n_classes == 59 and converted.paths and not maps.paths:
        keys = read_lines(root / f"{VOC2010}/ImageSets/SegmentationContext/{split}.txt", info)
        values = numbered(59, first=1, ignored=[0])
        return FileDataset(info, split, images, converted, keys=keys, classes=classes, values=values, ignore=0)
    table = root / "labels.txt"
    names = _names(table, info) if table.exists() else class_names("pascal-context-459")
    if info.n_classes == 459:
        classes = names
    number_of = {name: number for number, name in enumerate(classes)}
    values = {0: IGNORE} | {value: number_of.get(name, IGNORE) for value, name in enumerate(names, start=1)}
    keys = read_lines(root / f"{VOC2010}/ImageSets/Main/{split}.txt", info)
    return ContextMaps(info, split, images, maps, keys=keys, classes=classes, values=values, ignore=0)


class ContextMaps(FileDataset):
    """Maps in MATLAB files, the variable ``LabelMap``."""

    def read(self, path: Path) -> Iterator[npt.NDArray[Any]]:
        """Yield the only map of a file; see `FileDataset`."""
        yield load_mat(path, "LabelMap")


def _names(path: Path, info: DatasetInfo) -> tuple[str, ...]:
    """Read the names of ``labels.txt``, with lines such as ``1: accordion``."""
    rows = [line.partition(":")[::2] for line in read_lines(path, info)]
    names = tuple(name.replace(" ", "") for _, name in rows)
    lacking = set(class_names("pascal-context-59")) - set(names)
    if [number.strip() for number, _ in rows] != [str(number) for number in range(1, 460)] or lacking:
        raise GensegError(f"{path} must name the classes 1 to 459, one a line; get the file again, or remove it")
    return names


CONTEXT_PATHS = (
    f"{VOC2010}/JPEGImages/*.jpg", f"{VOC2010}/ImageSets/Main/SPLIT.txt", "trainval/*.mat",
    "labels.txt (optional: names)",
)  # fmt: skip
CONVERTED_PATHS = (
    f"or in place of trainval: {VOC2010}/SegmentationClassContext/*.png",
    f"{VOC2010}/ImageSets/SegmentationContext/SPLIT.txt",
)
CONTEXT_SOURCE = (
    "VOCtrainval_03-May-2010.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2010 and trainval.tar.gz from "
    "https://cs.stanford.edu/~roozbeh/pascal-context"
)
READERS = (
    Reader(
        DatasetInfo(
            "pascal-context-59", "PASCAL-Context, 59 frequent classes", 59, ("val", "train"), LICENCE,
            (*CONTEXT_PATHS, *CONVERTED_PATHS), CONTEXT_SOURCE,
        ),
        open_context,
    ),
    Reader(
        DatasetInfo(
            "pascal-context-459", "PASCAL-Context, all classes", 459, ("val", "train"), LICENCE, CONTEXT_PATHS,
            CONTEXT_SOURCE,
        ),
        open_context,
    ),
    Reader(
        DatasetInfo(
            "voc-21", "PASCAL VOC 2012", 21, ("val", "train", "trainval"), LICENCE,
            (
                f"{VOC2012}/JPEGImages/*.jpg", f"{VOC2012}/SegmentationClass/*.png",
                f"{VOC2012}/ImageSets/Segmentation/SPLIT.txt",
            ),
            "VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012",
        ),
        open_voc,
    ),
)  # fmt: skip
