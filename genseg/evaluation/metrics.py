"""What the measures of segmentations against ground truth are made of; docs/protocols.md defines them.

Throughout: segments int [H, W] in 0..K-1; truth int [H, W] in 0..C-1, or `IGNORE` where nothing is measured.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Labels: TypeAlias = npt.NDArray[np.integer[Any]]

Floats: TypeAlias = npt.NDArray[np.float64]

IGNORE = -1

TOLERANCE = 2.0  # pixels that a boundary may be away and still count as found


def overlaps(first: Labels, second: Labels, n_first: int, n_second: int) -> npt.NDArray[np.int64]:
    """How many pixels have each pair of labels: int64 [n_first, n_second], of two label arrays of one shape."""
    pairs = first.ravel().astype(np.int64) * n_second + second.ravel()
    return np.bincount(pairs, minlength=n_first * n_second).reshape(n_first, n_second)


def contingency(first: Labels, second: Labels) -> tuple[Labels, Labels, npt.NDArray[np.int64]]:
    """What `overlaps` counts as a list of the pairs that occur: memory does not grow with labels times labels.

    Args:
        first: Integers of at least 0, any shape but an empty one.
        second: Likewise, of the same shape; `IGNORE` where nothing is counted.

    Returns:
        First label, second label and number of pixels of each pair that occurs: [P] each, in order of the labels.
    """
    from scipy.sparse import coo_array

    first, second = first.ravel(), second.ravel()
    starts = np.flatnonzero(np.append(True, (first[1:] != first[:-1]) | (second[1:] != second[:-1])))
    lengths = np.diff(starts, append=len(first))  # of runs, which are far fewer than pixels
    counted = second[starts] != IGNORE
    table = coo_array((lengths[counted], (first[starts][counted], second[starts][counted]))).tocsr().tocoo()
    return table.row, table.col, table.data


def mean_iou(hits: npt.NDArray[Any], true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> Floats:
    """Mean IoU over the classes whose union is not empty; NaN where there are none.

    Args:
        hits: [..., C], pixels of each class that are right.
        true: [..., C], those that are true.
        predicted: [..., C], those that are predicted.

    Returns:
        [...].
    """
    union = true + predicted - hits
    return ratio((hits / np.maximum(union, 1)).sum(axis=-1), (union > 0).sum(axis=-1))


def boundaries(labels: Labels, measured: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label, both being measured: bool [H, W]."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & measured[:, :-1] & measured[:, 1:]
    edge[:-1] |= (labels[:-1] != labels[1:]) & measured[:-1] & measured[1:]
    return edge


def boundary_scores(
    predicted: Labels, truth: Labels, ignore: int = IGNORE, tolerance: float = TOLERANCE
) -> tuple[float, float, float]:
    """Boundary precision, recall and F between two class maps [H, W].

    A boundary pixel is found if the other map has one within ``tolerance`` pixels (Euclidean). Where only one of
    the maps has any boundary all three are 0, where neither has they are 1, and without measured pixels NaN.
    """
    measured = truth != ignore
    if not measured.any():
        return np.nan, np.nan, np.nan
    found, true = boundaries(predicted, measured), boundaries(truth, measured)
    return precision_recall_f(found, true, near(true, tolerance), near(found, tolerance))


def near(edge: npt.NDArray[np.bool_], tolerance: float) -> npt.NDArray[np.bool_]:
    """Pixels within ``tolerance`` pixels (Euclidean) of a marked one: bool [H, W], the dilation with a disc.

    Row by row of the disc, each as wide as the circle there: far cheaper than all pixels' distances.
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
    found: npt.NDArray[np.bool_],
    true: npt.NDArray[np.bool_],
    near_true: npt.NDArray[np.bool_],
    near_found: npt.NDArray[np.bool_],
) -> tuple[float, float, float]:
    """Boundary precision, recall and their harmonic mean F, of two boundaries and what is `near` each: bool [H, W]."""
    n_found, n_true = np.count_nonzero(found), np.count_nonzero(true)
    if not n_found or not n_true:
        agree = float(n_found == n_true)
        return agree, agree, agree
    precision = float(np.count_nonzero(found & near_true) / n_found)
    recall = float(np.count_nonzero(true & near_found) / n_true)
    return precision, recall, 2 * precision * recall / max(precision + recall, np.finfo(float).tiny)


def covering(segments: Labels, truth: Labels) -> float:
    """Segmentation covering (Arbeláez et al., 2011): the mean over pixels of the best IoU of their true region.

    Args:
        segments: [H, W] in 0..n-1.
        truth: [H, W] in 0..R-1, or `IGNORE`, where pixels belong to no region and count in no segment's size.

    Returns:
        In (0, 1]; NaN without measured pixels.
    """
    if (truth == IGNORE).all():
        return np.nan
    parts, regions, common = contingency(segments, truth)
    sizes, part_sizes = np.bincount(regions, weights=common), np.bincount(parts, weights=common)
    best = np.zeros(len(sizes))
    np.maximum.at(best, regions, common / (sizes[regions] + part_sizes[parts] - common))
    return float((sizes * best).sum() / sizes.sum())


def interval(values: Floats) -> list[float]:
    """The central 95 % of bootstrapped values [D] that are not NaN: [low, high]; NaN if all are."""
    if np.isnan(values).all():
        return [np.nan, np.nan]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def ratio(part: Any, whole: Any) -> Floats:
    """Part / whole, of arrays of one shape; NaN where ``whole`` is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    quotient: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return quotient


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
