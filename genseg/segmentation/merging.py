"""Segmentations into connected parts, and into groups of them."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genseg.display.palette import palette
from genseg.errors import GensegError, whole_number
from genseg.parts import components
from genseg.segmentation.sampling import centers

if TYPE_CHECKING:
    from genseg.segmentation.result import Segmentation


def merger(text: str, option: str) -> Callable[[Segmentation], Segmentation]:
    """Return the merging that a user asks for: into at most N segments, or into a natural number of them.

    Args:
        text: ``"auto"`` or a number.
        option: What it was given as, for errors.

    Raises:
        GensegError: If it is neither a number of at least 1 nor ``auto``.
    """
    if text == "auto":
        return lambda segmentation: segmentation.merge("auto")
    number = whole_number(text)
    if number is None or number < 1:
        raise GensegError(f"{option} needs a number of at least 1, or auto, not {reprlib.repr(text)}")
    return lambda segmentation: segmentation.merge(min(number, segmentation.tree.n_regions))


def connected(segmentation: Segmentation) -> Segmentation:
    """Make each connected part a segment as `Segmentation.components` says."""
    parts = components(segmentation.labels)
    _, first = np.unique(parts, return_index=True)
    segment_of = segmentation.labels.ravel()[first]
    names = segmentation.names
    return replace(
        segmentation,
        labels=parts,
        grid_labels=parts[centers(parts.shape, segmentation.grid_labels.shape)],
        embeddings=segmentation.embeddings[segment_of],
        colors=palette(len(segment_of)),
        scores=None,
        names=None if names is None else tuple(names[label] for label in segment_of.tolist()),
    )


def merged(segmentation: Segmentation, groups: npt.NDArray[np.int32]) -> Segmentation:
    """Merge connected parts into groups.

    Args:
        segmentation: Its parts are numbered as by `connected`.
        groups: int32 (n,): the group of each part, numbered by their first part.

    Returns:
        A segmentation without difference maps. A group has the color and the name of its largest part; where groups
        would have the same color, the larger one has it, and the other one a color of its own.
    """
    parts = components(segmentation.labels)
    _, first, sizes = np.unique(parts, return_index=True, return_counts=True)
    segment_of = segmentation.labels.ravel()[first]
    n_groups = int(groups.max()) + 1
    areas = np.bincount(groups, sizes)
    embeddings = np.stack(
        [np.bincount(groups, sizes * channel) / areas for channel in segmentation.embeddings[segment_of].T], axis=1
    )
    largest = np.zeros(n_groups, dtype=np.int64)
    by_size = sizes.argsort(kind="stable")
    largest[groups[by_size]] = segment_of[by_size]  # the last one stays
    colors, names = segmentation.colors[largest], segmentation.names
    spare = iter(palette(len(segmentation.colors) + n_groups)[len(segmentation.colors) :])
    taken: set[int] = set()
    for group in areas.argsort(kind="stable")[::-1].tolist():
        if largest[group] in taken:
            colors[group] = next(spare)
        taken.add(int(largest[group]))
    labels = groups[parts]
    return replace(
        segmentation,
        labels=labels,
        grid_labels=labels[centers(labels.shape, segmentation.grid_labels.shape)],
        embeddings=embeddings.astype(np.float32),
        colors=colors,
        scores=None,
        names=None if names is None else tuple(names[label] for label in largest.tolist()),
    )
