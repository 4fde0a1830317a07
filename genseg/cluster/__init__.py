"""Cluster features into low-resolution masks, by k-means over the grid's positions (EmerDiff, section 3.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genseg.cluster.kmeans import kmeans
from genseg.errors import GensegError
from genseg.recipe import Recipe

AUTO_CLUSTERS = 25  # number of k-means clusters that n_clusters="auto" merges

NEGLIGIBLE = 0.025  # a merger may raise the variance within clusters by this share of the features' variance


def cluster(features: Tensor, recipe: Recipe) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Cluster the positions of a feature map.

    Args:
        features: float32 [C, h, w], raw: not normalised.
        recipe: Gives `n_clusters`, `n_init`, `kmeans_seed` and `position`.

    Returns:
        A pair: grid_labels, int32 [h, w] in 0..K-1, and embeddings, float32 [K, C], the mean feature of each cluster.

    Raises:
        GensegError: If K exceeds the number of positions, or the features are not finite.
    """
    channels, height, width = features.shape
    if not features.isfinite().all():
        raise GensegError("the model's features are not finite; try dtype='float32'")
    # On a GPU the clusters are found there; other accelerators lack float64.
    points = with_positions(features if features.is_cuda else features.cpu(), recipe.position)
    auto = recipe.n_clusters == "auto"
    n_clusters = min(AUTO_CLUSTERS, len(points)) if auto else int(recipe.n_clusters)
    if n_clusters > len(points):
        raise GensegError(
            f"n_clusters={n_clusters} exceeds the {height}x{width} = {len(points)} positions of the feature map; "
            "choose a smaller n_clusters"
        )
    best = kmeans(points, n_clusters, recipe.n_init, recipe.kmeans_seed)
    labels, centers = best.labels.cpu().numpy(), best.centers[:, :channels].cpu().numpy()
    if auto:
        present, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)  # some may be empty
        centers = centers[present]
        total = float(points[:, :channels].var(dim=0, correction=0).sum()) * len(points)
        groups = merged(labels, centers, total)
        members = (groups == np.arange(groups.max() + 1)[:, None]) * sizes
        labels, centers = groups[labels], members @ centers / members.sum(axis=1, keepdims=True)
    return labels.reshape(height, width).astype(np.int32), centers.astype(np.float32)


def with_positions(features: Tensor, weight: float) -> Tensor:
    """Flatten a feature map to points, with their positions as two further features if ``weight`` is above 0.

    Args:
        features: float32 [C, h, w].
        weight: The recipe's `position`; 0 for features alone.

    Returns:
        float32 [h·w, C], or [h·w, C + 2] with row and column. Both have the same scale, such that their total
        standard deviation is ``weight`` times that of the features.
    """
    _, height, width = features.shape
    points = features.flatten(start_dim=1).T.contiguous()
    if weight == 0:
        return points
    places = torch.cartesian_prod(torch.arange(float(height)), torch.arange(float(width))).to(points)
    places -= places.mean(dim=0)
    spread = places.var(dim=0, correction=0).sum()
    places *= weight * (points.var(dim=0, correction=0).sum() / spread.clamp(min=1e-6)).sqrt()
    return torch.cat([points, places], dim=1)


def masks_of(grid_labels: npt.NDArray[np.int32], n_clusters: int) -> Tensor:
    """One-hot masks of the clusters: float32 [K, h, w] in {0, 1}."""
    return torch.nn.functional.one_hot(torch.from_numpy(grid_labels).long(), n_clusters).permute(2, 0, 1).float()


def merged(labels: npt.NDArray[np.integer], centers: npt.NDArray[np.float32], total: float) -> npt.NDArray[np.int32]:
    """Merge clusters into a natural number of segments.

    The two clusters whose merger adds least to the variance within clusters are merged (Ward's criterion), as long as
    that is at most `NEGLIGIBLE` of the total and more than two are left.

    Args:
        labels: Integers [N] in 0..K-1: the cluster of each point.
        centers: float32 [K, C]: the mean feature of each cluster.
        total: Sum of the points' squared distances to their mean.

    Returns:
        int32 [K]: the segment of each cluster.
    """
    segments, means = np.arange(len(centers)), centers.astype(np.float64)
    sizes = np.bincount(labels, minlength=len(centers)).astype(np.float64)
    while len(means) > 2:
        costs = np.square(means[:, None] - means).sum(axis=2) * sizes[:, None] * sizes / (sizes[:, None] + sizes)
        costs[np.tril_indices(len(means))] = np.inf
        first, second = np.unravel_index(costs.argmin(), costs.shape)
        if costs[first, second] > NEGLIGIBLE * total:
            break
        means[first] = np.average(means[[first, second]], axis=0, weights=sizes[[first, second]])
        sizes[first] += sizes[second]
        segments[segments == second] = first
        segments[segments > second] -= 1
        means, sizes = np.delete(means, second, axis=0), np.delete(sizes, second)
    return segments.astype(np.int32)


def merge_groups(
    embeddings: npt.NDArray[np.float32], present: npt.NDArray[np.integer], n_groups: int
) -> npt.NDArray[np.int32]:
    """Cut the merge tree of labels (Ward linkage) into groups.

    Args:
        embeddings: float32 [K, C], one for each label.
        present: The labels in the tree, those that pixels have.
        n_groups: From 1 to the number of these.

    Returns:
        int32 [K], the group of each label; groups are numbered by their smallest label in the tree. A label that is not
        in the tree has the group of the nearest one that is.
    """
    tree: npt.NDArray[np.integer] = np.zeros(1, dtype=np.int32)
    if len(present) > 1:
        from sklearn.cluster import AgglomerativeClustering

        tree = AgglomerativeClustering(n_groups, linkage="ward").fit(embeddings[present]).labels_
    _, first = np.unique(tree, return_index=True)
    tree = first.argsort().argsort()[tree]  # the rank of each group's first label is its number
    distances = np.linalg.norm(embeddings[:, None] - embeddings[None, present], axis=2)
    distances[present, np.arange(len(present))] = -1  # its own group, even if another label has equal embeddings
    groups: npt.NDArray[np.int32] = tree[distances.argmin(axis=1)].astype(np.int32)
    return groups
