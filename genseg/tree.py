"""The merge tree of an image's regions: nested segmentations, from the finest to the whole image."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NATURAL = 0.45  # height at which a tree is cut where nobody says how many segments there should be


@dataclass(frozen=True, eq=False)
class Tree:
    """Nested merges of regions, in Ward's linkage, where only regions that touch are merged.

    Attributes:
        merges: int64 (n - 1, 2): the two nodes that each merge joins. Nodes 0..n-1 are the regions, and n + i is the
            result of merge i, as in scikit-learn's ``children_``.
        heights: float64 (n - 1,): Ward's distance of each merge as a part of the largest: ascending, in [0, 1].
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


def tree_of(regions: npt.NDArray[np.int32], embeddings: npt.NDArray[np.float32]) -> Tree:
    """Build the tree of the regions of an image or of a grid.

    The merges are those of scikit-learn's ``AgglomerativeClustering`` with the regions that touch as ``connectivity``,
    whose import takes longer than all else of a first photo.

    Args:
        regions: int32 (H, W) in 0..n-1, of which each has pixels and is connected.
        embeddings: float32 (n, C): one for each region.
    """
    n = len(embeddings)
    means, sizes = np.zeros((2 * n - 1, embeddings.shape[1])), np.ones(2 * n - 1)
    means[:n] = embeddings
    touching = _touching(regions, n)
    heap = [
        entry
        for region in range(n)
        for entry in _distances(region, touching[region], means, sizes)
        if entry[1] < region
    ]
    heapq.heapify(heap)
    merges, heights = [], []
    for merge in range(n, 2 * n - 1):
        while True:
            distance, first, second = heapq.heappop(heap)
            if first in touching and second in touching:  # neither is a part of another node yet
                break
        joined = touching.pop(first) | touching.pop(second)
        touching[merge] = joined - {first, second}
        for other in touching[merge]:
            touching[other] -= {first, second}
            touching[other].add(merge)
        sizes[merge] = sizes[first] + sizes[second]
        means[merge] = (sizes[first] * means[first] + sizes[second] * means[second]) / sizes[merge]
        for entry in _distances(merge, touching[merge], means, sizes):
            heapq.heappush(heap, entry)
        merges.append((first, second))
        heights.append(distance)
    ascending = np.maximum.accumulate(np.array(heights))  # a merge along a border may be below an earlier one
    largest = max(ascending[-1], np.finfo(float).tiny) if n > 1 else 1.0
    return Tree(np.array(merges, dtype=np.int64).reshape(-1, 2), ascending / largest)


def _touching(regions: npt.NDArray[np.int32], n_regions: int) -> dict[int, set[int]]:
    """The regions that touch each region along a side of a pixel."""
    before = np.concatenate([regions[:, :-1].ravel(), regions[:-1].ravel()])
    after = np.concatenate([regions[:, 1:].ravel(), regions[1:].ravel()])
    touching: dict[int, set[int]] = {region: set() for region in range(n_regions)}
    for first, second in np.unique(np.stack([before, after])[:, before != after], axis=1).T.tolist():
        touching[first].add(second)
        touching[second].add(first)
    return touching


def _distances(
    node: int, others: set[int], means: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> list[tuple[float, int, int]]:
    """Ward's distance of a node to others, each with the two nodes."""
    which = np.array(sorted(others), dtype=np.int64)
    weight = 2 * sizes[node] * sizes[which] / (sizes[node] + sizes[which])
    distances = np.sqrt(weight * np.square(means[which] - means[node]).sum(axis=1))
    return [(distance, other, node) for distance, other in zip(distances.tolist(), which.tolist(), strict=True)]
