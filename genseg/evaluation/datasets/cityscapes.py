"""Cityscapes' fine labels, 19 classes (Cordts et al., 2016); numbers as in its ``labels.py``."""

from __future__ import annotations

from pathlib import Path

from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, numbered
from genseg.evaluation.metrics import IGNORE

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of the classes, of 0..33


def open_streets(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open a split with the 19 classes that the benchmark evaluates; all other ids are not measured."""
    images = FolderDataset.find(root, f"leftImg8bit/{split}/*/*_leftImg8bit.png")
    labels = FolderDataset.find(
        root, f"gtFine/{split}/*/*_gtFine_labelIds.png", f"gtFine/{split}/*/*_gtFine_labelTrainIds.png"
    )
    values, ignore = numbered(19, ignored=[255]), 255
    if labels.pattern.endswith("_labelIds.png"):
        values, ignore = dict.fromkeys(range(34), IGNORE), 0
        values |= {value: number for number, value in enumerate(LABEL_IDS)}
    return FileDataset(info, split, images, labels, classes=CLASSES, values=values, ignore=ignore)


READERS = (
    Reader(
        DatasetInfo(
            "cityscapes-19", "Cityscapes, fine labels", 19, ("val", "train"),
            "Cityscapes' own: non-commercial, registration",
            (
                "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png",
                "gtFine/SPLIT/CITY/*_gtFine_labelIds.png (or *_gtFine_labelTrainIds.png)",
            ),
            "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from https://www.cityscapes-dataset.com",
        ),
        open_streets,
    ),
)  # fmt: skip
