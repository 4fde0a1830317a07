"""Base class of protocols, which assign a class to every segment.

Every pixel has the class of its segment, so protocols need no label maps: an image is a small table and, for some
protocols, one embedding per segment.
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
    """Segments of one image by class.

    Attributes:
        table: int64 [K, C], the number of measured pixels of each class in each segment.
        embeddings: float32 [K, D], one vector per segment; None for a method without features.
        named: int64 [K], the class by which an embedder named each segment, or `IGNORE`; None without an embedder.
        ends: int64 [G], where segments are matched in groups, the end of each group; None for one group.
    """

    table: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32] | None = None
    named: npt.NDArray[np.int64] | None = None
    ends: npt.NDArray[np.int64] | None = None

    @property
    def groups(self) -> list[npt.NDArray[np.int64]]:
        """The tables of the groups."""
        return [self.table] if self.ends is None else np.split(self.table, self.ends[:-1])

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
    """Base class of protocols, which assign a class to every segment.

    A protocol with `passes` above 0 first learns from the whole dataset, in that many passes of the same order::

        for _ in range(protocol.passes):
            for contingency in contingencies():
                protocol.fit(contingency)
            protocol.close()

    Attributes:
        name: Name of the protocol, reported with every metric.
        rule: Description of the rule.
        passes: Number of passes over the dataset before `classes` can be called.
        needs_embeddings: Whether segments must have embeddings.
        pooled: Whether mIoU and accuracy are computed over all pixels of the dataset; else they are means over images.

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

    def fit(self, contingency: Contingency) -> None:  # noqa: B027 - most protocols learn nothing
        """Learn from one image."""

    def close(self) -> None:  # noqa: B027
        """End a pass over the set."""

    @abstractmethod
    def classes(self, contingency: Contingency) -> npt.NDArray[np.int64]:
        """Assign a class to each segment: int64 [K], `IGNORE` for no class."""


def nearest(vectors: npt.NDArray[Any], centers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Find the nearest centre (Euclidean) of each vector.

    Args:
        vectors: [K, D].
        centers: [C, D]; centres that are NaN are never chosen.

    Returns:
        int64 [K] in 0..C-1.
    """
    norms = np.square(centers).sum(axis=1)
    distances = np.where(np.isnan(norms), np.inf, norms - 2 * (vectors @ np.nan_to_num(centers).T))
    choice: npt.NDArray[np.int64] = distances.argmin(axis=1)
    return choice
