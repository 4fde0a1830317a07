"""Metrics of regions and boundaries as the Berkeley benchmark defines them (Arbeláez et al., PAMI 2011), and DAVIS' F.

They need no classes: boundaries are those of the segments. Counts are summed over annotators and images and divided in
the end, where other metrics are means over both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.evaluation.metrics import Floats, Labels, covering, near, precision_recall_f, ratio
from genseg.parts import components
from genseg.segmentation.tree import Tree

DIAGONAL = 0.0075  # largest distance of matched pixels, by the image's diagonal
OUTLIER = 100  # cost of an unmatched pixel, by that distance
DAVIS_DIAGONAL = 0.008  # the distance of DAVIS, by the image's diagonal, rounded up to whole pixels
HEADINGS = {
    "berkeley_f": "boundary F (Berkeley)", "berkeley_ods": "boundary ODS", "berkeley_ois": "boundary OIS",
    "berkeley_covering": "covering (Berkeley)", "berkeley_covering_ods": "covering ODS",
    "berkeley_covering_ois": "covering OIS",
}  # fmt: skip
HEIGHTS = tuple(round(0.05 * step, 2) for step in range(1, 20))  # at which merge trees are cut, as UCMs at thresholds


def boundary_map(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark pixels that differ from their right, lower or lower right neighbor: bool [H, W].

    It is the benchmark's ``seg2bdry`` at the size of the image, and DAVIS' ``seg2bmap``. The right neighbor of the
    pixels in the last row differs, or the lower one of those in the last column; the last pixel is never marked.
    """
    edge = np.zeros(labels.shape, dtype=bool)
    right, below = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    edge[:, :-1] = right
    edge[:-1] |= below
    edge[:-1, :-1] |= right[1:] | below[:, 1:]
    return edge


