"""One image's truths and one method's segments of it, with what protocols and measures ask of them found once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.evaluation.metrics import (
    IGNORE,
    TOLERANCE,
    Labels,
    adjusted_rand_index,
    boundaries,
    covering,
    near,
    overlaps,
    precision_recall_f,
    rand_index,
    variation_of_information,
)
from genseg.evaluation.protocols.base import Contingency
from genseg.parts import components

DIAGONAL = 0.0075  # of the image's diagonal: the tolerance of the Berkeley benchmark (Arbeláez et al., 2011)


class GroundTruth:
    """One map of the truth; all methods share it.

    Attributes:
        labels: int32 [H, W] in 0..n_labels-1, or `IGNORE`.
        n_labels: The number of classes, or of one annotator's regions.
        tolerances: How far a boundary may be away, in pixels, by the ending of its figures' names.

    Args:
        labels: [H, W]: classes or `IGNORE`, or one annotator's regions, any numbers.
        n_classes: C; None for an annotator's regions.
    """

    def __init__(self, labels: Labels, n_classes: int | None) -> None:
        self._has_classes = n_classes is not None
        if n_classes is None:
            labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
            n_classes = int(labels.max()) + 1
        self.labels, self.n_labels = labels.astype(np.int32), n_classes
        self.tolerances = {"": TOLERANCE, "_diagonal": DIAGONAL * float(np.hypot(*labels.shape))}

    @cached_property
    def measured(self) -> npt.NDArray[np.bool_]:
        """Where something is measured: bool [H, W]."""
        known: npt.NDArray[np.bool_] = self.labels != IGNORE
        return known

    @cached_property
    def regions(self) -> Labels:
        """What `covering` is asked to cover: an annotator's regions, or the connected parts of classes; int [H, W]."""
        return np.where(self.measured, components(self.labels), IGNORE) if self._has_classes else self.labels

    @cached_property
    def boundary(self) -> npt.NDArray[np.bool_]:
        """Between measured pixels of different labels: bool [H, W]."""
        return boundaries(self.labels, self.measured)

    @cached_property
    def near(self) -> dict[str, npt.NDArray[np.bool_]]:
        """What is near the boundary, for each tolerance."""
        return {ending: near(self.boundary, pixels) for ending, pixels in self.tolerances.items()}


class SegmentStatistics:
    """One method's segments of one image, beside the truths.

    Args:
        segments: int [H, W] in 0..K-1.
        truths: The image's: one map of classes, or one of regions from each annotator.
    """

    def __init__(self, segments: Labels, truths: Sequence[GroundTruth]) -> None:
        self.segments, self.truths = segments, truths
        self._boundary_figures: dict[tuple[int, bytes], dict[str, float]] = {}

    @cached_property
    def tables(self) -> list[npt.NDArray[np.int64]]:
        """For each truth, how many pixels each segment has of each label: int64 [K, C]."""
        n = int(self.segments.max()) + 1
        return [overlaps(self.segments, truth.labels + 1, n, truth.n_labels + 1)[:, 1:] for truth in self.truths]

    def views(
        self, embeddings: npt.NDArray[np.float32] | None = None, named: npt.NDArray[np.int64] | None = None
    ) -> list[Contingency]:
        """What protocols see, one for each truth; rows of segments above the largest that has a pixel are cut off."""
        n = int(self.segments.max()) + 1
        kept = None if embeddings is None else embeddings[:n]
        return [Contingency(table, kept, None if named is None else named[:n]) for table in self.tables]

    @cached_property
    def region_figures(self) -> dict[str, float]:
        """What needs no classes: covering, PRI, VoI and ARI, averaged over truths, and the number of components."""
        parts = components(self.segments)
        rows = [
            {
                "covering": covering(parts, truth.regions),
                "pri": rand_index(table),
                "voi": variation_of_information(table),
                "ari": adjusted_rand_index(table),
            }
            for truth, table in zip(self.truths, self.tables, strict=True)
        ]
        return averaged(rows) | {"components": float(parts.max()) + 1}

    def boundary_figures(self, which: int, classes: npt.NDArray[np.int64]) -> dict[str, float]:
        """Boundary F, precision and recall of the map of classes, beside one truth; protocols that agree share them.

        Args:
            which: The truth's number.
            classes: int64 [K].
        """
        key = which, classes.tobytes()
        if key not in self._boundary_figures:
            self._boundary_figures[key] = self._measure_boundary(which, classes)
        return self._boundary_figures[key]

    def _measure_boundary(self, which: int, classes: npt.NDArray[np.int64]) -> dict[str, float]:
        truth = self.truths[which]
        figures: dict[str, float] = {}
        found = np.zeros(self.segments.shape, dtype=bool)
        before, after, from_segment, to_segment = self._sides
        measured = truth.measured.ravel()
        differ = (classes[from_segment] != classes[to_segment]) & measured[before] & measured[after]
        found.ravel()[before[differ]] = True
        for ending, pixels in truth.tolerances.items():
            scores = np.nan, np.nan, np.nan
            if truth.measured.any():
                scores = precision_recall_f(found, truth.boundary, truth.near[ending], near(found, pixels))
            names = ("boundary_precision", "boundary_recall", "boundary_f")
            figures |= {name + ending: score for name, score in zip(names, scores, strict=True)}
        return figures

    @cached_property
    def _sides(self) -> tuple[npt.NDArray[np.integer[Any]], ...]:
        """Where segments meet, the only places where classes can: both pixels' positions and segments, [E] each."""
        differ = np.zeros((2, *self.segments.shape), dtype=bool)
        differ[0, :, :-1] = self.segments[:, :-1] != self.segments[:, 1:]
        differ[1, :-1] = self.segments[:-1] != self.segments[1:]
        right, below = np.flatnonzero(differ[0]), np.flatnonzero(differ[1])
        before = np.concatenate((right, below))
        after = np.concatenate((right + 1, below + self.segments.shape[1]))
        flat = self.segments.ravel()
        return before, after, flat[before], flat[after]


def averaged(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over truths."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
