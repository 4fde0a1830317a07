"""Online bootstrap: intervals of a dataset's metrics in one pass over its images.

A bootstrap draws each of N images Binomial(N, 1/N) times. For large N that is Poisson(1), independently for each image
(Oza and Russell, 2001; Chamandy et al., "Estimating uncertainty for massive data streams", 2012), so an image's weights
depend on its key only. Every method and protocol therefore sees the same resamples, and differences are paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from genseg.evaluation.metrics import Floats, ratio

DRAWS = 1000


@lru_cache(maxsize=64)  # all methods and protocols use an image's weights one after the other
def weights(key: str, seed: int = 0, draws: int = DRAWS) -> npt.NDArray[np.int64]:
    """Draw how often an image counts: once in the dataset itself, and Poisson(1) times in each resample.

    Args:
        key: The image's key within its dataset.
        seed: Fixes the resamples.
        draws: Number of resamples.

    Returns:
        int64 [1 + draws].
    """
    digest = int.from_bytes(hashlib.sha256(key.encode(errors="surrogateescape")).digest()[:16], "big")
    drawn = np.random.default_rng([seed, digest]).poisson(1.0, draws)
    counts: npt.NDArray[np.int64] = np.concatenate(([1], drawn)).astype(np.int64)
    counts.flags.writeable = False
    return counts


class Means:
    """Means of metrics over images, in the dataset and in each resample. NaN values are left out.

    Sums depend on the order of images in their last bits: add images in the same order for identical results.

    Args:
        names: Names of the metrics.
        draws: Number of resamples.
    """

    def __init__(self, names: Iterable[str], draws: int = DRAWS) -> None:
        self.names = tuple(names)
        self._sums = np.zeros((len(self.names), 1 + draws))
        self._counts = np.zeros((len(self.names), 1 + draws), dtype=np.int64)

    def add(self, metrics: Mapping[str, float], counts: npt.NDArray[np.int64]) -> None:
        """Add an image's metrics, with its `weights`."""
        values = np.array([[metrics[name]] for name in self.names])
        self._sums += np.nan_to_num(values) * counts
        self._counts += np.isfinite(values) * counts

    def values(self, name: str) -> Floats:
        """Return a metric's means: float64 [1 + draws]; NaN where no image counts."""
        row = self.names.index(name)
        return ratio(self._sums[row], self._counts[row])


class Totals:
    """Pixels of each class, summed over images, in the dataset and in each resample."""

    def __init__(self, n_classes: int, draws: int = DRAWS) -> None:
        self._totals = np.zeros((n_classes, 1 + draws), dtype=np.int64)

    def add(self, pixels: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        """Add an image's pixels of each class, int64 [C], with its `weights`."""
        present = np.flatnonzero(pixels)  # an image has few of the classes
        self._totals[present] += pixels[present, None] * counts

    def values(self) -> npt.NDArray[np.int64]:
        """Return the sums: int64 [1 + draws, C]."""
        return self._totals.T
