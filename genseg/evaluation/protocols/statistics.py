"""Ground truths of one image and one method's segments, with shared intermediate results of protocols and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.evaluation.berkeley import DIAGONAL, boundary_map, counts_at_scales, thinned
from genseg.evaluation.metrics import (
    IGNORE,
    TOLERANCE,
    Floats,
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
from genseg.segmentation.tree import Tree


class GroundTruth:
    """One ground truth map, shared by all methods.

    Attributes:
        labels: int32 [H, W] in 0..n_labels-1, or `IGNORE`.
        n_labels: Number of classes, or of one annotator's regions.
        has_classes: Whether labels are classes.
        tolerances: Boundary tolerances in pixels, by the suffix of the metrics' names.

    Args:
        labels: Integers [H, W]: classes or `IGNORE`, or one annotator's regions.
        n_classes: C; None for an annotator's regions.
    """

    def __init__(self, labels: Labels, n_classes: int | None) -> None:
        self.has_classes = n_classes is not None
        if n_classes is None:
            labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
            n_classes = int(labels.max()) + 1
        self.labels, self.n_labels = labels.astype(np.int32), n_classes
        self.tolerances = {"": TOLERANCE, "_diagonal": DIAGONAL * float(np.hypot(*labels.shape))}

    @cached_property
    def measured(self) -> npt.NDArray[np.bool_]:
        """Measured pixels: bool [H, W]."""
        measured: npt.NDArray[np.bool_] = self.labels != IGNORE
        return measured

    @cached_property
    def regions(self) -> Labels:
        """Regions for `covering`: an annotator's, or the connected components of classes; int [H, W]."""
        return np.where(self.measured, components(self.labels), IGNORE) if self.has_classes else self.labels

    @cached_property
    def boundary(self) -> npt.NDArray[np.bool_]:
        """Boundary between measured pixels of different labels: bool [H, W]."""
        return boundaries(self.labels, self.measured)

    @cached_property
    def lines(self) -> npt.NDArray[np.bool_]:
        """Boundary as the Berkeley benchmark matches it: bool [H, W]."""
        return thinned(boundary_map(self.labels))

    @cached_property
    def near(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Pixels near the boundary, by suffix of the tolerance: bool [H, W]."""
        return {suffix: near(self.boundary, pixels) for suffix, pixels in self.tolerances.items()}


class SegmentStatistics:
    """One method's segments of one image, compared with its ground truths.

    Args:
        segments: int [H, W] in 0..K-1.
        truths: Ground truths of the image: one map of classes, or a map of regions from each annotator.
    """

    tree: Tree | None = None
    """The merge tree of the segments' connected parts; None without a tree."""

    def __init__(self, segments: Labels, truths: Sequence[GroundTruth]) -> None:
        self.segments, self.truths = segments, truths
        self._boundary_metrics: dict[tuple[int, bytes], dict[str, float]] = {}

    @cached_property
    def tables(self) -> list[npt.NDArray[np.int64]]:
        """Pixel counts by segment and label, for each ground truth: int64 [K, C]."""
        n = int(self.segments.max()) + 1
        return [overlaps(self.segments, truth.labels + 1, n, truth.n_labels + 1)[:, 1:] for truth in self.truths]

    def contingencies(
        self, embeddings: npt.NDArray[np.float32] | None = None, named: npt.NDArray[np.int64] | None = None
    ) -> list[Contingency]:
        """Return the input of protocols for each ground truth, without segments above the last one that has pixels."""
        n = int(self.segments.max()) + 1
        embeddings = None if embeddings is None else embeddings[:n]
        named = None if named is None else named[:n]
        return [Contingency(table, embeddings, named) for table in self.tables]

    @cached_property
    def region_metrics(self) -> dict[str, float]:
        """Metrics without classes: covering, PRI, VoI and ARI, averaged over ground truths; number of components."""
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

    @cached_property
    def berkeley(self) -> Floats | None:
        """Counts of the Berkeley benchmark, as `genseg.evaluation.berkeley.counts_at_scales`; None for classes."""
        if self.truths[0].has_classes:
            return None
        regions, lines = [truth.labels for truth in self.truths], [truth.lines for truth in self.truths]
        return counts_at_scales(self.segments, self.tree, regions, lines)

    def boundary_metrics(self, which: int, classes: npt.NDArray[np.int64]) -> dict[str, float]:
        """Compute boundary F, precision and recall of a class map. Protocols with the same classes share them.

        Args:
            which: The index of the ground truth.
            classes: int64 [K], the class of each segment.
        """
        key = which, classes.tobytes()
        if key not in self._boundary_metrics:
            self._boundary_metrics[key] = self._measure_boundary(which, classes)
        return self._boundary_metrics[key]

    def _measure_boundary(self, which: int, classes: npt.NDArray[np.int64]) -> dict[str, float]:
        truth = self.truths[which]
        metrics: dict[str, float] = {}
        edge = np.zeros(self.segments.shape, dtype=bool)
        before, after, from_segment, to_segment = self._sides
        measured = truth.measured.ravel()
        differ = (classes[from_segment] != classes[to_segment]) & measured[before] & measured[after]
        edge.ravel()[before[differ]] = True
        for suffix, pixels in truth.tolerances.items():
            scores = np.nan, np.nan, np.nan
            if truth.measured.any():
                scores = precision_recall_f(edge, truth.boundary, truth.near[suffix], near(edge, pixels))
            names = ("boundary_precision", "boundary_recall", "boundary_f")
            metrics |= {name + suffix: score for name, score in zip(names, scores, strict=True)}
        return metrics

    @cached_property
    def _sides(self) -> tuple[npt.NDArray[np.integer[Any]], ...]:
        """Pairs of adjacent pixels in different segments: their positions and segments, [E] each."""
        differ = np.zeros((2, *self.segments.shape), dtype=bool)
        differ[0, :, :-1] = self.segments[:, :-1] != self.segments[:, 1:]
        differ[1, :-1] = self.segments[:-1] != self.segments[1:]
        right, below = np.flatnonzero(differ[0]), np.flatnonzero(differ[1])
        before = np.concatenate((right, below))
        after = np.concatenate((right + 1, below + self.segments.shape[1]))
        flat = self.segments.ravel()
        return before, after, flat[before], flat[after]


class RowStatistics(SegmentStatistics):
    """Statistics in which each row of pixels has segments of its own. Region metrics stay those of the image.

    Args:
        segments: int [H, W] in 0..K-1.
        truths: Ground truths of the image.
    """

    def __init__(self, segments: Labels, truths: Sequence[GroundTruth]) -> None:
        counts = segments.max(axis=1) + 1
        self._ends, self._whole = np.cumsum(counts), segments
        super().__init__(segments + (self._ends - counts)[:, None], truths)

    def contingencies(
        self,
        embeddings: npt.NDArray[np.float32] | None = None,  # noqa: ARG002 - rows have no embeddings
        named: npt.NDArray[np.int64] | None = None,  # noqa: ARG002
    ) -> list[Contingency]:
        """Return the input of protocols for each ground truth, with the segments of each row apart."""
        return [Contingency(table, ends=self._ends) for table in self.tables]

    @cached_property
    def region_metrics(self) -> dict[str, float]:
        """The metrics without classes; see `SegmentStatistics`."""
        return SegmentStatistics(self._whole, self.truths).region_metrics


def averaged(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average each metric over ground truths."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
