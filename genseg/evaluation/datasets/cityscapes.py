"""Cityscapes' fine labels, 19 classes (Cordts et al., 2016) or 27 (IIC, PiCIE, STEGO); numbers of its ``labels.py``."""

from __future__ import annotations

from pathlib import Path

from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, home, numbered
from genseg.evaluation.metrics import IGNORE

ALL_CLASSES = (
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole",
    "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck",
    "bus", "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
FIRST_ID = 7  # of these classes, whose ids follow each other; smaller ids are void
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of the 19 classes, of 0..33
CLASSES = tuple(ALL_CLASSES[number - FIRST_ID] for number in LABEL_IDS)


def open_streets(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open a split with the 19 classes that the benchmark evaluates, or all 27; other ids are not measured."""
    own = home(root, [f"leftImg8bit/{split}"], "", "cityscapes")
    images = FolderDataset.find(own, f"leftImg8bit/{split}/*/*_leftImg8bit.png")
    ids = FolderDataset.find(own, f"gtFine/{split}/*/*_gtFine_labelIds.png")
    train_ids = FolderDataset.find(own, f"gtFine/{split}/*/*_gtFine_labelTrainIds.png")
    if info.n_classes == 19 and train_ids.paths and not ids.paths:
        values = numbered(19, ignored=[255])
        return FileDataset(info, split, images, train_ids, classes=CLASSES, values=values, ignore=255)
    classes, numbers = (CLASSES, LABEL_IDS) if info.n_classes == 19 else (ALL_CLASSES, range(FIRST_ID, 34))
    values = dict.fromkeys(range(34), IGNORE) | {value: number for number, value in enumerate(numbers)}
    return FileDataset(info, split, images, ids, classes=classes, values=values, ignore=0)


LICENCE = "Cityscapes' own: non-commercial, registration"
IMAGES, LABELS = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png", "gtFine/SPLIT/CITY/*_gtFine_labelIds.png"
SOURCE = "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from https://www.cityscapes-dataset.com"
OTHERS = ("cityscapes/leftImg8bit, cityscapes/gtFine (detectron2, mmsegmentation)",)
READERS = (
    Reader(
        DatasetInfo(
            "cityscapes-19", "Cityscapes, fine labels", 19, ("val", "train"), LICENCE,
            (IMAGES, f"{LABELS} (or *_gtFine_labelTrainIds.png)"), SOURCE, OTHERS,
        ),
        open_streets,
    ),
    Reader(
        DatasetInfo(
            "cityscapes-27", "Cityscapes, fine labels, all classes but void", 27, ("val", "train"), LICENCE,
            (IMAGES, LABELS), SOURCE, OTHERS,
        ),
        open_streets,
    ),
)  # fmt: skip
