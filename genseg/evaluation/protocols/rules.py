"""The traditional protocol of unsupervised segmentation: one clustering and one matching for the whole set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from genseg.errors import GensegError
from genseg.evaluation.protocols.base import Protocol, View, nearest
from genseg.evaluation.reservoir import Reservoir


class Traditional(Protocol):
    """Each segment takes the class of its cluster (Ji et al., 2019; PiCIE, STEGO and section 4.2 of the paper).

    The first pass clusters the embeddings of the set's masks, each counting once, into as many clusters as there are
    classes (k-means); the second counts the confusion of clusters and classes, whose one-to-one matching with most
    pixels right (Hungarian) is that of the set. Of more masks than a `Reservoir` holds, k-means sees a uniform sample.
    """

    name = "traditional"
    rule = "segments clustered over the set, each cluster given one class by the best one-to-one matching"
    passes = 2
    needs_embeddings = True

    def __init__(self, n_classes: int, seed: int = 0) -> None:
        super().__init__(n_classes, seed)
        self._sample = Reservoir(seed)
        self._centres: npt.NDArray[np.float32] | None = None
        self._confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
        self._class_of: npt.NDArray[np.int64]

    def fit(self, view: View) -> None:
        """Take in an image's embeddings, in the second pass its pixels by cluster and class."""
        if self._centres is None:
            self._sample.add(view.features[view.table.any(axis=1)])
        else:
            np.add.at(self._confusion, nearest(view.features, self._centres), view.table)

    def close(self) -> None:
        """Cluster, after the second pass match.

        Raises:
            GensegError: If the set has fewer masks than classes.
        """
        if self._centres is not None:
            self._class_of = linear_sum_assignment(self._confusion, maximize=True)[1]
            return
        vectors = self._sample.vectors()
        if len(vectors) < self.n_classes:
            raise GensegError(
                f"the traditional protocol makes {self.n_classes} clusters of {len(vectors)} masks; take more images"
            )
        # In place: k-means would otherwise centre a copy.
        means = KMeans(self.n_classes, n_init=1, random_state=self.seed, copy_x=False).fit(vectors)
        self._centres = means.cluster_centers_
        self._sample = Reservoir(self.seed)

    def classes(self, view: View) -> npt.NDArray[np.int64]:
        """The class that each segment's cluster is matched with."""
        assert self._centres is not None
        return self._class_of[nearest(view.features, self._centres)]
