"""Connected parts of label maps, and small ones merged into their neighbors."""

from __future__ import annotations

import heapq
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

L = TypeVar("L", bound=np.integer[Any])


def components(segments: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    """Number the 4-connected components of all segments: int32 [H, W] in 0..n-1, in reading order.

    Components are those of a graph whose nodes are horizontal runs of one segment: half the time of labelling pixels.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.ones(segments.shape, dtype=bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    runs = np.cumsum(starts, dtype=np.int32).reshape(segments.shape) - 1
    joined = (segments[1:] == segments[:-1]) & (starts[1:] | starts[:-1])  # once for each pair of runs that touch
    above, below = runs[:-1][joined], runs[1:][joined]
    n_runs = int(runs[-1, -1]) + 1
    graph = coo_array((np.ones(len(above), dtype=bool), (above, below)), shape=(n_runs, n_runs))
    numbered: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1][runs]
    return numbered


def cleaned(segments: npt.NDArray[L], min_pixels: int) -> npt.NDArray[L]:
    """Merge small connected components into their neighbors, the smallest first.

    A 4-connected component of fewer than ``min_pixels`` pixels takes the segment of the neighbor that it shares the
    longest border with; ties are broken deterministically. Components that grow large enough this way stay.

    Args:
        segments: Labels [H, W], any integers.
        min_pixels: Size of the smallest component that stays.

    Returns:
        Labels [H, W] of the same dtype. All components have at least ``min_pixels`` pixels, unless there is only one.
    """
    parts = components(segments)
    sizes = np.bincount(parts.ravel()).tolist()
    segment_of = np.empty(len(sizes), dtype=segments.dtype)
    segment_of[parts.ravel()] = segments.ravel()
    borders = _borders(parts, len(sizes))
    into = np.arange(len(sizes))

    def merge(part: int, target: int) -> None:
        into[part] = target
        sizes[target] += sizes[part]
        for other, length in borders[part].items():
            del borders[other][part]
            if other != target:
                borders[target][other] = borders[other][target] = borders[target].get(other, 0) + length
        borders[part] = {}

    small = [(size, part) for part, size in enumerate(sizes) if size < min_pixels]
    heapq.heapify(small)
    while small:
        size, part = heapq.heappop(small)
        if into[part] != part or size != sizes[part] or not borders[part]:
            continue  # it was merged or has grown since, or is all there is
        target = min(borders[part], key=lambda other: (-borders[part][other], other))
        # The target now touches other components of its segment that only `part` kept apart: they are one.
        joined = [o for o in borders[part] if o != target and segment_of[o] == segment_of[target]]
        merge(part, target)
        for other in joined:
            fewer, target = sorted((other, target), key=lambda p: len(borders[p]))
            merge(fewer, target)
        if sizes[target] < min_pixels:
            heapq.heappush(small, (sizes[target], target))
    while (into != into[into]).any():
        into = into[into]
    return segment_of[into[parts]]


def _borders(parts: npt.NDArray[np.int32], n_parts: int) -> list[dict[int, int]]:
    """List the neighbors of each component, with the number of pixel sides along which they touch."""
    borders: list[dict[int, int]] = [{} for _ in range(n_parts)]
    for before, after in ((parts[:, :-1], parts[:, 1:]), (parts[:-1], parts[1:])):
        pairs = (np.int64(n_parts) * before + after)[before != after]
        for pair, length in zip(*(counts.tolist() for counts in np.unique(pairs, return_counts=True)), strict=True):
            first, second = divmod(pair, n_parts)
            borders[first][second] = borders[second][first] = borders[first].get(second, 0) + length
    return borders
