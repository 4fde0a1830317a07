"""The merge tree of an image's regions: nested segmentations, from the finest to the whole image."""

from __future__ import annotations

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
        node = np.arange(2 * self.n_regions - 1)
        made = self.n_regions - n_groups
        for merge, (first, second) in reversed(list(enumerate(self.merges[:made].tolist(), start=self.n_regions))):
            node[[first, second]] = node[merge]  # from the last merge on, so that it is final
        _, first_region, group = np.unique(node[: self.n_regions], return_index=True, return_inverse=True)
        groups: npt.NDArray[np.int32] = first_region.argsort().argsort()[group].astype(np.int32)
        return groups


def tree_of(regions: npt.NDArray[np.int32], embeddings: npt.NDArray[np.float32]) -> Tree:
    """Build the tree of the regions of an image or of a grid.

    Args:
        regions: int32 (H, W) in 0..n-1, of which each has pixels and is connected.
        embeddings: float32 (n, C): one for each region.
    """
    from scipy.sparse import coo_array
    from sklearn.cluster import AgglomerativeClustering

    n_regions = len(embeddings)
    if n_regions == 1:
        return Tree(np.empty((0, 2), dtype=np.int64), np.empty(0))
    before = np.concatenate([regions[:, :-1].ravel(), regions[:-1].ravel()])
    after = np.concatenate([regions[:, 1:].ravel(), regions[1:].ravel()])
    pairs = np.unique(np.stack([before, after])[:, before != after], axis=1)
    touching = coo_array((np.ones(pairs.shape[1]), pairs), shape=(n_regions, n_regions)).tocsr()
    fitted = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0, linkage="ward", connectivity=touching + touching.T
    ).fit(embeddings)
    heights = np.maximum.accumulate(fitted.distances_)  # a merge along a border may be below an earlier one
    return Tree(fitted.children_.astype(np.int64), heights / max(heights[-1], np.finfo(float).tiny))
