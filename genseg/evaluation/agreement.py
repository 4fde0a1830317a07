"""How much two segmentations of one image agree, whatever their segments are numbered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from genseg.display.palette import palette
from genseg.evaluation.metrics import TOLERANCE, Labels, boundary_scores, overlaps

if TYPE_CHECKING:
    pass


def agreement(first: Labels, second: Labels) -> dict[str, float]:
    """Agreement of two label arrays of one shape, in pixels.

    Args:
        first: Integers of at least 0, any shape.
        second: Likewise, of the same shape.

    Returns:
        ``equal``: the share of pixels with the same number; ``matched``: that share after the one-to-one matching of
        segments that makes it largest (Hungarian); ``ari``: the adjusted Rand index, 1 for the same partition and 0 on
        average for random ones.
    """
    table = common(first, second)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return {
        "equal": float((first == second).mean()),
        "matched": float(table[rows, columns].sum() / first.size),
        "ari": ari(first, second),
    }


def ari(first: Labels, second: Labels) -> float:
    """The adjusted Rand index of two label arrays of one shape: 1 for the same partition, 0 on average for random ones.

    Symmetric.
    """
    return float(adjusted_rand_score(np.ravel(first), np.ravel(second)))


def matched_iou(first: Labels, second: Labels) -> float:
    """Mean IoU over the one-to-one matching of segments that makes it largest (Hungarian), in [0, 1].

    A segment that is left over, where one side has more of them, counts as an IoU of 0. Symmetric.

    Args:
        first: Integers of at least 0, any shape.
        second: Likewise, of the same shape.
    """
    table = common(first, second)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    iou = table / (table.sum(axis=1, keepdims=True) + table.sum(axis=0) - table)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    return float(iou[rows, columns].sum() / max(iou.shape))


def boundary_f(first: Labels, second: Labels, tolerance: float = TOLERANCE) -> float:
    """F of the boundaries of two label maps [H, W], in [0, 1]: those within ``tolerance`` pixels of another agree.

    1 where neither has a boundary, 0 where only one has. Symmetric.
    """
    return boundary_scores(first, second, ignore=-1, tolerance=tolerance)[2]


def explains(first: Labels, second: Labels) -> float:
    """How well the first's segments predict the second's: the accuracy they can achieve, in (0, 1].

    Each of the first's segments takes the second's segment that most of its pixels have; the share of pixels that are
    then right. **Not** symmetric: many small segments explain a few large ones, and hardly the other way round.

    Args:
        first: Integers of at least 0, any shape.
        second: Likewise, of the same shape.
    """
    return float(common(first, second).max(axis=1).sum() / first.size)


def common(first: Labels, second: Labels) -> npt.NDArray[np.int64]:
    """How many pixels have each pair of labels: int64 [1 + largest of first, 1 + largest of second]."""
    assert first.shape == second.shape, (first.shape, second.shape)
    return overlaps(first, second, int(first.max()) + 1, int(second.max()) + 1)


def matched_colors(labels: npt.NDArray[np.int32], reference: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.uint8]:
    """The palette of ``n`` colours, ordered so that segments look like those of another label map that they match.

    Args:
        labels: int32 (H, W) in 0..n-1.
        reference: int32 (H, W) in 0..n-1, whose label k has the palette's colour k.
        n: Number of colours.

    Returns:
        uint8 (n, 3): the colour of each of ``labels``, by the one-to-one matching with the most pixels in common.
    """
    _, partners = linear_sum_assignment(overlaps(labels, reference, n, n), maximize=True)
    colours: npt.NDArray[np.uint8] = palette(n)[partners]
    return colours
