"""Ways from low-resolution clusters to pixels: modulation (ours), upsampled clusters, upsampled features, and both.

Each is the argmax of maps [K, h, w], and they differ in these alone: `difference_maps`, `cluster_masks`, `nearness`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genseg.cluster import masks_of, with_positions
from genseg.evaluation.baselines.pooling import masks_of_maps
from genseg.evaluation.method import Masks, Method, MethodInput
from genseg.modulate import normalized
from genseg.upsampling.upsample import refined


def modulation(method_input: MethodInput) -> Masks:
    """Assign each pixel to the cluster whose perturbation changes it most (EmerDiff, section 3.4)."""
    return masks_of_maps(method_input, difference_maps(method_input), merge_tree=True)


def naive(method_input: MethodInput) -> Masks:
    """Scale the clusters' masks bilinearly: the naive upsampling of the paper's tables."""
    return masks_of_maps(method_input, cluster_masks(method_input), merge_tree=True)


def feature_upsampling(method_input: MethodInput) -> Masks:
    """Scale the features that k-means saw bilinearly, and assign each pixel to the nearest centre."""
    return masks_of_maps(method_input, nearness(method_input))


def clusters_by(upsampler: str) -> Method:
    """Return the method that upsamples the clusters' masks by one of `genseg.upsample`'s methods.

    The recipe's `refine` does not act on it.
    """
    return lambda method_input: masks_of_maps(method_input, cluster_masks(method_input), upsampler, merge_tree=True)


def features_by(upsampler: str) -> Method:
    """Return the method that upsamples the features that k-means saw, and assigns each pixel to the nearest centre.

    For upsamplers that look at features; for others, that of masks is the same but for the distance, and takes less.
    """

    def method(method_input: MethodInput) -> Masks:
        features, centers = points_and_centers(method_input)
        return masks_of_maps(
            method_input, nearness_of(refined(features, method_input.pixels, upsampler), centers), "none"
        )

    return method


def modulation_by(upsampler: str) -> Method:
    """Return the method that applies one of `genseg.upsample`'s methods to the difference maps, as `refine` does."""
    return lambda method_input: masks_of_maps(method_input, difference_maps(method_input), upsampler, merge_tree=True)


def difference_maps(method_input: MethodInput, normalise: str | None = None) -> Tensor:
    """Return the difference maps, normalised as by the recipe or by ``normalise``: float32 [K, H, W].

    Raises:
        GensegError: If the input has no model.
    """
    return normalized(method_input.analysis.differences, normalise or method_input.recipe.normalise)


def cluster_masks(method_input: MethodInput) -> Tensor:
    """Return one-hot masks of the clusters: float32 [K, h, w].

    Raises:
        GensegError: If the input has neither model nor encoder.
    """
    clusters = method_input.clusters
    return masks_of(clusters.grid_labels, len(clusters.embeddings))


def nearness(method_input: MethodInput) -> Tensor:
    """Return the nearness of the features that k-means saw to the centre of each cluster: float32 [K, h, w].

    Raises:
        GensegError: If the input has neither model nor encoder.
    """
    return nearness_of(*points_and_centers(method_input))


def points_and_centers(method_input: MethodInput) -> tuple[Tensor, Tensor]:
    """Return what k-means saw, features and positions, float32 [C, h, w], and the centre of each cluster, [K, C]."""
    features, grid_labels = method_input.clusters.features, method_input.clusters.grid_labels
    points = with_positions(features.cpu(), method_input.recipe.position)
    centers = torch.stack([points[grid_labels.ravel() == k].mean(dim=0) for k in np.unique(grid_labels)])
    return points.T.reshape(-1, *features.shape[1:]), centers


def nearness_of(features: Tensor, centers: Tensor) -> Tensor:
    """Compute the nearness of features to centres, as maps that may be scaled bilinearly in place of the features.

    ‖f − c‖² is smallest where c·f − ‖c‖²/2 is largest, which is linear in f.

    Args:
        features: float32 [C, h, w].
        centers: float32 [K, C].

    Returns:
        float32 [K, h, w].
    """
    middle = centers.double().mean(dim=0)  # the origin, so that large numbers do not cancel
    features, centers = features.double() - middle[:, None, None], centers.double() - middle
    nearness = torch.einsum("kc,chw->khw", centers, features) - centers.square().sum(dim=1)[:, None, None] / 2
    return nearness.float()
