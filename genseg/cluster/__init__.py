"""Cluster features into low-resolution masks, by k-means over the grid's positions (EmerDiff, section 3.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genseg.cluster.kmeans import kmeans
from genseg.errors import GensegError
from genseg.recipe import Recipe

AUTO_CLUSTERS = 25  # number of clusters whose segments n_clusters="auto" merges


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
    n_clusters = min(AUTO_CLUSTERS, len(points)) if recipe.n_clusters == "auto" else int(recipe.n_clusters)
    if n_clusters > len(points):
        raise GensegError(
            f"n_clusters={n_clusters} exceeds the {height}x{width} = {len(points)} positions of the feature map; "
            "choose a smaller n_clusters"
        )
    best = kmeans(points, n_clusters, recipe.n_init, recipe.kmeans_seed)
    labels, centers = best.labels.cpu().numpy(), best.centers[:, :channels].cpu().numpy()
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
