"""PASCAL VOC 2012 (Everingham et al., 2010): 20 objects and background."""

from __future__ import annotations

from pathlib import Path

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, home, numbered, read_lines
from genseg.evaluation.metrics import IGNORE

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC2012, D2 = "VOCdevkit/VOC2012", "pascal_voc_d2"
D2_SPLITS = {"val": "validation", "train": "training"}
LICENCE = "images: terms of Flickr; labels: none stated"


def open_voc(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open VOC 2012: 20 objects and background; object borders (255) are not measured.

    Without the published maps, those of ODISE's and CAT-Seg's converters are read. CAT-Seg numbers background last.

    Raises:
        GensegError: If files are missing, or the only maps are converted ones without background.
    """
    holds = ["JPEGImages"] if root.name not in ("VOC2007", "VOC2010") else []  # other years look the same
    own = home(root, holds, VOC2012, "VOC2012")
    values, listed = numbered(21, ignored=[255]), own / f"ImageSets/Segmentation/{split}.txt"
    images = FolderDataset.find(own, "JPEGImages/*.jpg")
    labels = FolderDataset.find(own, "SegmentationClass/*.png", "SegmentationClassAug/*.png")
    if not labels.paths:
        kind = D2_SPLITS.get(split, split)
        odise = home(root, [f"annotations_pascal21/{kind}"], D2)
        copied = FolderDataset.find(odise, f"annotations_pascal21/{kind}/*.png")
        if copied.paths:
            images = FolderDataset.find(odise, f"images/{kind}/*.jpg")
            return FileDataset(info, split, images, copied, classes=VOC_CLASSES, values=values, ignore=255)
        converted = FolderDataset.find(own, f"annotations_detectron2_bg/{split}/*.png")
        if converted.paths:
            labels, values = converted, {20: 0, 255: IGNORE} | {value: value + 1 for value in range(20)}
        elif FolderDataset.find(own, f"annotations_detectron2/{split}/*.png").paths:
            raise GensegError(
                f"{own / 'annotations_detectron2'} has the 20 objects without the background that {info.name} measures;"
                " unpack VOC's SegmentationClass beside it"
            )
    keys = read_lines(listed, info)
    return FileDataset(info, split, images, labels, keys=keys, classes=VOC_CLASSES, values=values, ignore=255)


READERS = (
    Reader(
        DatasetInfo(
            "voc-21", "PASCAL VOC 2012", 21, ("val", "train", "trainval"), LICENCE,
            (
                f"{VOC2012}/JPEGImages/*.jpg", f"{VOC2012}/SegmentationClass/*.png",
                f"{VOC2012}/ImageSets/Segmentation/SPLIT.txt",
            ),
            "VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012",
            (
                f"{D2}/images, {D2}/annotations_pascal21 (ODISE, FC-CLIP, DiffCut)",
                f"{VOC2012}/annotations_detectron2_bg/SPLIT/*.png (CAT-Seg)",
                f"{VOC2012}/SegmentationClassAug/*.png (DeepLab)",
            ),
        ),
        open_voc,
    ),
)  # fmt: skip
