"""Three ways from low-resolution clusters to pixels: modulation (ours), upsampled clusters and upsampled features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genseg.cluster import masks_of, with_positions
from genseg.evaluation.baselines.pooling import masks_of_maps
from genseg.evaluation.method import Masks, MethodInput
from genseg.modulate import normalized


def modulation(scene: MethodInput) -> Masks:
    """EmerDiff (section 3.4): each pixel to the cluster whose modulation changes it most, as the recipe normalises."""
    return modulated(scene, scene.recipe.normalise)


def modulated(scene: MethodInput, normalise: str) -> Masks:
    """The argmax of the difference maps, normalised as ``normalise`` says: see `genseg.recipe.Recipe`.

    Raises:
        GensegError: If the scene has no model.
    """
    return masks_of_maps(scene, normalized(scene.analysis.differences, normalise))


def naive(scene: MethodInput) -> Masks:
    """The clusters' masks, scaled bilinearly: the naive upsampling that the paper's tables compare with."""
    clusters = scene.clusters
    return masks_of_maps(scene, masks_of(clusters.grid_labels, len(clusters.embeddings)))


def feature_upsampling(scene: MethodInput) -> Masks:
    """The features, with their places if k-means had them, scaled bilinearly: each pixel to the nearest centre."""
    features, grid_labels = scene.clusters.features, scene.clusters.grid_labels
    points = with_positions(features, scene.recipe.position)
    centres = np.stack([points[grid_labels.ravel() == k].mean(axis=0) for k in np.unique(grid_labels)])
    maps = torch.from_numpy(points.T.reshape(-1, *features.shape[1:]))
    return masks_of_maps(scene, nearness_of(maps, torch.from_numpy(centres)))


def nearness_of(features: Tensor, centres: Tensor) -> Tensor:
    """How near features are to centres, in maps that may be scaled bilinearly in place of the features.

    ‖f − c‖² is smallest where c·f − ‖c‖²/2 is largest, which is linear in f.

    Args:
        features: float32 [C, h, w].
        centres: float32 [K, C].

    Returns:
        float32 [K, h, w].
    """
    middle = centres.double().mean(dim=0)  # as origin, lest large numbers cancel
    features, centres = features.double() - middle[:, None, None], centres.double() - middle
    nearness = torch.einsum("kc,chw->khw", centres, features) - centres.square().sum(dim=1)[:, None, None] / 2
    return nearness.float()
