"""How much two segmentations of one image agree, whatever their segments are numbered."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from genseg.evaluation.metrics import Labels, overlaps


def agreement(first: Labels, second: Labels) -> dict[str, float]:
    """Agreement of two label arrays of one shape.

    Returns:
        ``equal``: the share of pixels with the same number; ``matched``: that share after the one-to-one matching of
        segments that makes it largest (Hungarian); ``ari``: the adjusted Rand index, 1 for the same partition and 0 on
        average for random ones.
    """
    assert first.shape == second.shape, (first.shape, second.shape)
    table = overlaps(first, second, int(first.max()) + 1, int(second.max()) + 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return {
        "equal": float((first == second).mean()),
        "matched": float(table[rows, columns].sum() / first.size),
        "ari": float(adjusted_rand_score(np.ravel(first), np.ravel(second))),
    }
