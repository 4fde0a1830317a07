"""PASCAL-Context with 59 or 459 classes (Mottaghi et al., 2014).

The published maps hold the numbers 1..459 of its ``labels.txt``. Number 431 is the class "unknown", which is measured
like any other; 0 is not measured. The 59 frequent classes are in the order of the 459, which is also the order of the
converters of mmsegmentation (whose PNG files are 0 elsewhere), ODISE, SAN and CAT-Seg (from 0 on, 255 elsewhere), but
not that of ``59_labels.txt``, which OVSeg's converter follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    home,
    load_mat,
    numbered,
    read_lines,
)
from genseg.evaluation.datasets.voc import D2_SPLITS, LICENCE
from genseg.evaluation.metrics import IGNORE

VOC2010, D2 = "VOCdevkit/VOC2010", "pascal_ctx_d2"


def open_context(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open PASCAL-Context on a split of VOC 2010, from the published maps or else from those of converters."""
    holds = ["JPEGImages"] if root.name not in ("VOC2007", "VOC2012") else []  # other years look the same
    own = home(root, holds, VOC2010, "VOC2010")
    images = FolderDataset.find(own, "JPEGImages/*.jpg")
    for place in (root, own):
        maps = FolderDataset.find(place, "trainval/*.mat")
        if maps.paths:
            return _published(info, split, images, maps, own)
    kind, number, suffix = D2_SPLITS[split], info.n_classes, "png" if info.n_classes == 59 else "tif"
    odise = home(root, [f"annotations_ctx{number}/{kind}"], D2)
    labels = FolderDataset.find(odise, f"annotations_ctx{number}/{kind}/*.{suffix}")
    if labels.paths:
        images = FolderDataset.find(odise, f"images/{kind}/*.jpg")
        return _from_0(info, split, images, labels, None, class_names(info.name))
    san = home(root, [f"{split}/label"], _san(number))
    labels = FolderDataset.find(san, f"{split}/label/*.{suffix}")
    if labels.paths:
        images = FolderDataset.find(san, f"{split}/image/*.jpg")
        return _from_0(info, split, images, labels, None, class_names(info.name))
    labels = FolderDataset.find(own, f"annotations_detectron2/pc{number}_{split}/*.{suffix}")
    if labels.paths:
        listed = own / f"ImageSets/Main/{split}.txt"
        keys = read_lines(listed, info) if listed.exists() else list(labels.paths)
        return _from_0(info, split, images, labels, keys, _order(own, info))
    labels = FolderDataset.find(own, "SegmentationClassContext/*.png")
    if info.n_classes == 59 and labels.paths:
        keys = read_lines(own / f"ImageSets/SegmentationContext/{split}.txt", info)
        values, classes = numbered(59, first=1, ignored=[0]), class_names(info.name)
        return FileDataset(info, split, images, labels, keys=keys, classes=classes, values=values, ignore=0)
    return _published(info, split, images, FolderDataset.find(root, "trainval/*.mat"), own)


class ContextMaps(FileDataset):
    """Maps in MATLAB files, the variable ``LabelMap``."""

    def read(self, path: Path) -> Iterator[npt.NDArray[Any]]:
        """Yield the only map of a file; see `FileDataset`."""
        yield load_mat(path, "LabelMap")


def _published(info: DatasetInfo, split: str, images: FolderDataset, maps: FolderDataset, own: Path) -> Dataset:
    tables = [table for table in (maps.root / "labels.txt", own / "labels.txt") if table.exists()]
    names = _names(tables[0], info) if tables else class_names("pascal-context-459")
    classes = names if info.n_classes == 459 else class_names(info.name)
    number_of = {name: number for number, name in enumerate(classes)}
    values = {0: IGNORE} | {value: number_of.get(name, IGNORE) for value, name in enumerate(names, start=1)}
    keys = read_lines(own / f"ImageSets/Main/{split}.txt", info)
    return ContextMaps(info, split, images, maps, keys=keys, classes=classes, values=values, ignore=0)


