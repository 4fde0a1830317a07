"""The 80 objects of COCO 2017 with background, from instances or from COCO-Stuff's maps."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.coco_stuff import (
    CURATED,
    CURATED_SOURCE,
    IMAGES,
    LICENCE,
    N_THINGS,
    SOURCE,
    UNUSED,
    coco_home,
    coco_images,
    curated_list,
    stuff_maps,
)
from genseg.evaluation.datasets.files import (
    FileDataset,
    FolderDataset,
    Reader,
    absent,
    class_names,
    numbered,
    read_lines,
)


def open_objects(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open the 80 things with background: from maps of other tools if they are there, else from instances.

    The split ``"val-curated"`` has the images that COCO-Stuff's 27 classes are measured on, and takes the things of
    COCO-Stuff's maps if they are there, as DiffCut does. So does any split without instances.
    """
    kind = split.removesuffix("-curated")
    own = coco_home(root, kind)
    images = coco_images(own, kind)
    keys = read_lines(curated_list(own, kind), info) if kind != split else None
    classes = ("background", *(name for name in class_names("coco-stuff-182")[:N_THINGS] if name not in UNUSED))
    labels = FolderDataset.find(own, f"annotations/{kind}2017/*_instanceTrainIds.png")
    if labels.paths:
        values = numbered(len(classes), ignored=[255])
        return FileDataset(info, split, images, labels, keys=keys, classes=classes, values=values, ignore=255)
    maps, numbers = stuff_maps(own, kind)
    instances = own / f"annotations/instances_{kind}2017.json"
    if maps.paths and (keys is not None or not instances.exists()):
        names = class_names("coco-stuff-182")
        values = {
            value: classes.index(names[number]) if number < N_THINGS else 0
            for value, number in numbers.items()
            if names[number] not in UNUSED
        }
        return FileDataset(info, split, images, maps, keys=keys, classes=classes, values=values | {255: 0})
    return Instances(info, own, split, instances, images, keys, classes)


class Instances(FileDataset):
    """Objects of ``instances_SPLIT2017.json``, drawn in order over each other, as in COCO-Stuff's maps.

    Args:
        info: Description of the dataset.
        root: Folder of the dataset.
        split: Name of the split.
        path: The file of instances.
        images: The images.
        keys: Keys of the split; None for all images of the file.
        classes: Names of the classes, background first.

    Raises:
        GensegError: If pycocotools is not installed, or files are missing or damaged.
    """

    def __init__(
        self,
        info: DatasetInfo,
        root: Path,
        split: str,
        path: Path,
        images: FolderDataset,
        keys: Iterable[str] | None,
        classes: tuple[str, ...],
    ):
        if not path.exists():
            raise absent(info, path)
        self._coco = _load_instances(path)
        self._ids = {Path(image["file_name"]).stem: number for number, image in self._coco.imgs.items()}
        self._class_of = {number: classes.index(each["name"]) for number, each in self._coco.cats.items()}
        labels = FolderDataset(root, str(path), {key: [path] for key in self._ids})
        super().__init__(
            info, split, images, labels, keys=self._ids if keys is None else keys, classes=classes,
            values=numbered(len(classes)),
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
            "coco-object", "COCO 2017, objects and background", 81, ("val", "train", "val-curated"), LICENCE,
            (
                IMAGES, "annotations/instances_SPLIT2017.json (or annotations/SPLIT2017/*_instanceTrainIds.png)",
                f"curated/val2017/{CURATED} (for val-curated)",
            ),
            f"{SOURCE} and annotations_trainval2017.zip from http://images.cocodataset.org/annotations, and for "
            f"val-curated {CURATED_SOURCE}",
            (
                "COCO-Stuff's maps in place of instances, in any layout of coco-stuff-171 (DiffCut)",
                f"{CURATED} in place of curated (DiffSeg, DiffCut)",
            ),
        ),
        open_objects,
    ),
)  # fmt: skip
