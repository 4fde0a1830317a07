"""What a protocol is: a rule that gives every segment a class.

Every pixel has its segment's class, so a protocol needs no label maps: an image is a small table and, for some
protocols, an embedding a segment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError


@dataclass(frozen=True)
class Contingency:
    """One image as protocols see it.

    Attributes:
        table: int64 [K, C], how many measured pixels each segment has of each class.
        embeddings: float32 [K, D], one vector a segment; None of a method without features.
        named: int64 [K], the class that each segment was given by name, `IGNORE` for none; None where none was asked.
    """

    table: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32] | None = None
    named: npt.NDArray[np.int64] | None = None

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """The embeddings.

        Raises:
            GensegError: If there are none.
        """
        if self.embeddings is None:
            raise GensegError("this protocol needs an embedding for each mask; choose a method that gives them")
        return self.embeddings


class EvaluationProtocol(ABC):
    """A rule that gives segments classes.

    One with `passes` above 0 learns from the whole set first, which it sees that often, always in the same order::

        for _ in range(protocol.passes):
            for view in views():
                protocol.fit(view)
            protocol.close()

    Attributes:
        name: Every figure is reported with it.
        rule: In words, the class that a segment takes.
        passes: How often `fit` must see the set before `classes` can be asked for.
        needs_embeddings: Whether views must have them.
        pooled: Whether mIoU and accuracy are those of all pixels of the set together; the mean over images otherwise.

    Args:
        n_classes: C.
        seed: Fixes random draws.
    """

    name: str
    rule: str
    passes: int = 0
    needs_embeddings: bool = False
    pooled: bool = True

    def __init__(self, n_classes: int, seed: int = 0) -> None:
        self.n_classes, self.seed = n_classes, seed

    def fit(self, view: Contingency) -> None:  # noqa: B027 - most protocols learn nothing
        """Learn from one image."""

    def close(self) -> None:  # noqa: B027
        """End a pass over the set."""

    @abstractmethod
    def classes(self, view: Contingency) -> npt.NDArray[np.int64]:
        """The class that each segment takes: int64 [K], `IGNORE` for none."""


def nearest(vectors: npt.NDArray[Any], centres: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The nearest centre (Euclidean) of each vector: [K, D] and [C, D] to int64 [K]; centres of NaN are no choice."""
    norms = np.square(centres).sum(axis=1)
    distances = np.where(np.isnan(norms), np.inf, norms - 2 * (vectors @ np.nan_to_num(centres).T))
    choice: npt.NDArray[np.int64] = distances.argmin(axis=1)
    return choice
