"""ADE20K's scene parsing benchmark of 150 classes (Zhou et al., 2017), as in ADEChallengeData2016.

Names and order are those of ``objectInfo150.txt``, each the first of its synonyms. Value 0 is "other".
"""

from __future__ import annotations

from pathlib import Path

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, class_names, home, numbered, read_lines

FOLDER = "ADEChallengeData2016"
FOLDERS = {"val": "validation", "train": "training"}


def open_scenes(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open a split of the benchmark, from the published maps or detectron2's, whose values are one less.

    Class names are read from ``objectInfo150.txt`` if it is there.
    """
    kind = FOLDERS[split]
    own = home(root, [f"images/{kind}"], FOLDER, f"ade/{FOLDER}")
    images = FolderDataset.find(own, f"images/{kind}/*.jpg")
    labels = FolderDataset.find(own, f"annotations/{kind}/*.png", f"annotations_detectron2/{kind}/*.png")
    table = own / "objectInfo150.txt"
    classes = _names(table, info) if table.exists() else class_names("ade20k-150")
    values, ignore = numbered(150, first=1, ignored=[0]), 0
    if labels.pattern.startswith("annotations_detectron2"):
        values, ignore = numbered(150, ignored=[255]), 255
    return FileDataset(info, split, images, labels, classes=classes, values=values, ignore=ignore)


def _names(path: Path, info: DatasetInfo) -> tuple[str, ...]:
    """Read the first synonym of each row: index, share of pixels, training images, validation images, synonyms."""
    rows = [line.split("\t") for line in read_lines(path, info)[1:]]
    if [row[0].strip() for row in rows] != [str(number) for number in range(1, 151)]:
        raise GensegError(f"{path} must have the rows 1 to 150 below its heading; get the file again, or remove it")
    return tuple(row[-1].split(",")[0].strip() for row in rows)


READERS = (
    Reader(
        DatasetInfo(
            "ade20k-150", "ADE20K, scene parsing benchmark", 150, ("val", "train"),
            "non-commercial research and education; labels: BSD 3-Clause",
            (
                f"{FOLDER}/images/validation/*.jpg", f"{FOLDER}/annotations/validation/*.png",
                f"{FOLDER}/objectInfo150.txt (optional: names)",
            ),
            "ADEChallengeData2016.zip from http://data.csail.mit.edu/places/ADEchallenge",
            (f"{FOLDER}/annotations_detectron2/validation/*.png (detectron2, MaskFormer, CAT-Seg)",),
        ),
        open_scenes,
    ),
)  # fmt: skip
