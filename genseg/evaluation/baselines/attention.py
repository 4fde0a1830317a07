"""Merging self-attention maps by how alike they are: the idea of DiffSeg (Tian et al., 2308.12469)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.evaluation.baselines.pooling import masks_of_maps
from genseg.evaluation.method import Masks, MethodInput

ANCHORS = 16  # along each side, at most (DiffSeg's M)


def kl_merge(scene: MethodInput) -> Masks:
    """Merge attention maps greedily until K are left; each pixel to the one that gives it most.

    DiffSeg reads the self-attention probabilities of all of Stable Diffusion's layers. Taps give one module's features
    here, and no keys, so the maps are a **proxy**: softmax(q qᵀ/√C) of the tap's features q, each position normalised
    to mean 0 and variance 1 over its channels, in one head and at one layer. Figures of it are not DiffSeg's.

    As in DiffSeg, anchors lie on a regular grid, and the proposals' argmax is taken at the image's resolution; unlike
    there, merging stops at K rather than at a threshold, so that all methods have as many segments.
    """
    features = scene.clusters.features.cpu()
    height, width = features.shape[1:]
    maps = attention_of(features).reshape(height, width, height * width)
    anchors = maps[_spread(height)][:, _spread(width)].flatten(0, 1)
    merged = merged_to(anchors, scene.n_clusters).reshape(-1, height, width)
    return masks_of_maps(scene, merged.float())


def attention_of(features: Tensor) -> Tensor:
    """The proxy of `kl_merge`: float64 [h·w, h·w], each row a distribution over positions, of features [C, h, w]."""
    queries = F.layer_norm(features.double().flatten(1).T, features.shape[:1])
    return torch.softmax(queries @ queries.T / len(features) ** 0.5, dim=1)


def merged_to(maps: Tensor, wanted: int) -> Tensor:
    """Merge the two nearest of the distributions until ``wanted`` are left.

    The distance is DiffSeg's: the mean of the Kullback-Leibler divergences in both directions. A merged distribution is
    the mean of those it was merged from.

    Args:
        maps: float64 [n, p], positive.
        wanted: How many are to be left.

    Returns:
        float64 [min(n, wanted), p].
    """
    maps, logs, counts = maps.clone(), maps.log(), torch.ones(len(maps), dtype=maps.dtype)
    entropy = (maps * logs).sum(dim=1)
    crossed = maps @ logs.T
    distances = (entropy[:, None] + entropy - crossed - crossed.T) / 2
    distances.fill_diagonal_(torch.inf)
    alive = torch.ones(len(maps), dtype=torch.bool)
    for _ in range(len(maps) - wanted):
        first, second = divmod(int(distances.argmin()), len(maps))
        total = counts[first] + counts[second]
        maps[first] = (counts[first] * maps[first] + counts[second] * maps[second]) / total
        counts[first], alive[second] = total, False
        logs[first] = maps[first].log()
        row = ((maps[first] - maps) * (logs[first] - logs)).sum(dim=1) / 2
        row[~alive] = torch.inf
        row[first] = torch.inf
        distances[first], distances[:, first] = row, row
        distances[second], distances[:, second] = torch.inf, torch.inf
    return maps[alive]


def _spread(size: int) -> Tensor:
    """At most `ANCHORS` positions of ``size``, evenly spaced."""
    count = min(size, ANCHORS)
    return torch.from_numpy(((np.arange(count) + 0.5) * size / count).astype(int))