def thinned(edge: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Thin a boundary map to lines of one pixel (Guo and Hall, 1989, as MATLAB's ``bwmorph`` does): bool [H, W]."""
    from skimage.morphology import thin

    lines: npt.NDArray[np.bool_] = thin(edge)
    return lines


def match_pixels(
    predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_], reach: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Match the pixels of two boundary maps one to one.

    The matching is the exact optimum of the cost that the benchmark's ``correspondPixels`` has: the distance of matched
    pixels, in hundredths of a pixel, and 100 times ``reach`` for unmatched ones. It has as many pairs as possible,
    unless one more pair would lengthen others by more than that. The benchmark's solver (CSA) draws six edges at random
    for each pixel that may stay unmatched, and so misses one pair in some two thousand.

    Args:
        predicted: bool [H, W].
        true: bool [H, W].
        reach: Largest distance of matched pixels (Euclidean, in pixels).

    Returns:
        A pair of bool [H, W]: the predicted and the true pixels that are matched.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching
    from scipy.spatial import KDTree

    hits = np.zeros_like(predicted), np.zeros_like(true)
    first, second = np.argwhere(predicted), np.argwhere(true)
    if not len(first) or not len(second):
        return hits
    pairs = KDTree(first).sparse_distance_matrix(KDTree(second), reach, output_type="ndarray")
    if not len(pairs):
        return hits
    first_points, i = np.unique(pairs["i"], return_inverse=True)
    second_points, j = np.unique(pairs["j"], return_inverse=True)
    n, m = len(first_points), len(second_points)
    # Each pixel has a double on the other side, which it is matched with to stay unmatched; the doubles of two pixels
    # that are matched match each other. Weights are 1 more than their cost, since 0 would be no edge.
    rows = np.concatenate([i, np.arange(n + m), n + j])
    columns = np.concatenate([j, m + np.arange(n), np.arange(m), m + i])
    unmatched = np.ceil(100 * OUTLIER * reach) / 2
    weights = 1 + np.concatenate([np.rint(100 * pairs["v"]), np.full(n + m, unmatched), np.zeros(len(pairs))])
    graph = csr_array((weights, (rows, columns)), shape=(n + m, n + m))
    rows, columns = min_weight_full_bipartite_matching(graph)
    matched = (rows < n) & (columns < m)
    hits[0][tuple(first[first_points[rows[matched]]].T)] = True
    hits[1][tuple(second[second_points[columns[matched]]].T)] = True
    return hits


def boundary_counts(predicted: npt.NDArray[np.bool_], truths: Sequence[npt.NDArray[np.bool_]]) -> Floats:
    """Match a boundary map with those of all annotators, as the benchmark's ``evaluation_bdry_image`` does.

    Args:
        predicted: bool [H, W], `thinned`.
        truths: bool [H, W] of each annotator, `thinned`.

    Returns:
        float64 [4]: true pixels that are matched, and true pixels, summed over annotators; predicted pixels that are
        matched with any annotator's, and predicted pixels.
    """
    reach = DIAGONAL * float(np.hypot(*predicted.shape))
    matched, counts = np.zeros_like(predicted), np.zeros(4)
    for true in truths:
        hits, true_hits = match_pixels(predicted, true, reach)
        matched |= hits
        counts[:2] += np.count_nonzero(true_hits), np.count_nonzero(true)
    counts[2:] = np.count_nonzero(matched), np.count_nonzero(predicted)
    return counts


def covering_counts(segments: Labels, truths: Sequence[Labels]) -> Floats:
    """Sum the area of all annotators' regions, weighted by each one's best IoU and not weighted: float64 [2].

    Segments are labels as they are, not their connected parts.
    """
    return np.array([sum(covering(segments, truth) for truth in truths) * segments.size, segments.size * len(truths)])


def boundary_scores(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Compute precision, recall and F of `boundary_counts` [4, ...]; 0 where nothing is matched.

    Returns:
        Three arrays [...] in [0, 1].
    """
    recall, precision = (np.nan_to_num(ratio(counts[k], counts[k + 1])) for k in (0, 2))
    return precision, recall, f_measure(precision, recall)


def f_measure(precision: Any, recall: Any) -> Floats:
    """Compute the harmonic mean, 0 where both are 0."""
    return np.nan_to_num(ratio(2 * precision * recall, precision + recall))


def best_scale(counts: Floats) -> Floats:
    """Compute the best F over scales, of precision and recall interpolated between neighboring scales (``maxF``).

    Args:
        counts: Counts of the whole dataset at each scale: float64 [T, 4, ...].

    Returns:
        float64 [...]: F at the optimal dataset scale (ODS).
    """
    precision, recall, at_scales = boundary_scores(np.moveaxis(counts, 1, 0))
    share = np.linspace(0, 1, 100).reshape(-1, *[1] * precision.ndim)
    between = f_measure(
        precision[1:] * share + precision[:-1] * (1 - share), recall[1:] * share + recall[:-1] * (1 - share)
    )
    best: Floats = np.maximum(at_scales.max(axis=0), between.max(axis=(0, 1), initial=0))
    return best


def counts_at_scales(
    segments: Labels, tree: Tree | None, regions: Sequence[Labels], boundaries: Sequence[npt.NDArray[np.bool_]]
) -> Floats:
    """Count for the segments as they are, and for the cuts of their merge tree at each of `HEIGHTS`.

    Args:
        segments: int [H, W].
        tree: The merge tree of their connected parts; None without a tree.
        regions: int [H, W], the regions of each annotator.
        boundaries: bool [H, W], their `thinned` boundaries.

    Returns:
        float64 [1 + len(HEIGHTS), 6]: `boundary_counts` and `covering_counts`; NaN at all heights without a tree.
    """

    def counted(labels: Labels) -> Floats:
        lines = thinned(boundary_map(labels))
        return np.concatenate([boundary_counts(lines, boundaries), covering_counts(labels, regions)])

    rows = [counted(segments)]
    if tree is None:
        return np.concatenate([rows, np.full((len(HEIGHTS), 6), np.nan)])
    parts, number, row = components(segments), 0, rows[0]
    for height in HEIGHTS:
        if tree.number_at(height) != number:
            number = tree.number_at(height)
            row = counted(tree.groups(number)[parts])
        rows.append(row)
    return np.stack(rows)


class BerkeleyTotals:
    """Counts of `counts_at_scales`, summed over images, in the dataset and in each resample.

    Args:
        draws: Number of resamples.
    """

    NAMES = (
        "berkeley_precision", "berkeley_recall", "berkeley_f", "berkeley_ods", "berkeley_ois",
        "berkeley_covering", "berkeley_covering_ods", "berkeley_covering_ois",
    )  # fmt: skip

    def __init__(self, draws: int) -> None:
        self._scales = np.zeros((1 + len(HEIGHTS), 6, 1 + draws))
        self._best = np.zeros((6, 1 + draws))  # of each image at the height that is best for it

    def add(self, counts: Floats, weights: npt.NDArray[np.int64]) -> None:
        """Add an image's counts, int64 [1 + draws] times."""
        self._scales += counts[..., None] * weights
        cuts = counts[1:]
        best = cuts[boundary_scores(cuts.T)[2].argmax(), :4], cuts[ratio(cuts[:, 4], cuts[:, 5]).argmax(), 4:]
        self._best += np.concatenate(best)[:, None] * weights

    def values(self, name: str) -> Floats:
        """Return one of `NAMES` in the dataset and in each resample: float64 [1 + draws]; NaN if an image has no tree.

        ODS is the best F, or covering, at one height for all images, and OIS that at each image's best height.
        """
        whole, cuts = self._scales[0], self._scales[1:]
        if name.endswith(("_ods", "_ois")) and np.isnan(cuts).any():
            return np.full(whole.shape[1], np.nan)
        if name == "berkeley_ods":
            return best_scale(cuts[:, :4])
        if name == "berkeley_covering_ods":
            best: Floats = ratio(cuts[:, 4], cuts[:, 5]).max(axis=0)
            return best
        counts = self._best if name.endswith("_ois") else whole
        if name.startswith("berkeley_covering"):
            return ratio(*counts[4:])
        precision, recall, f = boundary_scores(counts[:4])
        return {"berkeley_precision": precision, "berkeley_recall": recall}.get(name, f)


def davis_f(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Compute DAVIS' boundary F of a mask (Perazzi et al., CVPR 2016; ``db_eval_boundary``).

    Boundary pixels are correct if the other mask has one within 0.8 % of the diagonal, rounded up to whole pixels; any
    number may be near the same one, and nothing is thinned.

    Args:
        predicted: bool [H, W].
        true: bool [H, W].

    Returns:
        F in [0, 1]: 1 if neither mask has a boundary, 0 if only one has.
    """
    reach = float(np.ceil(DAVIS_DIAGONAL * np.hypot(*true.shape)))
    edge, true_edge = boundary_map(predicted), boundary_map(true)
    return precision_recall_f(edge, true_edge, near(true_edge, reach), near(edge, reach))[2]
