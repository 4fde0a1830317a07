"""Distinct colors for labels."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt


def palette(n: int) -> npt.NDArray[np.uint8]:
    """``n`` distinct colors, uint8 (n, 3); color k is the same whatever ``n``."""
    golden = (5**0.5 - 1) / 2
    rows = [colorsys.hsv_to_rgb(k * golden % 1, 0.55 + 0.4 * (k % 2), 0.95 - 0.3 * (k % 3 == 2)) for k in range(n)]
    return np.round(np.array(rows) * 255).astype(np.uint8)
