"""COCO: COCO-Stuff with 171 fine or 27 coarse classes (Caesar et al., 2018), and the 80 objects alone.

Values of the pixel maps are the ids 1..182 of cocostuff's ``labels.txt`` minus one, 255 for unlabelled pixels; eleven
of the ids occur in no file. The 27 classes and what they comprise are those of IIC and PiCIE, which STEGO and EmerDiff
report on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import (
    FileDataset,
    FolderDataset,
    Reader,
    absent,
    class_names,
    numbered,
    read_lines,
)
from genseg.evaluation.metrics import IGNORE

UNUSED = {
    "street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door", "blender", "hair brush",
}  # fmt: skip
N_THINGS = 91  # ids of things, with the gaps; stuff follows
LICENCE = "images: terms of Flickr; labels: CC BY 4.0"
IMAGES = "images/SPLIT2017/*.jpg (or SPLIT2017/*.jpg)"
STUFF_LABELS = "stuffthingmaps/SPLIT2017/*.png (or annotations/SPLIT2017/*.png)"
CURATED = "curated/SPLIT2017/Coco164kFull_Stuff_Coarse_7.txt"
SOURCE = "val2017.zip from http://images.cocodataset.org/zips"
STUFF_SOURCE = (
    f"{SOURCE} and stuffthingmaps_trainval2017.zip from "
    "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset"
)


def open_stuff(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open COCO-Stuff; with 27 classes, only the curated images if their list is there.

    The split is then called ``"val-curated"``, so that scores of one are not mistaken for those of the other.
    """
    fine = class_names("coco-stuff-182")
    keys = None
    if info.n_classes == 27:
        classes = class_names("coco-stuff-27")
        values = {value: classes.index(name) for value, name in enumerate(class_names("coco-stuff-182-coarse"))}
        curated = root / CURATED.replace("SPLIT", split)
        keys = read_lines(curated, info) if curated.exists() else None
    else:
        classes = tuple(name for name in fine if name not in UNUSED)
        values = {fine.index(name): number for number, name in enumerate(classes)}
    images = FolderDataset.find(root, f"images/{split}2017/*.jpg", f"{split}2017/*.jpg")
    labels = FolderDataset.find(root, f"stuffthingmaps/{split}2017/*.png", f"annotations/{split}2017/*.png")
    # Other tools write maps such as NAME_labelTrainIds.png beside the published ones.
    labels.paths = {key: paths for key, paths in labels.paths.items() if "TrainIds" not in key}
    return FileDataset(
        info, split if keys is None else f"{split}-curated", images, labels,
        keys=keys, classes=classes, values=values | {255: IGNORE}, ignore=255,
    )  # fmt: skip


def open_objects(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open the 80 things with background: from maps of other tools if they are there, else from instances."""
    classes = ("background", *(name for name in class_names("coco-stuff-182")[:N_THINGS] if name not in UNUSED))
    images = FolderDataset.find(root, f"images/{split}2017/*.jpg", f"{split}2017/*.jpg")
    labels = FolderDataset.find(root, f"annotations/{split}2017/*_instanceTrainIds.png")
    if not labels.paths:
        return Instances(info, root, split, images, classes)
    values = numbered(len(classes), ignored=[255])
    return FileDataset(info, split, images, labels, classes=classes, values=values, ignore=255)


class Instances(FileDataset):
    """Objects of ``instances_SPLIT2017.json``, drawn in order over each other, as in COCO-Stuff's maps.

    Args:
        info: Description of the dataset.
        root: Folder of the dataset.
        split: Name of the split.
        images: The images.
        classes: Names of the classes, background first.

    Raises:
        GensegError: If pycocotools is not installed, or files are missing or damaged.
    """

    def __init__(self, info: DatasetInfo, root: Path, split: str, images: FolderDataset, classes: tuple[str, ...]):
        path = root / f"annotations/instances_{split}2017.json"
        if not path.exists():
            raise absent(info, path)
        self._coco = _load_instances(path)
        self._ids = {Path(image["file_name"]).stem: number for number, image in self._coco.imgs.items()}
        self._class_of = {number: classes.index(each["name"]) for number, each in self._coco.cats.items()}
        labels = FolderDataset(root, str(path), {key: [path] for key in self._ids})
        super().__init__(
            info, split, images, labels, keys=self._ids, classes=classes, values=numbered(len(classes))
        )  # fmt: skip

    def maps(self, key: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Yield the only map of an image; see `FileDataset`."""
        image = self._coco.imgs[self._ids[key]]
        labels = np.zeros((image["height"], image["width"]), dtype=np.int64)
        for annotation in self._coco.loadAnns(self._coco.getAnnIds(image["id"])):
            labels[self._coco.annToMask(annotation) > 0] = self._class_of[annotation["category_id"]]
        yield f"{self.labels.pattern}, image {key},", labels


def _load_instances(path: Path) -> Any:
    if importlib.util.find_spec("pycocotools") is None:
        raise GensegError("coco-object needs the package 'pycocotools'; run: pip install 'genseg[evaluate]'")
    from pycocotools.coco import COCO

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            return COCO(str(path))
    except (ValueError, KeyError, AssertionError) as error:
        raise GensegError(f"{path} is damaged ({error}); get annotations_trainval2017.zip again") from error


READERS = (
    Reader(
        DatasetInfo(
            "coco-stuff-171", "COCO-Stuff 164k", 171, ("val", "train"), LICENCE, (IMAGES, STUFF_LABELS), STUFF_SOURCE
        ),
        open_stuff,
    ),
    Reader(
        DatasetInfo(
            "coco-stuff-27", "COCO-Stuff 164k, 27 coarse classes", 27, ("val", "train"), LICENCE,
            (IMAGES, STUFF_LABELS, f"{CURATED} (optional: these images alone)"),
            f"{STUFF_SOURCE}, and for STEGO's images the folder curated of https://github.com/janghyuncho/PiCIE",
        ),
        open_stuff,
    ),
    Reader(
        DatasetInfo(
            "coco-object", "COCO 2017, objects and background", 81, ("val", "train"), LICENCE,
            (IMAGES, "annotations/instances_SPLIT2017.json (or annotations/SPLIT2017/*_instanceTrainIds.png)"),
            f"{SOURCE} and annotations_trainval2017.zip from http://images.cocodataset.org/annotations",
        ),
        open_objects,
    ),
)  # fmt: skip
