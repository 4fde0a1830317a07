"""Label maps in the layout of PASCAL VOC 2012 (Everingham et al., 2010)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.errors import GensegError
from genseg.evaluation.datasets.voc import VOC_CLASSES
from genseg.exports.items import ExportImage, Target
from genseg.exports.label_values import class_values, encode_labels, voc_colors

IGNORED = 255
LAST = 254
COLORS = voc_colors()
STRUCTURE = re.compile(r"[:#\x00-\x1f\x7f]")  # separates fields, begins comments or ends lines in labelmap.txt


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``VOCdevkit/VOC2012`` with images, maps of classes and of segments, and the split ``train``.

    Values are VOC's own where all classes are VOC's, else 1, 2, …; 255 is "ignore". ``labelmap.txt`` has them, in the
    form of CVAT and Datumaro.

    Raises:
        GensegError: If there are too many classes, or segments of an image.
    """
    numbers = class_values(target.categories, {name: value for value, name in enumerate(VOC_CLASSES)}, LAST)
    root = target.folder / "VOCdevkit/VOC2012"
    for name in ("SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    lines = [
        f"{STRUCTURE.sub('_', name)}:{','.join(map(str, COLORS[number].tolist()))}::\n"
        for number, name in zip(numbers, target.categories, strict=True)
    ]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(lines), encoding="utf-8")
    with (root / "ImageSets/Segmentation/train.txt").open("w", encoding="utf-8") as split:
        for item in items:
            if len(item.segments) > LAST:
                raise GensegError(
                    f"voc numbers {LAST} segments an image, and {item.row.key} has {len(item.segments)}; "
                    "export as coco-instances, or give a larger min_area"
                )
            _save(root / f"SegmentationClass/{item.name}.png", encode_labels(item.categories, numbers, IGNORED))
            order = np.searchsorted([segment.label for segment in item.segments], item.labels) + 1
            objects = np.where(item.labels < 0, IGNORED, order).astype(np.uint8)
            _save(root / f"SegmentationObject/{item.name}.png", objects)
            item.place(root / "JPEGImages")
            split.write(f"{item.name}\n")


def _save(path: Path, values: npt.NDArray[np.uint8]) -> None:
    picture = Image.fromarray(values)
    picture.putpalette(COLORS.tobytes())
    picture.save(path)
