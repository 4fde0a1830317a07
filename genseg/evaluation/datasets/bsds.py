"""BSDS500 (Arbeláez et al., 2011): regions without classes, drawn by about five annotators per image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, home, load_mat

FOLDER = "BSR/BSDS500/data"


def open_regions(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open the photos of a split, with the regions of all annotators."""
    own = home(root, [f"groundTruth/{split}"], FOLDER, "BSDS500/data", "data")
    images = FolderDataset.find(own, f"images/{split}/*.jpg")
    return Regions(info, split, images, FolderDataset.find(own, f"groundTruth/{split}/*.mat"))


class Regions(FileDataset):
    """Regions in MATLAB files: the cell array ``groundTruth``, of structures with ``Segmentation`` and boundaries."""

    def read(self, path: Path) -> Iterator[npt.NDArray[Any]]:
        """Yield the map of each annotator; see `FileDataset`."""
        cells = load_mat(path, "groundTruth")
        try:
            for cell in cells.flat:
                yield cell["Segmentation"][0, 0]
        except (IndexError, ValueError, TypeError) as error:  # no cells, or no such field
            raise GensegError(f"{path} has no groundTruth{{i}}.Segmentation; get the file again") from error


READERS = (
    Reader(
        DatasetInfo(
            "bsds500", "Berkeley Segmentation Data Set 500", None, ("val", "test", "train"),
            "non-commercial research and education",
            (f"{FOLDER}/images/SPLIT/*.jpg", f"{FOLDER}/groundTruth/SPLIT/*.mat"),
            "BSR_bsds500.tgz from http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR",
        ),
        open_regions,
    ),
)  # fmt: skip
