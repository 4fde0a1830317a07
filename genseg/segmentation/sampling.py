"""Nearest pixels of an image for the cells of a coarser grid, or of a finer one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def centers(shape: tuple[int, ...], grid: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], ...]:
    """Indices of the pixels of an image (H, W) at the centers of the cells of a grid (h, w)."""
    rows, columns = ((np.arange(n) * 2 + 1) * side // (2 * n) for n, side in zip(grid, shape, strict=True))
    return np.ix_(rows, columns)
