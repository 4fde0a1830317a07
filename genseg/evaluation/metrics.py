"""Metrics of segmentations against ground truth, defined in docs/protocols.md.

Segments are int [H, W] in 0..K-1. Ground truth is int [H, W] in 0..C-1, or `IGNORE` in pixels that are not measured.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Labels: TypeAlias = npt.NDArray[np.integer[Any]]

Floats: TypeAlias = npt.NDArray[np.float64]

IGNORE = -1

TOLERANCE = 2.0  # pixels by which a boundary may be off


def overlaps(first: Labels, second: Labels, n_first: int, n_second: int) -> npt.NDArray[np.int64]:
    """Count the pixels of each pair of labels, of two arrays of the same shape: int64 [n_first, n_second]."""
    pairs = first.ravel().astype(np.int64) * n_second + second.ravel()
    return np.bincount(pairs, minlength=n_first * n_second).reshape(n_first, n_second)


def contingency(first: Labels, second: Labels) -> tuple[Labels, Labels, npt.NDArray[np.int64]]:
    """List the pairs of labels that `overlaps` counts and that occur, which needs memory for these only.

    Args:
        first: Integers of at least 0, any shape but an empty one.
        second: Integers of at least 0, of the same shape; `IGNORE` in pixels that are not counted.

    Returns:
        First label, second label and number of pixels of each pair: three arrays [P], sorted by label.
    """
    from scipy.sparse import coo_array

    first, second = first.ravel(), second.ravel()
    starts = np.flatnonzero(np.append(True, (first[1:] != first[:-1]) | (second[1:] != second[:-1])))
    lengths = np.diff(starts, append=len(first))  # of runs, which are far fewer than pixels
    counted = second[starts] != IGNORE
    table = coo_array((lengths[counted], (first[starts][counted], second[starts][counted]))).tocsr().tocoo()
    return table.row, table.col, table.data


def mean_iou(hits: npt.NDArray[Any], true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> Floats:
    """Compute the mean IoU over classes whose union is not empty.

    Args:
        hits: [..., C], correct pixels of each class.
        true: [..., C], pixels of each class in the ground truth.
        predicted: [..., C], predicted pixels of each class.

    Returns:
        float64 [...] in [0, 1]; NaN where all unions are empty.
    """
    union = true + predicted - hits
    return ratio((hits / np.maximum(union, 1)).sum(axis=-1), (union > 0).sum(axis=-1))


def boundaries(labels: Labels, measured: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mark measured pixels whose right or lower neighbor is measured and has another label: bool [H, W]."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & measured[:, :-1] & measured[:, 1:]
    edge[:-1] |= (labels[:-1] != labels[1:]) & measured[:-1] & measured[1:]
    return edge


def boundary_scores(
    predicted: Labels, truth: Labels, ignore: int = IGNORE, tolerance: float = TOLERANCE
) -> tuple[float, float, float]:
    """Compute boundary precision, recall and F between two class maps [H, W].

    A boundary pixel is correct if the other map has one within ``tolerance`` pixels (Euclidean). All three are 0 if
    only one map has a boundary, 1 if neither has, and NaN without measured pixels.
    """
    measured = truth != ignore
    if not measured.any():
        return np.nan, np.nan, np.nan
    edge, true_edge = boundaries(predicted, measured), boundaries(truth, measured)
    return precision_recall_f(edge, true_edge, near(true_edge, tolerance), near(edge, tolerance))


def near(edge: npt.NDArray[np.bool_], tolerance: float) -> npt.NDArray[np.bool_]:
    """Dilate marked pixels by a disc of radius ``tolerance`` (Euclidean, in pixels): bool [H, W].

    It dilates by each row of the disc in turn, which is far cheaper than a distance transform.
    """
    reach = int(tolerance)
    half_widths = [int((tolerance**2 - dy**2) ** 0.5) for dy in range(reach + 1)]
    wide, out = edge.copy(), np.zeros_like(edge)
    for dx in range(reach + 1):
        if dx > 0:
            wide[:, dx:] |= edge[:, :-dx]
            wide[:, :-dx] |= edge[:, dx:]
        for dy in (dy for dy, half_width in enumerate(half_widths) if half_width == dx):
            out[dy:] |= wide[: -dy or None]
            out[: -dy or None] |= wide[dy:]
    return out


def precision_recall_f(
    predicted: npt.NDArray[np.bool_],
    true: npt.NDArray[np.bool_],
    near_true: npt.NDArray[np.bool_],
    near_predicted: npt.NDArray[np.bool_],
) -> tuple[float, float, float]:
    """Compute boundary precision, recall and their harmonic mean F.

    Args:
        predicted: bool [H, W], the predicted boundary.
        true: bool [H, W], the boundary of the ground truth.
        near_true: bool [H, W], pixels `near` the true boundary.
        near_predicted: bool [H, W], pixels `near` the predicted boundary.
    """
    n_predicted, n_true = np.count_nonzero(predicted), np.count_nonzero(true)
    if not n_predicted or not n_true:
        agree = float(n_predicted == n_true)
        return agree, agree, agree
    precision = float(np.count_nonzero(predicted & near_true) / n_predicted)
    recall = float(np.count_nonzero(true & near_predicted) / n_true)
    return precision, recall, 2 * precision * recall / max(precision + recall, np.finfo(float).tiny)


def covering(segments: Labels, truth: Labels) -> float:
    """Compute segmentation covering (Arbeláez et al., 2011): the mean over pixels of the best IoU of their true region.

    Args:
        segments: [H, W] in 0..n-1.
        truth: [H, W] in 0..R-1, or `IGNORE` in pixels that count neither in regions nor in segments.

    Returns:
        A number in (0, 1]; NaN without measured pixels.
    """
    if (truth == IGNORE).all():
        return np.nan
    parts, regions, common = contingency(segments, truth)
    sizes, part_sizes = np.bincount(regions, weights=common), np.bincount(parts, weights=common)
    best = np.zeros(len(sizes))
    np.maximum.at(best, regions, common / (sizes[regions] + part_sizes[parts] - common))
    return float((sizes * best).sum() / sizes.sum())


def interval(values: Floats) -> list[float]:
    """Compute the central 95 % interval [low, high] of bootstrapped values [D], without NaN; NaN if all are NaN."""
    if np.isnan(values).all():
        return [np.nan, np.nan]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def ratio(part: Any, whole: Any) -> Floats:
    """Divide arrays of the same shape; NaN where ``whole`` is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    quotient: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return quotient


