"""Label Studio's run lengths of brush masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CHANNELS = 4  # a mask is an image of red, green, blue and alpha, all of them the mask
SIZES = np.array([3, 4, 8, 16])  # bits of a run's length; each run has the fewest that do


def brush_rle(mask: npt.NDArray[np.bool_]) -> list[int]:
    """A mask (H, W) as bytes: a head, then for each run of 0 or 255 its length less one, and the value.

    In bits: 32 of the number of values, 5 of a value's bits less one, 4 times 4 of `SIZES` less one. Each run has a 1,
    2 that choose the size, the length less one in that size, and 8 of the value. (rle-pack of thi.ng/umbrella, which
    Label Studio uses, also has single values in a row, under a 0.)
    """
    values = np.repeat(mask.ravel(), CHANNELS)
    starts = np.flatnonzero(np.diff(values, prepend=not values[0]))
    lengths = np.diff(starts, append=len(values))
    longest = 1 << int(SIZES[-1])
    pieces = -(-lengths // longest)  # of runs that are too long for a size
    bits = np.repeat(values[starts], pieces)
    less_one = np.full(len(bits), longest - 1)
    less_one[np.cumsum(pieces) - 1] = (lengths - 1) % longest
    sizes = np.searchsorted((1 << SIZES) - 1, less_one)
    code = (((4 | sizes) << SIZES[sizes] | less_one) << 8) | np.where(bits, 255, 0)
    widths = 3 + SIZES[sizes] + 8
    places = np.arange(widths.max())
    shifts = widths[:, None] - 1 - places
    body = (code[:, None] >> np.maximum(shifts, 0) & 1).astype(np.uint8)[shifts >= 0]
    head = f"{len(values):032b}{8 - 1:05b}{''.join(f'{size - 1:04b}' for size in SIZES)}"
    packed: list[int] = np.packbits(np.concatenate([np.array(list(head), dtype=np.uint8), body])).tolist()
    return packed
