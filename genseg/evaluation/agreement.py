"""Agreement of two segmentations of one image, independent of the numbering of segments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from genseg.display.palette import palette
from genseg.evaluation.metrics import TOLERANCE, Labels, boundary_scores, overlaps


def agreement(first: Labels, second: Labels) -> dict[str, float]:
    """Measure the agreement of two label arrays, in pixels.

    Args:
        first: Integers of at least 0, any shape.
        second: Integers of at least 0, of the same shape.

    Returns:
        ``equal``: the share of pixels with the same number; ``matched``: that share after the best one-to-one matching
        of segments (Hungarian); ``ari``: the adjusted Rand index, 1 for the same partition and 0 on average for random
        ones.
    """
    table = common(first, second)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return {
        "equal": float((first == second).mean()),
        "matched": float(table[rows, columns].sum() / first.size),
        "ari": ari(first, second),
    }


def ari(first: Labels, second: Labels) -> float:
    """Compute the adjusted Rand index of two label arrays of the same shape.

    It is symmetric, 1 for the same partition, and 0 on average for random ones.
    """
    return float(adjusted_rand_score(np.ravel(first), np.ravel(second)))


def matched_iou(first: Labels, second: Labels) -> float:
    """Compute the mean IoU under the best one-to-one matching of segments (Hungarian), in [0, 1].

    It is symmetric. Unmatched segments, of the side that has more, count with an IoU of 0.

    Args:
        first: Integers of at least 0, any shape.
        second: Integers of at least 0, of the same shape.
    """
    table = common(first, second)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    iou = table / (table.sum(axis=1, keepdims=True) + table.sum(axis=0) - table)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    return float(iou[rows, columns].sum() / max(iou.shape))


def boundary_f(first: Labels, second: Labels, tolerance: float = TOLERANCE) -> float:
    """Compute the F score of the boundaries of two label maps [H, W], in [0, 1].

    Boundary pixels within ``tolerance`` pixels of each other agree. The score is symmetric, 1 if neither map has a
    boundary, and 0 if only one has.
    """
    return boundary_scores(first, second, ignore=-1, tolerance=tolerance)[2]


def explains(first: Labels, second: Labels) -> float:
    """Compute the accuracy with which the first's segments can predict the second's, in (0, 1].

    Each segment of the first predicts the segment of the second with which it shares most pixels. The score is **not**
    symmetric: many small segments explain a few large ones, but hardly the other way round.

    Args:
        first: Integers of at least 0, any shape.
        second: Integers of at least 0, of the same shape.
    """
    return float(common(first, second).max(axis=1).sum() / first.size)


def common(first: Labels, second: Labels) -> npt.NDArray[np.int64]:
    """Count the pixels of each pair of labels: int64 [1 + largest of first, 1 + largest of second]."""
    assert first.shape == second.shape, (first.shape, second.shape)
    return overlaps(first, second, int(first.max()) + 1, int(second.max()) + 1)


def matched_colors(labels: npt.NDArray[np.int32], reference: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.uint8]:
    """Order the palette of ``n`` colors so that segments have the colors of those they match in another label map.

    Args:
        labels: int32 (H, W) in 0..n-1.
        reference: int32 (H, W) in 0..n-1, whose label k has the palette's color k.
        n: Number of colors.

    Returns:
        uint8 (n, 3): the color of each label, by the one-to-one matching with most pixels in common.
    """
    _, partners = linear_sum_assignment(overlaps(labels, reference, n, n), maximize=True)
    colors: npt.NDArray[np.uint8] = palette(n)[partners]
    return colors
