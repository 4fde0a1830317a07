"""Metrics of one method under one protocol over a dataset, with intervals, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.berkeley import BerkeleyTotals
from genseg.evaluation.bootstrap import DRAWS, Means, Totals, weights
from genseg.evaluation.metrics import Floats, interval, mean_iou, ratio
from genseg.evaluation.protocols.base import EvaluationProtocol
from genseg.evaluation.protocols.statistics import SegmentStatistics, averaged

POOLED = ("miou", "accuracy")


@dataclass(frozen=True)
class Record:
    """Metrics of one image under one protocol: everything that a `Score` needs of it.

    Attributes:
        metrics: The image's metrics by name, averaged over ground truths; NaN without measured pixels.
        pixels: int64 [3, C], correct, true and predicted pixels of each class; for annotators' regions, those of the
            last annotator.
        berkeley: float64 [T, 6], the counts of the Berkeley benchmark; None for classes.
    """

    metrics: dict[str, float]
    pixels: npt.NDArray[np.int64]
    berkeley: Floats | None = None


def measured(statistics: SegmentStatistics, classes: Sequence[npt.NDArray[np.int64]]) -> Record:
    """Measure an image.

    Args:
        statistics: The segments and ground truths of the image.
        classes: For each ground truth the class of each segment, int64 [K].
    """
    rows = []
    for which, (table, assigned) in enumerate(zip(statistics.tables, classes, strict=True)):
        pixels = _pixels(table, assigned)
        row = {"miou": float(mean_iou(*pixels)), "accuracy": float(ratio(pixels[0].sum(), pixels[1].sum()))}
        rows.append(row | statistics.boundary_metrics(which, assigned))
    return Record(averaged(rows) | statistics.region_metrics, pixels, statistics.berkeley)


class Score:
    """Sums of records over images, in memory that does not grow with their number.

    Records that are added in the same order give the same metrics to the last digit.

    Args:
        protocol: The protocol.
        n_classes: C; None for annotators' regions, whose metrics are all means over images.
        seed: Fixes the resamples; `paired_interval` needs scores of the same seed.
        draws: Number of resamples.
    """

    def __init__(self, protocol: EvaluationProtocol, n_classes: int | None, seed: int = 0, draws: int = DRAWS) -> None:
        self.protocol, self.seed, self.draws = protocol.name, seed, draws
        self._pooled = protocol.pooled and n_classes is not None
        self._totals = [Totals(n_classes or 0, draws) for _ in range(3)]  # hits, true and predicted pixels
        self._has_classes = n_classes is not None
        self._means: Means | None = None
        self._berkeley = None if self._has_classes else BerkeleyTotals(draws)
        self._counts = np.zeros(1 + draws, dtype=np.int64)  # images in each resample

    def add(self, key: str, record: Record) -> None:
        """Add an image's record; its ``key`` within the dataset determines the resamples that include it."""
        counts = weights(key, self.seed, self.draws)
        self._counts += counts
        if self._has_classes:
            for total, pixels in zip(self._totals, record.pixels, strict=True):
                total.add(pixels, counts)
        if self._means is None:
            self._means = Means(record.metrics, self.draws)
        self._means.add(record.metrics, counts)
        if self._berkeley is not None and record.berkeley is not None:
            self._berkeley.add(record.berkeley, counts)

    def values(self, metric: str) -> Floats:
        """Return a metric of the dataset and of each resample: float64 [1 + draws], or [C, 1 + draws] for ``"iou"``."""
        if self._berkeley is not None and metric in self._berkeley.NAMES:
            return self._berkeley.values(metric)
        hits, true, predicted = (total.values() for total in self._totals)
        if metric == "iou":
            return ratio(hits.T, (true + predicted - hits).T)
        if not self._pooled or metric not in POOLED:
            return self._known.values(metric)
        return mean_iou(hits, true, predicted) if metric == "miou" else ratio(hits.sum(axis=1), true.sum(axis=1))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics but ``"iou"``.

        Raises:
            GensegError: If no image has been added.
        """
        return (*self._known.names, *(() if self._berkeley is None else self._berkeley.NAMES))

    @property
    def _known(self) -> Means:
        if self._means is None:
            raise GensegError("no image has been measured; add at least one")
        return self._means

    def metrics(self) -> dict[str, Any]:
        """Compute all metrics of the dataset.

        Returns:
            ``protocol`` (its name), ``images`` (their number), and each metric by name as ``{"value": number,
            "interval": [low, high]}``, with the 95 % interval of the resamples. ``iou`` is a list of such entries, one
            for each class, always over all pixels of the dataset. Values are NaN where nothing was measured.

        Raises:
            GensegError: If no image has been added.
        """
        metrics: dict[str, Any] = {"protocol": self.protocol, "images": int(self._counts[0])}
        metrics |= {name: _with_interval(self.values(name)) for name in self.names}
        return metrics | (
            {"iou": [_with_interval(values) for values in self.values("iou")]} if self._has_classes else {}
        )


def paired_interval(score: Score, base: Score, metric: str) -> list[float]:
    """Compute the 95 % interval [low, high] of the difference of a metric, score minus base, on the same resamples.

    Raises:
        GensegError: If the scores have other images, another seed or another protocol or rules.
    """
    if score.protocol != base.protocol:
        raise GensegError(
            f"scores under {score.protocol} and {base.protocol} cannot be compared; measure both under one"
        )
    if not np.array_equal(score._counts, base._counts):
        raise GensegError("differences need the same images and seed; measure both methods on all of them")
    return interval(score.values(metric)[1:] - base.values(metric)[1:])


def _pixels(table: npt.NDArray[np.int64], classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count correct, true and predicted pixels of each class: int64 [3, C]."""
    hits, true, predicted = pixels = np.zeros((3, table.shape[1]), dtype=np.int64)
    named = np.flatnonzero(classes >= 0)
    np.add.at(hits, classes[named], table[named, classes[named]])
    np.add.at(predicted, classes[named], table[named].sum(axis=1))
    true[:] = table.sum(axis=0)
    return pixels


def _with_interval(values: Floats) -> dict[str, Any]:
    return {"value": float(values[0]), "interval": interval(values[1:])}
