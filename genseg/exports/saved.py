"""Input of an export: a run, or the ``.npz`` files of single segmentations, read as a run's rows are."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg.errors import GensegError, unknown
from genseg.files import as_utf8
from genseg.runs.rows import Row, png_of
from genseg.runs.run import MANIFEST, Run
from genseg.runs.sources import ImageSource
from genseg.runs.validation import MOST_LABELS
from genseg.segmentation import Segmentation
from genseg.segmentation.storage import read_meta

NAMES = "names"  # of the one set of classes: what `Segmentation.name` called the segments
SUFFIX = ".npz"


class SavedSegmentations:
    """The part of `genseg.Run` that exports need, over files that `Segmentation.save` wrote.

    Damaged files are skipped. Keys are file stems, and the image is the one that the file holds.

    Attributes:
        settings: The backends, as ``backend``.
        damaged: The problem of each damaged file read so far, by key.

    Args:
        files: At least one.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self.damaged: dict[str, str] = {}
        described = [read_meta(file) for file in files]
        backends = dict.fromkeys(str(meta["backend"]) for meta in described if "backend" in meta)
        self.settings: Mapping[str, Any] = {"backend": ", ".join(backends) or "unknown"}
        names = (name for meta in described for name in meta.get("names") or () if name)
        self._names = tuple(dict.fromkeys(map(str, names)))

    def __len__(self) -> int:
        """Number of files."""
        return len(self._files)

    @property
    def class_sets(self) -> list[str]:
        """`NAMES` if any segment has a name."""
        return [NAMES] if self._names else []

    def class_names(self, classes: str) -> tuple[str, ...]:
        """Names of all files' segments.

        Raises:
            GensegError: If ``classes`` is not `NAMES`, or no segment has a name.
        """
        if classes not in self.class_sets:
            raise unknown("set of classes", classes, self.class_sets)
        return self._names

    def rows(self, *, classes: str | None = None) -> Iterator[Row]:
        """Read the files one after the other, with their segments' names as classes if asked for."""
        index = {name: number for number, name in enumerate(self._names)}
        for file in self._files:
            try:
                segmentation = Segmentation.load(file)
                if len(segmentation.colors) > MOST_LABELS:
                    raise GensegError(f"{file} has more than {MOST_LABELS} segments; merge some")
                image = png_of(segmentation.image)
                row = Row.of(segmentation, as_utf8(file.stem), ImageSource(str(file)), "", image=image)
            except GensegError as error:
                self.damaged[as_utf8(file.stem)] = str(error)
                continue
            if classes is not None:
                names = segmentation.names or ("",) * len(segmentation.colors)
                numbers = np.array([index.get(name, -1) for name in names], dtype=np.int32)
                row = Row(**vars(row) | {"classes": numbers})
            yield row


def open_masks(given: str | Path | Sequence[str | Path]) -> Run | SavedSegmentations:
    """Open a run, or ``.npz`` files: named one by one, by a pattern, or all of a folder.

    Raises:
        GensegError: If there is neither, or a path does not exist.
    """
    several = [given] if isinstance(given, str | Path) else list(given)
    if len(several) == 1 and not _names_files(str(several[0])):
        return Run(str(several[0]))
    files = [file for each in several for file in _files(str(each))]
    return SavedSegmentations(list(dict.fromkeys(files)))


def _names_files(given: str) -> bool:
    """Whether a path names ``.npz`` files: by its suffix, or as a local folder that holds no run."""
    return given.lower().endswith(SUFFIX) or (Path(given).is_dir() and not (Path(given) / MANIFEST).exists())


def _files(given: str) -> list[Path]:
    path = Path(given)
    if path.is_dir():
        files = sorted(file for file in path.glob(f"*{SUFFIX}") if not file.name.startswith("."))
    elif path.exists():
        files = [path]
    elif not glob.has_magic(given):
        raise GensegError(f"{given} does not exist; check the path")
    else:
        files = [Path(match) for match in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207
    if not files:
        raise GensegError(
            f"{given} holds neither a run nor {SUFFIX} files; "
            "name what 'genseg run' or 'genseg segment --save npz' wrote"
        )
    return files
