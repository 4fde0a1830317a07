"""Values of classes in 8-bit label maps, and the colors of PASCAL VOC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError


def class_values(classes: Sequence[str], known: Mapping[str, int], last: int) -> list[int]:
    """Return the value of each class: the dataset's own if it has all of the classes, else 1, 2, ….

    Args:
        classes: Names.
        known: The dataset's values by name.
        last: Largest value.

    Raises:
        GensegError: If there are too many classes.
    """
    if set(classes) <= set(known):
        return [known[name] for name in classes]
    if len(classes) > last:
        raise GensegError(f"the format holds {last} classes, not {len(classes)}; export as coco-instances")
    return list(range(1, len(classes) + 1))


def encode_labels(indices: npt.NDArray[np.int32], numbers: Sequence[int], ignored: int) -> npt.NDArray[np.uint8]:
    """Map indices (H, W), -1 for "ignore", to values, uint8 (H, W)."""
    return np.array([*numbers, ignored], dtype=np.uint8)[indices]


def voc_colors() -> npt.NDArray[np.uint8]:
    """PASCAL VOC's color of each value, uint8 (256, 3): the value's bits in turn, from the top bit of R, G and B."""
    values = np.arange(256)
    colors = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (values >> channel & 1) << 7 - bit
        values = values >> 3
    return colors.astype(np.uint8)
