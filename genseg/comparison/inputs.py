"""The inputs of a comparison: images, their ground truth, and where results are saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from genseg.evaluation.datasets.files import check_map
from genseg.evaluation.metrics import IGNORE
from genseg.images import ImageLike
from genseg.images.files import open_image

TruthLike: TypeAlias = "str | Path | npt.NDArray[Any]"

UNMEASURED = 255  # in files and arrays, as datasets have it


def load_truth(source: TruthLike, height: int, width: int, max_pixels: int) -> npt.NDArray[np.int64]:
    """Read a map of classes.

    Args:
        source: The path of a grayscale or indexed PNG, or an integer array; 255 and numbers below 0 are not measured.
        height: Rows that the map must have: its image's.
        width: Columns.
        max_pixels: Larger files are refused, before they are decoded.

    Returns:
        int64 [height, width] of classes from 0 on; `IGNORE` where nothing is measured.

    Raises:
        GensegError: If the file cannot be read, or the map is of another kind or size.
    """
    name, labels = "a truth", source
    if isinstance(source, (str, Path)):
        name, labels = str(source), np.asarray(open_image(Path(source), max_pixels))
    labels = np.asarray(labels)
    check_map(labels, (height, width), name)
    return np.where((labels == UNMEASURED) | (labels < 0), IGNORE, labels.astype(np.int64))


class Failure(NamedTuple):
    """An image that is left out, or for ``image=""`` a backend or its metrics under a protocol.

    ``backend=""`` where no backend is at fault.
    """

    backend: str
    image: str
    problem: str


class ResultFiles(NamedTuple):
    """Files of one result: the segmentation, and beside it its identity and reconstruction error."""

    result: Path
    sidecar: Path


class Photo(NamedTuple):
    """An image to compare on.

    Attributes:
        name: Its name.
        source: The image as the caller gave it.
        digest: SHA-256 of its pixels.
        truth: Reads its ground truth, int64 [H, W]; None if there is none.
        classes: One more than the largest class in it.
    """

    name: str
    source: ImageLike
    digest: str
    truth: Callable[[], npt.NDArray[np.int64]] | None
    classes: int

    def files(self, folder: Path, backend: str) -> ResultFiles:
        """Return the files of a backend's result."""
        return ResultFiles(folder / backend / f"{self.name}.npz", folder / backend / f"{self.name}.json")
