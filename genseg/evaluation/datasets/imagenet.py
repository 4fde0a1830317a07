"""ImageNet-Segmentation: the foreground of one object in 4,276 photos (Guillaumin, Küttel and Ferrari, IJCV 2014).

It is the set on which attribution maps, and ConceptAttention, are measured; ImageNet-S (Gao et al.) is another. The
file ``gtsegs_ijcv.mat`` is HDF5, which MATLAB writes from version 7.3 on, with each array's axes in reverse.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo, Sample
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, absent, lookup, numbered, truth_map

CLASSES = ("background", "object")
FILE, FOLDER = "gtsegs_ijcv.mat", "imagenet_segmentation"


def open_objects(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open the file, or else the PNG files that ConceptAttention's code makes of it; keys are the same."""
    places = (root, root / FOLDER, root / "data", root / "data" / FOLDER)
    for path in (place / FILE for place in places):
        if path.exists():
            return MatObjects(info, split, path)
    for place in places:
        labels = FolderDataset.find(place, "segmentation_masks/*.png")
        if labels.paths:
            images, values = FolderDataset.find(place, "images/*.png"), numbered(2)
            return FileDataset(info, split, images, labels, classes=CLASSES, values=values)
    raise absent(info, root / FILE)


class MatObjects(Dataset):
    """Photos and foregrounds of ``gtsegs_ijcv.mat``.

    Args:
        info: Description of the dataset.
        split: Name of the split.
        path: The file.

    Raises:
        GensegError: If h5py is not installed, or the file is damaged.
    """

    def __init__(self, info: DatasetInfo, split: str, path: Path):
        self.name, self.licence, self.split = info.name, info.licence, split
        self.classes, self.ignore, self.path = CLASSES, None, path
        if importlib.util.find_spec("h5py") is None:
            raise GensegError(f"{info.name} needs the package 'h5py'; run: pip install 'genseg[evaluate]'")
        self.keys = sorted(map(str, range(self._read(lambda file: len(file["value/img"])))))
        self._known = frozenset(self.keys)

    def __getitem__(self, key: str) -> Sample:
        """Read one sample; see `Dataset`."""
        if key not in self._known:
            raise KeyError(key)
        pixels, labels = self._read(lambda file: _arrays(file, int(key)))
        name = f"{self.path}, image {key},"
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise GensegError(f"{name} is not red, green and blue in 8 bits; get the file again")
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return Sample(key, image, (truth_map(labels, lookup(numbered(2)), image.size, name),))

    def fingerprint(self) -> str:
        """Digest the dataset's name and the file's name and size; see `Dataset`."""
        lines = [self.name, f"{self.path.name} {self.path.stat().st_size}"]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _read(self, what: Any) -> Any:
        import h5py

        try:
            with h5py.File(self.path, "r") as file:
                return what(file)
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise GensegError(f"{self.path} is damaged ({error}); get the file again") from error


def _arrays(file: Any, number: int) -> tuple[Any, Any]:
    """Follow the file's references to a photo [H, W, 3] and its foreground [H, W]."""
    pixels = file[file["value/img"][number, 0]]
    cell = file[file["value/gt"][number, 0]]
    return np.asarray(pixels).T, np.asarray(file[cell[0, 0]]).T.astype(np.int64)


READERS = (
    Reader(
        DatasetInfo(
            "imagenet-segmentation", "ImageNet-Segmentation, one object and background", 2, ("all",),
            "ImageNet's: non-commercial research; labels: none stated",
            (FILE,),
            f"{FILE} from http://calvin-vision.net/bigstuff/proj-imagenet/data",
            (f"{FOLDER}/images/*.png, {FOLDER}/segmentation_masks/*.png (ConceptAttention)",),
        ),
        open_objects,
    ),
)  # fmt: skip
