"""Label maps in the layout of Cityscapes (Cordts et al., 2016)."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from PIL import Image

from genseg.display.spreadsheet import cell
from genseg.errors import GensegError
from genseg.evaluation.datasets.cityscapes import CLASSES, LABEL_IDS
from genseg.exports.items import ExportImage, Target
from genseg.exports.label_values import class_values, encode_labels

UNLABELED = 0
LAST = 254  # 255 is "ignore" in maps made of these


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``gtFine/train/CITY/*_gtFine_labelIds.png``, ``leftImg8bit/train/CITY/`` and ``classes.csv``.

    Values are Cityscapes' own where the classes are among the 19 that it evaluates, else 1, 2, …; 0 is unlabeled.

    Raises:
        GensegError: If there are no classes, or too many.
    """
    if target.classes is None:
        raise GensegError("cityscapes maps hold classes, not segments; name a set of classes that the run has")
    numbers = class_values(target.classes, dict(zip(CLASSES, LABEL_IDS, strict=True)), LAST)
    with (target.folder / "classes.csv").open("w", newline="", encoding="utf-8") as table:
        lines = csv.writer(table)
        lines.writerow(["value", "class"])
        lines.writerows((number, cell(name)) for number, name in zip(numbers, target.classes, strict=True))
    for item in items:
        city, _, frame = item.name.rpartition("/")
        stem = f"{city}/{city}_000000_{frame}"
        path = target.folder / f"gtFine/train/{stem}_gtFine_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(encode_labels(item.categories, numbers, UNLABELED)).save(path)
        item.place(target.folder / "leftImg8bit/train", f"{stem}_leftImg8bit")
