"""Lloyd's k-means from k-means++ starts in torch, all starts at once, on the points' device.

The algorithm is scikit-learn's with the same random draws, so that labels are its own up to rounding. scikit-learn runs
one start after the other, in many small steps: on the CPU, it takes ten times as long. Unlike there, a cluster that
loses all of its points keeps its center.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MAX_STEPS = 300  # as in scikit-learn
TOLERANCE = 1e-4  # likewise: a start whose centers move by less than this share of the variance has converged
CHECK_EVERY = 4  # steps between checks for convergence, at each of which a GPU has to be waited for
MAX_DISTANCES = 2**22  # distances of points to centers in memory at once: 16 MiB


class KMeans(NamedTuple):
    """The best of several starts.

    Attributes:
        labels: int64 [N] in 0..K-1: the cluster of each point.
        centers: float32 [K, D]: the mean of each cluster; of all points for a cluster without any.
        inertia: float32 []: sum of the points' squared distances to their centers.
    """

    labels: Tensor
    centers: Tensor
    inertia: Tensor


def kmeans(points: Tensor, n_clusters: int, n_init: int, seed: int) -> KMeans:
    """Cluster points from several starts, and return the best.

    Args:
        points: float32 [N, D], on any device that has float64.
        n_clusters: K, at most N.
        n_init: Number of starts.
        seed: Fixes the starts, which are those of ``sklearn.cluster.KMeans(random_state=seed)``.
    """
    centered = points - _mean(points)
    tolerance = TOLERANCE * centered.square().mean()
    if points.device.type == "cpu" and points.shape[1] > len(points):
        # N points span at most N dimensions: coordinates on an orthonormal basis of these keep all distances.
        centered = torch.linalg.qr(centered.T, mode="r").R.T.contiguous()
    candidates = 2 + int(math.log(n_clusters))  # for each center, of which the best is taken
    draws = np.random.RandomState(seed).random_sample((n_init, 1 + (n_clusters - 1) * candidates))
    at_once = max(MAX_DISTANCES // (n_clusters * len(points)), 1)
    runs = []
    for uniform in map(torch.from_numpy, np.split(draws, range(at_once, n_init, at_once))):
        uniform = uniform.to(points.device)
        starts = _plus_plus(centered, uniform[:, 0], uniform[:, 1:].reshape(len(uniform), n_clusters - 1, candidates))
        runs.append(_lloyd(centered, centered[starts], tolerance))
    labels, inertias = (torch.cat(results) for results in zip(*runs, strict=True))
    # The inertias of starts that end in the same clusters differ by rounding: of these, the first is the best.
    best = (inertias <= inertias.min() * (1 + 1e-6)).int().argmax(dim=0, keepdim=True)
    labels, inertia = labels.index_select(0, best)[0], inertias.index_select(0, best)[0]
    members = (labels == torch.arange(n_clusters, device=points.device)[:, None]).to(points.dtype)
    counts = members.sum(dim=1, keepdim=True)
    return KMeans(labels, torch.where(counts > 0, members @ points / counts.clamp(min=1), points.mean(dim=0)), inertia)


def _plus_plus(points: Tensor, first: Tensor, uniform: Tensor) -> Tensor:
    """Choose starting centers by greedy k-means++ (Arthur and Vassilvitskii, 2007).

    Args:
        points: float32 [N, D].
        first: float64 [S] in [0, 1): draws of the first center of S starts.
        uniform: float64 [S, K - 1, T] in [0, 1): draws of T candidates for each further one.

    Returns:
        int64 [S, K]: the points chosen.
    """
    norms, starts = points.square().sum(dim=1), torch.arange(len(first), device=points.device)

    def distances(chosen: Tensor) -> Tensor:
        """Squared distances [M, N] of M points to all."""
        return torch.addmm(norms[chosen, None] + norms, points[chosen], points.T, alpha=-2).clamp_(min=0)

    centers = [(first * len(points)).long()]
    nearest = distances(centers[0])  # [S, N]: from each point to its nearest center so far
    for draw in uniform.unbind(dim=1):
        candidates = torch.searchsorted(_cumulative(nearest), draw * nearest.sum(dim=1, keepdim=True))
        candidates.clamp_(max=len(points) - 1)
        left = torch.minimum(distances(candidates.flatten()).view(*candidates.shape, -1), nearest[:, None])
        best = left.sum(dim=2).argmin(dim=1)
        nearest = left[starts, best]
        centers.append(candidates[starts, best])
    return torch.stack(centers, dim=1)


def _mean(points: Tensor) -> Tensor:
    """Mean of points. The roundings of numpy's, on the CPU, are scikit-learn's; else some start would be another."""
    return torch.from_numpy(points.numpy().mean(axis=0)) if points.device.type == "cpu" else points.mean(dim=0)


def _cumulative(values: Tensor) -> Tensor:
    """Cumulative sums along the rows of float32 [S, N], in float64; on the CPU rounded as `_mean`."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.cumsum(values.numpy(), axis=1)).double()
    return values.cumsum(dim=1, dtype=torch.float64)


def _lloyd(points: Tensor, centers: Tensor, tolerance: Tensor) -> tuple[Tensor, Tensor]:
    """Move centers to the means of their points until they stay.

    Args:
        points: float32 [N, D].
        centers: float32 [S, K, D]: the centers of S starts.
        tolerance: float32 []: a start whose centers' squared shifts sum to no more has converged.

    Returns:
        A pair: labels, int64 [S, N], and inertias, float32 [S].
    """
    results, running = centers.clone(), torch.arange(len(centers), device=points.device)
    moving = torch.ones_like(running, dtype=torch.bool)
    for step in range(1, MAX_STEPS + 1):
        _, labels = _assigned(points, centers)
        members = points.new_zeros(*centers.shape[:2], len(points)).scatter_(1, labels[:, None], 1)
        counts = members.sum(dim=2, keepdim=True)
        means = (members.flatten(end_dim=1) @ points).view_as(centers) / counts.clamp(min=1)
        moved = torch.where((counts > 0) & moving[:, None, None], means, centers)
        moving &= (moved - centers).square().sum(dim=(1, 2)) > tolerance
        centers = moved
        if step % CHECK_EVERY == 0 or step == MAX_STEPS:
            results.index_copy_(0, running, centers)
            left = moving.nonzero()[:, 0]
            if len(left) == 0:
                break
            running, centers, moving = running[left], centers[left], moving[left]
    nearest, labels = _assigned(points, results)
    # No distance is below 0 but by rounding: sums of such would hide which start is the best.
    return labels, (nearest + points.square().sum(dim=1)).clamp_(min=0).sum(dim=1)


def _assigned(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances [S, N] of points to their nearest centers, less the points' own squares, and which they are."""
    flat = centers.flatten(end_dim=1)
    distances = torch.addmm(flat.square().sum(dim=1, keepdim=True), flat, points.T, alpha=-2)
    nearest, labels = distances.view(*centers.shape[:2], -1).min(dim=1)
    return nearest, labels