def _from_0(
    info: DatasetInfo,
    split: str,
    images: FolderDataset,
    labels: FolderDataset,
    keys: Sequence[str] | None,
    classes: Sequence[str],
) -> Dataset:
    """Open maps whose values are the classes, and the largest value of their type where nothing is measured."""
    ignore = 255 if len(classes) == 59 else 65535
    values = numbered(len(classes), ignored=[ignore])
    return FileDataset(info, split, images, labels, keys=keys, classes=classes, values=values, ignore=ignore)


def _order(own: Path, info: DatasetInfo) -> Sequence[str]:
    """Return the classes in the order of the converter that wrote ``annotations_detectron2``.

    CAT-Seg's reads ``trainval_merged.json`` and keeps the order of the 459; OVSeg's reads ``59_labels.txt``.
    """
    classes, table = class_names(info.name), own / "59_labels.txt"
    if info.n_classes != 59 or not table.exists():
        return classes
    if (own / "trainval_merged.json").exists():
        raise GensegError(
            f"{own / 'annotations_detectron2'} may be CAT-Seg's or OVSeg's, which number the classes differently; "
            "remove trainval_merged.json if it is OVSeg's, else 59_labels.txt"
        )
    names = tuple(line.rpartition(":")[2].replace(" ", "") for line in read_lines(table, info) if line)
    if set(names) != set(classes):
        raise GensegError(f"{table} must name the 59 classes, one a line; get the file again")
    return names


def _names(path: Path, info: DatasetInfo) -> tuple[str, ...]:
    """Read the names of ``labels.txt``, with lines such as ``1: accordion``."""
    rows = [line.partition(":")[::2] for line in read_lines(path, info)]
    names = tuple(name.replace(" ", "") for _, name in rows)
    lacking = set(class_names("pascal-context-59")) - set(names)
    if [number.strip() for number, _ in rows] != [str(number) for number in range(1, 460)] or lacking:
        raise GensegError(f"{path} must name the classes 1 to 459, one a line; get the file again, or remove it")
    return names


def _san(number: int | None) -> str:
    return "pcontext" if number == 59 else "pcontext_full"


PATHS = (
    f"{VOC2010}/JPEGImages/*.jpg", f"{VOC2010}/ImageSets/Main/SPLIT.txt", "trainval/*.mat",
    "labels.txt (optional: names)",
)  # fmt: skip
CONVERTED_PATHS = (
    f"or in place of trainval: {VOC2010}/SegmentationClassContext/*.png",
    f"{VOC2010}/ImageSets/SegmentationContext/SPLIT.txt",
)
SOURCE = (
    "VOCtrainval_03-May-2010.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2010 and trainval.tar.gz from "
    "https://cs.stanford.edu/~roozbeh/pascal-context"
)


def _others(number: int) -> tuple[str, ...]:
    return (
        f"{VOC2010}/trainval, {VOC2010}/labels.txt (CAT-Seg, ODISE)",
        f"{D2}/images, {D2}/annotations_ctx{number} (ODISE, FC-CLIP, DiffCut)",
        f"{_san(number)}/SPLIT/image, {_san(number)}/SPLIT/label (SAN)",
        f"{VOC2010}/annotations_detectron2/pc{number}_SPLIT (CAT-Seg, OVSeg)",
    )


READERS = (
    Reader(
        DatasetInfo(
            "pascal-context-59", "PASCAL-Context, 59 frequent classes", 59, ("val", "train"), LICENCE,
            (*PATHS, *CONVERTED_PATHS), SOURCE, _others(59),
        ),
        open_context,
    ),
    Reader(
        DatasetInfo(
            "pascal-context-459", "PASCAL-Context, all classes", 459, ("val", "train"), LICENCE, PATHS, SOURCE,
            _others(459),
        ),
        open_context,
    ),
)  # fmt: skip
