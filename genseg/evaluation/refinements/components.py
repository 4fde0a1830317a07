"""Remove small components from segments, alike for every method, so that none is scored by its noise."""

from __future__ import annotations

import heapq

import numpy as np

from genseg.evaluation.metrics import Labels, components, contingency


def cleaned(segments: Labels, min_pixels: int) -> Labels:
    """Merge small connected components into their neighbours, the smallest first.

    A 4-connected component of fewer than ``min_pixels`` pixels takes the segment of the neighbour that it shares the
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


def _borders(parts: Labels, n_parts: int) -> list[dict[int, int]]:
    """List the neighbours of each component, with the number of pixel sides along which they touch."""
    borders: list[dict[int, int]] = [{} for _ in range(n_parts)]
    for before, after in ((parts[:, :-1], parts[:, 1:]), (parts[:-1], parts[1:])):
        differ = before != after
        if not differ.any():
            continue
        for a, b, length in zip(*(x.tolist() for x in contingency(before[differ], after[differ])), strict=True):
            borders[a][b] = borders[b][a] = borders[a].get(b, 0) + length
    return borders
