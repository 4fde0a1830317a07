"""ISPRS Potsdam with 3 classes, as IIC prepared it and STEGO measures it: 200×200 tiles.

The six classes of the benchmark are merged in pairs: roads and cars, buildings and clutter, vegetation and trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, home, load_mat, read_lines
from genseg.evaluation.metrics import IGNORE

CLASSES = ("roads and cars", "buildings and clutter", "vegetation and trees")
COARSE = (0, 1, 2, 2, 0, 1)  # of impervious surfaces, buildings, low vegetation, trees, cars, clutter
LISTS = {"val": "labelled_test.txt", "train": "labelled_train.txt"}


def open_tiles(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open IIC's tiles, or else mmsegmentation's, whose split is called ``"val-mmsegmentation"``: other tiles."""
    own = home(root, ["imgs", f"img_dir/{split}"], "potsdam")
    labels = FolderDataset.find(own, f"ann_dir/{split}/*.png")
    if labels.paths and not (own / LISTS[split]).exists():
        values = {0: IGNORE} | dict(enumerate(COARSE, start=1))
        images = FolderDataset.find(own, f"img_dir/{split}/*.png")
        return FileDataset(
            info, f"{split}-mmsegmentation", images, labels, classes=CLASSES, values=values, ignore=0
        )  # fmt: skip
    images, labels = FolderDataset.find(own, "imgs/*.mat"), FolderDataset.find(own, "gt/*.mat")
    keys, values = read_lines(own / LISTS[split], info), dict(enumerate(COARSE)) | {255: IGNORE}
    return Tiles(info, split, images, labels, keys=keys, classes=CLASSES, values=values, ignore=255)


class Tiles(FileDataset):
    """Tiles in MATLAB files: red, green, blue and infrared in the variable ``img``, labels in ``gt``."""

    def image(self, path: Path) -> Image.Image:
        """Read the first three channels."""
        channels = load_mat(path, "img")
        if channels.ndim != 3 or channels.shape[2] < 3 or channels.dtype != np.uint8:
            raise GensegError(f"{path} must hold red, green and blue in 8 bits, as IIC prepared it; get the file again")
        return Image.fromarray(np.ascontiguousarray(channels[..., :3]))

    def read(self, path: Path) -> Iterator[npt.NDArray[Any]]:
        """Yield the only map of a file; see `FileDataset`."""
        yield load_mat(path, "gt")


READERS = (
    Reader(
        DatasetInfo(
            "potsdam-3", "ISPRS Potsdam, 3 classes", 3, ("val", "train"), "ISPRS' own: research, on request",
            (
                "potsdam/imgs/*.mat", "potsdam/gt/*.mat",
                "potsdam/labelled_test.txt (for train: labelled_train.txt)",
            ),
            "potsdam.zip of https://github.com/mhamilton723/STEGO, or make the tiles as in "
            "https://github.com/xu-ji/IIC",
            ("potsdam/img_dir/SPLIT/*.png, potsdam/ann_dir/SPLIT/*.png (mmsegmentation; other tiles)",),
        ),
        open_tiles,
    ),
)  # fmt: skip
