"""The paper's modified protocol: the nearest of the classes' mean embeddings, without any matching."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from genseg.evaluation.protocols.base import Protocol, View, nearest


class Concept(Protocol):
    """Each segment takes the class whose concept is nearest (the paper's "modified" protocol).

    A pixel's embedding is its mask's; a class's concept is the mean over the set's pixels of that class. The truth
    makes the concepts, so this measures how well embeddings tell classes apart.

    Attributes:
        concepts: float64 [C, D], once the pass is closed; NaN for a class that the set does not have.
    """

    name = "concept"
    rule = "each segment given the class whose mean embedding over the set is nearest"
    passes = 1
    needs_embeddings = True

    def __init__(self, n_classes: int, seed: int = 0) -> None:
        super().__init__(n_classes, seed)
        self._sums: npt.NDArray[np.float64] | None = None
        self._pixels = np.zeros(n_classes, dtype=np.int64)
        self.concepts: npt.NDArray[np.float64]

    def fit(self, view: View) -> None:
        """Add an image's pixels to its classes' means."""
        if self._sums is None:
            self._sums = np.zeros((self.n_classes, view.features.shape[1]))
        present = np.flatnonzero(view.table.any(axis=0))
        self._sums[present] += view.table[:, present].T @ view.features.astype(np.float64)
        self._pixels += view.table.sum(axis=0)

    def close(self) -> None:
        """Divide the sums; a class that the set does not have is no choice."""
        assert self._sums is not None
        with np.errstate(invalid="ignore"):
            self.concepts = self._sums / self._pixels[:, None]

    def classes(self, view: View) -> npt.NDArray[np.int64]:
        """The class of the nearest concept."""
        return nearest(view.features, self.concepts)
