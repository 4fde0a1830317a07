"""The figures of one method under one protocol over a set of images, with intervals, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.bootstrap import DRAWS, Means, Totals, weights
from genseg.evaluation.metrics import Floats, interval, mean_iou, ratio
from genseg.evaluation.protocols.base import EvaluationProtocol
from genseg.evaluation.protocols.statistics import SegmentStatistics, averaged

POOLED = ("miou", "accuracy")


@dataclass(frozen=True)
class Record:
    """What one image measures under one protocol: all that a `Score` needs, so a run that goes on keeps these.

    Attributes:
        figures: The image's own, by name; NaN where it has no measured pixel. Of several truths, the mean.
        pixels: int64 [3, C], how many of each class are right, are true, and are predicted; of a set of annotators'
            regions, those of the last annotator.
    """

    figures: dict[str, float]
    pixels: npt.NDArray[np.int64]


def measured(seen: SegmentStatistics, classes: Sequence[npt.NDArray[np.int64]]) -> Record:
    """Measure an image.

    Args:
        seen: The segments beside the truths.
        classes: What the protocol gives each segment, int64 [K]; one array for each truth.
    """
    rows = []
    for which, (table, given) in enumerate(zip(seen.tables, classes, strict=True)):
        pixels = _pixels(table, given)
        row = {"miou": float(mean_iou(*pixels)), "accuracy": float(ratio(pixels[0].sum(), pixels[1].sum()))}
        rows.append(row | seen.boundary_figures(which, given))
    return Record(averaged(rows) | seen.region_figures, pixels)


class Score:
    """Adds up what images measure; memory does not grow with their number.

    The figures do not depend on interruptions: add the records again in the same order and every digit is the same.

    Args:
        protocol: Whose classes are measured.
        n_classes: C; None for a set of annotators' regions, whose figures are all means over images.
        seed: Fixes the resamples; scores are comparable (`paired_interval`) if it is the same.
        draws: The number of resamples.
    """

    def __init__(self, protocol: EvaluationProtocol, n_classes: int | None, seed: int = 0, draws: int = DRAWS) -> None:
        self.protocol, self.seed, self.draws = protocol.name, seed, draws
        self._pooled = protocol.pooled and n_classes is not None
        self._totals = [Totals(n_classes or 0, draws) for _ in range(3)]  # hits, true and predicted pixels
        self._has_classes = n_classes is not None
        self._means: Means | None = None
        self._counts = np.zeros(1 + draws, dtype=np.int64)  # images in each resample

    def add(self, key: str, record: Record) -> None:
        """Add what an image measures; ``key``, its name within its set, chooses the resamples it is in."""
        counts = weights(key, self.seed, self.draws)
        self._counts += counts
        if self._has_classes:
            for total, pixels in zip(self._totals, record.pixels, strict=True):
                total.add(pixels, counts)
        if self._means is None:
            self._means = Means(record.figures, self.draws)
        self._means.add(record.figures, counts)

    def values(self, figure: str) -> Floats:
        """A figure of the set and of each resample: float64 [1 + draws]; of ``"iou"``, [C, 1 + draws]."""
        hits, true, predicted = (total.values() for total in self._totals)
        if figure == "iou":
            return ratio(hits.T, (true + predicted - hits).T)
        if not self._pooled or figure not in POOLED:
            return self._known.values(figure)
        return mean_iou(hits, true, predicted) if figure == "miou" else ratio(hits.sum(axis=1), true.sum(axis=1))

    @property
    def _known(self) -> Means:
        if self._means is None:
            raise GensegError("there are no figures of no images; add some")
        return self._means

    def figures(self) -> dict[str, Any]:
        """All figures of the set.

        Returns:
            ``protocol`` (its name), ``images`` (their number), and each figure by name as ``{"value": number,
            "interval": [low, high]}``, the interval holding 95 % of the resamples; ``iou`` is a list of these, one for
            each class, always of all pixels of the set together. NaN where nothing was measured.
        """
        figures: dict[str, Any] = {"protocol": self.protocol, "images": int(self._counts[0])}
        figures |= {name: _figure(self.values(name)) for name in self._known.names}
        return figures | ({"iou": [_figure(values) for values in self.values("iou")]} if self._has_classes else {})


def paired_interval(score: Score, base: Score, figure: str) -> list[float]:
    """The 95 % interval of how much larger a figure is than another score's, on the same resamples: [low, high].

    Raises:
        GensegError: If the two have not seen the same images with the same seed.
    """
    if not np.array_equal(score._counts, base._counts):
        raise GensegError("differences are between figures of the same images; measure both methods on all of them")
    return interval(score.values(figure)[1:] - base.values(figure)[1:])


def _pixels(table: npt.NDArray[np.int64], classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Pixels of each class that are right, that are true and that are predicted: int64 [3, C]."""
    hits, true, predicted = pixels = np.zeros((3, table.shape[1]), dtype=np.int64)
    named = np.flatnonzero(classes >= 0)
    np.add.at(hits, classes[named], table[named, classes[named]])
    np.add.at(predicted, classes[named], table[named].sum(axis=1))
    true[:] = table.sum(axis=0)
    return pixels


def _figure(values: Floats) -> dict[str, Any]:
    return {"value": float(values[0]), "interval": interval(values[1:])}
