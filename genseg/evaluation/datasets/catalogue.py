"""All datasets by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genseg.errors import GensegError, unknown
from genseg.evaluation.datasets import (
    ade20k,
    bsds,
    camvid,
    cityscapes,
    coco_objects,
    coco_stuff,
    folder,
    imagenet,
    pascal_context,
    potsdam,
    voc,
)
from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import AbsentError, Reader

READERS: dict[str, Reader] = {
    reader.info.name: reader
    for module in (
        coco_stuff,
        coco_objects,
        ade20k,
        pascal_context,
        voc,
        imagenet,
        cityscapes,
        camvid,
        potsdam,
        bsds,
        folder,
    )
    for reader in module.READERS
}


def list_datasets() -> list[DatasetInfo]:
    """List the datasets that `load_dataset` can open, with the files that they need."""
    return [reader.info for reader in READERS.values()]


def load_dataset(name: str, root: str | Path, split: str | None = None) -> Dataset:
    """Open a dataset on disk, in its published layout.

    Args:
        name: One of `list_datasets`.
        root: The folder in which its archives were unpacked, or the dataset's own folder in it.
        split: One of the dataset's splits; None for the first.

    Returns:
        The dataset; samples are read on access.

    Raises:
        GensegError: If the name or the split is unknown, or files are missing; the message says what to download, or
            which folder to name if they are near the root.
    """
    if name not in READERS:
        raise unknown("dataset", name, READERS)
    info, open_split = READERS[name]
    split = split or info.splits[0]
    if split not in info.splits:
        raise unknown(f"split of {name}", split, info.splits)
    if not Path(root).is_dir():
        raise GensegError(f"{root} is no folder; give the one that holds {', '.join(info.paths)}")
    try:
        return open_split(info, Path(root), split)
    except AbsentError as error:
        for place in _nearby(Path(root)):
            if _opens(READERS[name], place, split):
                raise GensegError(f"{root} is not the folder of {name}, but {place} is; name that one") from error
        raise


def _nearby(root: Path) -> Iterator[Path]:
    """Yield the folders above a root, and those in it."""
    yield from root.resolve().parents[:3]
    yield from sorted(path for path in root.iterdir() if path.is_dir())[:100]


def _opens(reader: Reader, root: Path, split: str) -> bool:
    try:
        reader.open(reader.info, root, split)
    except (GensegError, OSError):
        return False
    return True
