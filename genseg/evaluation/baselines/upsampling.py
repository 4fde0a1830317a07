"""Three ways from low-resolution clusters to pixels: modulation (ours), upsampled clusters and upsampled features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genseg.cluster import masks_of, with_positions
from genseg.evaluation.baselines.pooling import masks_of_maps
from genseg.evaluation.method import Masks, MethodInput
from genseg.modulate import normalized


def modulation(method_input: MethodInput) -> Masks:
    """Assign each pixel to the cluster whose perturbation changes it most (EmerDiff, section 3.4)."""
    return modulated(method_input, method_input.recipe.normalise)


def modulated(method_input: MethodInput, normalise: str) -> Masks:
    """Take the argmax of the difference maps, normalised as by the recipe key ``normalise``.

    Raises:
        GensegError: If the input has no model.
    """
    return masks_of_maps(method_input, normalized(method_input.analysis.differences, normalise))


def naive(method_input: MethodInput) -> Masks:
    """Scale the clusters' masks bilinearly: the naive upsampling of the paper's tables."""
    clusters = method_input.clusters
    return masks_of_maps(method_input, masks_of(clusters.grid_labels, len(clusters.embeddings)))


def feature_upsampling(method_input: MethodInput) -> Masks:
    """Scale the features that k-means saw bilinearly, and assign each pixel to the nearest centre."""
    features, grid_labels = method_input.clusters.features, method_input.clusters.grid_labels
    points = with_positions(features.cpu(), method_input.recipe.position)
    centers = torch.stack([points[grid_labels.ravel() == k].mean(dim=0) for k in np.unique(grid_labels)])
    maps = points.T.reshape(-1, *features.shape[1:])
    return masks_of_maps(method_input, nearness_of(maps, centers))


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
