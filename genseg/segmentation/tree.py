"""The merge tree of an image's regions: nested segmentations, from the finest to the whole image."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NATURAL = 0.5  # height at which a tree is cut where nobody says how many segments there should be
NATURAL_DISTANCE = 0.4  # the distance of that height, found on BSDS500 (docs/granularity.md)


@dataclass(frozen=True, eq=False)
class Tree:
    """Nested merges of regions, where only regions that touch are merged.

    Attributes:
        merges: int64 (n - 1, 2): the two nodes that each merge joins. Nodes 0..n-1 are the regions, and n + i is the
            result of merge i, as in scikit-learn's ``children_``.
        heights: float64 (n - 1,): how far apart the two are, ascending, in [0, 1): d / (d + `NATURAL_DISTANCE`) for the
            distance d that `tree_of` gives.
    """

    merges: npt.NDArray[np.int64]
    heights: npt.NDArray[np.float64]

    @property
    def n_regions(self) -> int:
        """Number of regions, n."""
        return len(self.merges) + 1

    def number_at(self, height: float) -> int:
        """Number of groups that are left when all merges up to a height are made."""
        return int(np.count_nonzero(self.heights > height)) + 1

    def groups(self, n_groups: int) -> npt.NDArray[np.int32]:
        """Make merges until ``n_groups`` are left, from 1 to `n_regions`.

        Returns:
            int32 (n,): the group of each region; groups are numbered by their first region.
        """
        _, first_region, group = np.unique(self.nodes(n_groups), return_index=True, return_inverse=True)
        groups: npt.NDArray[np.int32] = first_region.argsort().argsort()[group].astype(np.int32)
        return groups

    def nodes(self, n_groups: int) -> npt.NDArray[np.int64]:
        """The node that each region belongs to when ``n_groups`` are left: int64 (n,)."""
        node = np.arange(2 * self.n_regions - 1)
        made = self.n_regions - n_groups
        for merge, (first, second) in reversed(list(enumerate(self.merges[:made].tolist(), start=self.n_regions))):
            node[[first, second]] = node[merge]  # from the last merge on, so that it is final
        return node[: self.n_regions]


def tree_of(
    regions: npt.NDArray[np.int32],
    embeddings: npt.NDArray[np.float32],
    contrast: npt.NDArray[np.float32],
    colors: npt.NDArray[np.int32],
) -> Tree:
    """Build the tree of an image's regions: each merge joins the two nearest of those that touch.

    The distance of two regions is a product: that of their embeddings; the mean contrast along their common border; the
    cube root of a b / (a + b), where a and b are their shares of the image, so that small ones are merged early; and
    the root of (0.1 + χ²) (1.1 - s), where χ² is that of their colors' histograms, and s the share of their outlines
    that they have in common (its geometric mean), so that what lies within another is merged early. An outline leaves
    out the image's frame.

    Args:
        regions: int32 (H, W) in 0..n-1, of which each has pixels and is connected.
        embeddings: float32 (n, C): one for each region; distances are in units of their standard deviation.
        contrast: float32 (H, W): how much each pixel looks like one on the border of two segments.
        colors: int32 (H, W), not negative: equal numbers for pixels of equal color.
    """
    n = len(embeddings)
    means, shares, outlines = np.zeros((2 * n - 1, embeddings.shape[1])), np.ones(2 * n - 1), np.zeros(2 * n - 1)
    deviations = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    means[:n] = deviations / max(np.linalg.norm(deviations.std(axis=0)), np.finfo(np.float32).tiny)
    shares[:n] = np.bincount(regions.ravel(), minlength=n) / regions.size
    borders = _borders(regions, n, contrast)
    outlines[:n] = [sum(length for length, _ in borders[region].values()) for region in range(n)]
    histograms = _histograms(regions, n, colors)
    heap: list[tuple[float, int, int]] = []

    def push(node: int) -> None:
        others = np.fromiter(borders[node], dtype=np.int64)
        lengths, sums = np.array(list(borders[node].values())).reshape(-1, 2).T
        size = np.cbrt(shares[node] * shares[others] / (shares[node] + shares[others]))
        common = lengths / np.sqrt(outlines[node] * outlines[others])
        unlike = np.sqrt((0.1 + _chi_squared(histograms[node], histograms[others])) * (1.1 - common))
        distances = size * unlike * np.linalg.norm(means[others] - means[node], axis=1) * sums / lengths
        for other, distance in zip(others.tolist(), distances.tolist(), strict=True):
            heapq.heappush(heap, (distance, other, node))

    for region in range(n):
        push(region)
    merges, distances = [], []
    for merge in range(n, 2 * n - 1):
        while True:
            distance, first, second = heapq.heappop(heap)
            if first in borders and second in borders:  # neither is a part of another node yet
                break
        outlines[merge] = outlines[first] + outlines[second] - 2 * borders[first][second][0]
        borders[merge] = {}
        for part in (first, second):
            for other, border in borders.pop(part).items():
                if other not in (first, second):
                    del borders[other][part]
                    borders[merge][other] = borders[merge].get(other, 0) + border
        for other, border in borders[merge].items():
            borders[other][merge] = border
        shares[merge] = shares[first] + shares[second]
        for values in (means, histograms):
            values[merge] = (shares[first] * values[first] + shares[second] * values[second]) / shares[merge]
        push(merge)
        merges.append((first, second))
        distances.append(distance)
    ascending = np.maximum.accumulate(np.array(distances))  # a merge may be nearer than an earlier one
    return Tree(np.array(merges, dtype=np.int64).reshape(-1, 2), ascending / (ascending + NATURAL_DISTANCE))


def _histograms(
    regions: npt.NDArray[np.int32], n_regions: int, colors: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """The share of each color that occurs in each region, and rows for merged ones: float32 (2 n - 1, colors)."""
    n_colors = int(colors.max()) + 1
    counts = np.bincount((regions * np.int64(n_colors) + colors).ravel(), minlength=n_regions * n_colors)
    counts = counts.reshape(n_regions, n_colors)
    counts = counts[:, counts.any(axis=0)]
    histograms = np.zeros((2 * n_regions - 1, counts.shape[1]), dtype=np.float32)
    histograms[:n_regions] = counts / counts.sum(axis=1, keepdims=True)
    return histograms


def _chi_squared(histogram: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The χ² distance, in [0, 1], of a histogram (B,) to others (m, B): float32 (m,)."""
    sums = histogram + others
    squares = np.square(histogram - others)
    distances: npt.NDArray[np.float32] = np.divide(squares, sums, out=squares, where=sums > 0).sum(axis=1) / 2
    return distances


def _borders(
    regions: npt.NDArray[np.int32], n_regions: int, contrast: npt.NDArray[np.float32]
) -> dict[int, dict[int, npt.NDArray[np.float64]]]:
    """The neighbors of each region, and the border with each: its length in sides of pixels, and summed contrast."""
    pairs, sums = [], []
    for before, after in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        borders = regions[before] != regions[after]
        pairs.append(np.stack([regions[before][borders], regions[after][borders]]))
        sums.append(np.maximum(contrast[before], contrast[after])[borders])
    ends, border = np.unique(np.sort(np.concatenate(pairs, axis=1), axis=0), axis=1, return_inverse=True)
    lengths = np.stack([np.bincount(border.ravel()), np.bincount(border.ravel(), np.concatenate(sums))], axis=1)
    borders_of: dict[int, dict[int, npt.NDArray[np.float64]]] = {region: {} for region in range(n_regions)}
    for (first, second), measures in zip(ends.T.tolist(), lengths, strict=True):
        borders_of[first][second] = borders_of[second][first] = measures
    return borders_of