def rand_index(table: npt.NDArray[np.int64]) -> float:
    """Compute the Rand index in [0, 1]: the share of pixel pairs that both partitions join or both separate.

    Its mean over annotators is the probabilistic Rand index of Unnikrishnan, Pantofaru and Hebert (PAMI 2007), whose
    p_ij is the share of annotators that join pixels i and j. It is NaN for fewer than two pixels.

    Args:
        table: int64 [K, R], the pixels of each pair of labels.
    """
    joined, first, second, pairs = _pairs(table)
    return 1 - (first + second - 2 * joined) / pairs if pairs else np.nan


def adjusted_rand_index(table: npt.NDArray[np.int64]) -> float:
    """Compute the adjusted Rand index (Hubert and Arabie, 1985).

    It is 1 for the same partition, 0 on average for random ones, and NaN for fewer than two pixels.

    Args:
        table: int64 [K, R], the pixels of each pair of labels.
    """
    joined, first, second, pairs = _pairs(table)
    if not pairs:
        return np.nan
    expected, largest = first * second / pairs, (first + second) / 2
    return (joined - expected) / (largest - expected) if largest != expected else 1.0


def variation_of_information(table: npt.NDArray[np.int64]) -> float:
    """Compute the variation of information (Meilă, 2007, eq. 15) in bits: H(S|R) + H(R|S) = 2 H(S, R) − H(S) − H(R).

    It is 0 for the same partition, larger for worse ones, and NaN without pixels.

    Args:
        table: int64 [K, R], the pixels of each pair of labels.
    """
    if not table.any():
        return np.nan
    both, first, second = (_entropy(counts) for counts in (table.ravel(), table.sum(axis=1), table.sum(axis=0)))
    return max(0.0, 2 * both - first - second)


def _pairs(table: npt.NDArray[np.int64]) -> tuple[float, float, float, float]:
    """Count the pixel pairs joined by both partitions, by the first, by the second, and all pairs."""

    def pairs(counts: npt.NDArray[Any]) -> float:
        counts = counts.astype(np.float64)
        return float((counts * (counts - 1) / 2).sum())

    return pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0)), pairs(table.sum())


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
