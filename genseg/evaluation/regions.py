"""Measures of two partitions of the same pixels, whatever their parts are numbered or called.

All follow from the contingency table: int [K, R], how many pixels each segment shares with each true region.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def rand_index(table: npt.NDArray[np.int64]) -> float:
    """The Rand index in [0, 1]: the share of pixel pairs that both partitions join or both separate.

    Its mean over annotators is the probabilistic Rand index of Unnikrishnan, Pantofaru and Hebert (PAMI 2007), whose
    p_ij is the share of annotators that join pixels i and j. NaN below two pixels.
    """
    joined, first, second, pairs = _pairs(table)
    return 1 - (first + second - 2 * joined) / pairs if pairs else np.nan


def adjusted_rand_index(table: npt.NDArray[np.int64]) -> float:
    """The adjusted Rand index (Hubert and Arabie, 1985): 1 for the same partition, 0 on average for random ones.

    NaN below two pixels.
    """
    joined, first, second, pairs = _pairs(table)
    if not pairs:
        return np.nan
    expected, largest = first * second / pairs, (first + second) / 2
    return (joined - expected) / (largest - expected) if largest != expected else 1.0


def variation_of_information(table: npt.NDArray[np.int64]) -> float:
    """The variation of information (Meilă, 2007, eq. 15) in bits: H(S|R) + H(R|S) = 2 H(S, R) − H(S) − H(R).

    0 for the same partition, larger for worse ones. NaN without pixels.
    """
    if not table.any():
        return np.nan
    both, first, second = (_entropy(counts) for counts in (table.ravel(), table.sum(axis=1), table.sum(axis=0)))
    return max(0.0, 2 * both - first - second)


def _pairs(table: npt.NDArray[np.int64]) -> tuple[float, float, float, float]:
    """Pixel pairs joined by both partitions, by the first, by the second, and all pairs."""

    def pairs(counts: npt.NDArray[Any]) -> float:
        counts = counts.astype(np.float64)
        return float((counts * (counts - 1) / 2).sum())

    return pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0)), pairs(table.sum())


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
