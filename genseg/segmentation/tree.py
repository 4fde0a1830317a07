"""The merge tree of an image's regions: nested segmentations, from the finest to the whole image."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NATURAL = 0.5  # height at which a tree is cut where nobody says how many segments there should be
NATURAL_DISTANCE = 0.35  # the distance of that height, found on BSDS500 (docs/granularity.md)


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
) -> Tree:
    """Build the tree of an image's regions: each merge joins the two nearest of those that touch.

    The distance of two regions is that of their embeddings, times the mean contrast along their common border, times
    the fourth root of a b / (a + b), where a and b are their shares of the image, so that small ones are merged early.

    Args:
        regions: int32 (H, W) in 0..n-1, of which each has pixels and is connected.
        embeddings: float32 (n, C): one for each region; distances are in units of their standard deviation.
        contrast: float32 (H, W): how much each pixel looks like one on the border of two segments.
    """
    n = len(embeddings)
    means, shares = np.zeros((2 * n - 1, embeddings.shape[1])), np.ones(2 * n - 1)
    deviations = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    means[:n] = deviations / max(np.linalg.norm(deviations.std(axis=0)), np.finfo(np.float32).tiny)
    shares[:n] = np.bincount(regions.ravel(), minlength=n) / regions.size
    borders = _borders(regions, n, contrast)
    heap: list[tuple[float, int, int]] = []

    def push(node: int) -> None:
        others = np.fromiter(borders[node], dtype=np.int64)
        lengths, sums = np.array(list(borders[node].values())).reshape(-1, 2).T
        size = (shares[node] * shares[others] / (shares[node] + shares[others])) ** 0.25
        distances = size * np.linalg.norm(means[others] - means[node], axis=1) * sums / lengths
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
        borders[merge] = {}
        for part in (first, second):
            for other, border in borders.pop(part).items():
                if other not in (first, second):
                    del borders[other][part]
                    borders[merge][other] = borders[merge].get(other, 0) + border
        for other, border in borders[merge].items():
            borders[other][merge] = border
        shares[merge] = shares[first] + shares[second]
        means[merge] = (shares[first] * means[first] + shares[second] * means[second]) / shares[merge]
        push(merge)
        merges.append((first, second))
        distances.append(distance)
    ascending = np.maximum.accumulate(np.array(distances))  # a merge may be nearer than an earlier one
    return Tree(np.array(merges, dtype=np.int64).reshape(-1, 2), ascending / (ascending + NATURAL_DISTANCE))


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
