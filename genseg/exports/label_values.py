"""The numbers that label maps of 8 bits have for classes, and the colours of PASCAL VOC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError


def numbers_of(classes: Sequence[str], known: Mapping[str, int], last: int) -> list[int]:
    """The value of each class in a map: the data set's own if it has all of the classes, else 1, 2, ….

    Args:
        classes: Names.
        known: The data set's values by name.
        last: The largest value there may be.

    Raises:
        GensegError: If there are too many classes.
    """
    if set(classes) <= set(known):
        return [known[name] for name in classes]
    if len(classes) > last:
        raise GensegError(f"the format holds {last} classes, not {len(classes)}; export as coco-instances")
    return list(range(1, len(classes) + 1))


def drawn(indices: npt.NDArray[np.int32], numbers: Sequence[int], ignored: int) -> npt.NDArray[np.uint8]:
    """Indices (H, W), -1 for "ignore", as values, uint8 (H, W)."""
    return np.array([*numbers, ignored], dtype=np.uint8)[indices]


def voc_colours() -> npt.NDArray[np.uint8]:
    """PASCAL VOC's colour of each value, uint8 (256, 3): the value's bits in turn, from the top bit of R, G and B."""
    values = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (values >> channel & 1) << 7 - bit
        values = values >> 3
    return colours.astype(np.uint8)
