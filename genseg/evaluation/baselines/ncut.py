"""Recursive normalised cuts of the graph of features, into at most K segments.

This is the method of DiffCut (Couairon et al., 2406.02842) for any tap, or an encoder's features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import eigsh

from genseg.evaluation.baselines.pooling import masks_of_maps
from genseg.evaluation.method import Masks, MethodInput

ALPHA = 10  # exponent of the cosine similarity (DiffCut's)
TAU = 0.5  # maximum cost of a cut (DiffCut's)
DENSE = 256  # nodes up to which all eigenvectors are computed

Floats = npt.NDArray[np.float64]


class Cut(NamedTuple):
    """The best way to cut a segment in two.

    Attributes:
        cost: The normalised cut's value, in [0, 2].
        nodes: Indices of the segment's nodes [n].
        side: bool [n], true for the nodes of the first part.
    """

    cost: float
    nodes: npt.NDArray[np.intp]
    side: npt.NDArray[np.bool_]


def ncut(method_input: MethodInput) -> Masks:
    """Repeat the cheapest cut until there are K segments or every cut costs more than `TAU`.

    Pixels take the segment whose mean direction is nearest (cosine) to the bilinearly scaled features.
    """
    features = method_input.clusters.features.cpu().double()
    directions = torch.nn.functional.normalize(features, dim=0)
    points = directions.flatten(1).T.numpy()
    labels = segments_of(affinity_of(points), method_input.n_clusters)
    means = np.stack([points[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    centers = torch.nn.functional.normalize(torch.from_numpy(means), dim=1)
    # The argmax of cosines, as the length of a pixel's feature does not change it.
    return masks_of_maps(method_input, torch.einsum("kc,chw->khw", centers, features).float())


def affinity_of(directions: Floats) -> Floats:
    """Compute cosine similarities of unit vectors [n, C], clipped at 0, to the power `ALPHA`: [n, n]."""
    affinity: Floats = np.clip(directions @ directions.T, 0, 1) ** ALPHA
    return affinity


def segments_of(affinity: Floats, max_segments: int, tau: float = TAU) -> npt.NDArray[np.int32]:
    """Cut a graph recursively, the cheapest cut first.

    Args:
        affinity: [n, n], symmetric, in [0, 1], with ones on the diagonal.
        max_segments: Upper bound of the number of segments.
        tau: Maximum cost of a cut.

    Returns:
        int32 [n] in 0..K'-1, K' ≤ ``max_segments``.
    """
    labels = np.zeros(len(affinity), dtype=np.int32)
    cuts = [best_cut(affinity, np.arange(len(affinity)))]
    for label in range(1, max_segments):
        cut = min(cuts, key=lambda c: c.cost)
        if cut.cost > tau:
            break
        cuts = [other for other in cuts if other is not cut]
        labels[cut.nodes[cut.side]] = label
        cuts += [best_cut(affinity, part) for part in (cut.nodes[cut.side], cut.nodes[~cut.side])]
    return labels


def best_cut(affinity: Floats, nodes: npt.NDArray[np.intp]) -> Cut:
    """Find the best threshold on the second generalised eigenvector (Shi and Malik, 2000) of some nodes' graph."""
    if len(nodes) < 2:
        return Cut(np.inf, nodes, np.zeros(len(nodes), dtype=bool))
    weights = affinity[np.ix_(nodes, nodes)]
    degrees = weights.sum(axis=1)
    vector = _second_eigenvector(weights, degrees)
    order = np.argsort(vector, kind="stable")
    # A is the first i nodes in order, and W(A, A) the sum of a leading block.
    within = np.cumsum(_leading(weights[np.ix_(order, order)]))[:-1]
    volume = np.cumsum(degrees[order])
    between, volume, rest = volume[:-1] - within, volume[:-1], volume[-1] - volume[:-1]
    costs = between / volume + between / rest
    best = int(np.argmin(costs))
    side = np.zeros(len(nodes), dtype=bool)
    side[order[: best + 1]] = True
    return Cut(float(costs[best]), nodes, side)


def _leading(weights: Floats) -> Floats:
    """Compute the amount that each row and column adds to the sum of the leading block it ends."""
    lower = np.tril(weights)
    added: Floats = 2 * lower.sum(axis=1) - np.diag(weights)
    return added


def _second_eigenvector(weights: Floats, degrees: Floats) -> Floats:
    """Solve (D − W) y = λ D y for the second smallest λ.

    √D y is the second largest eigenvector of D^-½ W D^-½, whose largest is √D 1. With that projected out, √D y is the
    largest.
    """
    root = np.sqrt(degrees)
    first = root / np.linalg.norm(root)
    rest = weights / root[:, None] / root - first[:, None] * first
    if len(rest) <= DENSE:
        vectors = np.linalg.eigh(rest)[1]
    else:
        vectors = eigsh(rest, k=1, which="LA", v0=np.linspace(-1, 1, len(rest)), tol=1e-6)[1]
    second: Floats = vectors[:, -1] / root
    return second
