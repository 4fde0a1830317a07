"""Merging of similar self-attention maps, after DiffSeg (Tian et al., 2308.12469)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.evaluation.baselines.pooling import masks_of_maps
from genseg.evaluation.method import Masks, MethodInput

ANCHORS = 16  # upper bound along each side (DiffSeg's M)


def kl_merge(method_input: MethodInput) -> Masks:
    """Merge attention maps greedily until K are left, and assign each pixel to the map with the highest probability.

    DiffSeg reads the self-attention probabilities of all layers of Stable Diffusion. A tap has the features of one
    module and no keys, so the maps are a **proxy**: softmax(q qᵀ/√C) of the tap's features q, normalised at each
    position to mean 0 and variance 1 over channels. Its scores are not those of DiffSeg.

    As in DiffSeg, anchors lie on a regular grid, and the argmax is taken at the image's resolution. Unlike there,
    merging stops at K maps and not at a threshold, so that all methods have the same number of segments.
    """
    features = method_input.clusters.features.cpu()
    height, width = features.shape[1:]
    maps = attention_of(features).reshape(height, width, height * width)
    anchors = maps[_spread(height)][:, _spread(width)].flatten(0, 1)
    merged = merged_to(anchors, method_input.n_clusters).reshape(-1, height, width)
    return masks_of_maps(method_input, merged.float())


def attention_of(features: Tensor) -> Tensor:
    """Compute the proxy of `kl_merge` from features [C, h, w]: float64 [h·w, h·w], whose rows are distributions."""
    queries = F.layer_norm(features.double().flatten(1).T, features.shape[:1])
    return torch.softmax(queries @ queries.T / len(features) ** 0.5, dim=1)


def merged_to(maps: Tensor, count: int) -> Tensor:
    """Merge the two nearest distributions until ``count`` are left.

    The distance is DiffSeg's: the mean of the Kullback-Leibler divergences in both directions. A merged distribution is
    the mean of its parts.

    Args:
        maps: float64 [n, p], positive.
        count: Number of distributions to keep.

    Returns:
        float64 [min(n, count), p].
    """
    maps, logs, counts = maps.clone(), maps.log(), torch.ones(len(maps), dtype=maps.dtype)
    entropy = (maps * logs).sum(dim=1)
    crossed = maps @ logs.T
    distances = (entropy[:, None] + entropy - crossed - crossed.T) / 2
    distances.fill_diagonal_(torch.inf)
    alive = torch.ones(len(maps), dtype=torch.bool)
    for _ in range(len(maps) - count):
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
    """Choose at most `ANCHORS` of ``size`` positions, evenly spaced."""
    count = min(size, ANCHORS)
    return torch.from_numpy(((np.arange(count) + 0.5) * size / count).astype(int))
