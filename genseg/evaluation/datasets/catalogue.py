"""All datasets by name."""

from __future__ import annotations

from pathlib import Path

from genseg.errors import GensegError, unknown
from genseg.evaluation.datasets import ade20k, bsds, camvid, cityscapes, coco, folder, pascal
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import Reader

READERS: dict[str, Reader] = {
    reader.info.name: reader
    for module in (coco, ade20k, pascal, cityscapes, camvid, bsds, folder)
    for reader in module.READERS
}


def list_datasets() -> list[DatasetInfo]:
    """List the datasets that `load_dataset` can open, with the files that they need."""
    return [reader.info for reader in READERS.values()]


def load_dataset(name: str, root: str | Path, split: str | None = None) -> Dataset:
    """Open a dataset on disk, in its published layout.

    Args:
        name: One of `list_datasets`.
        root: The folder in which its archives were unpacked.
        split: One of the dataset's splits; None for the first.

    Returns:
        The dataset; samples are read on access.

    Raises:
        GensegError: If the name or the split is unknown, or files are missing; the message says what to download.
    """
    if name not in READERS:
        raise unknown("dataset", name, READERS)
    info, open_split = READERS[name]
    split = split or info.splits[0]
    if split not in info.splits:
        raise unknown(f"split of {name}", split, info.splits)
    if not Path(root).is_dir():
        raise GensegError(f"{root} is no folder; give the one that holds {', '.join(info.paths)}")
    return open_split(info, Path(root), split)
