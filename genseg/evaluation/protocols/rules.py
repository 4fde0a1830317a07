"""The protocols by which segments are given classes, one class each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from genseg.errors import GensegError
from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.protocols.base import Contingency, EvaluationProtocol, nearest
from genseg.evaluation.reservoir import Reservoir


class Traditional(EvaluationProtocol):
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

    def fit(self, view: Contingency) -> None:
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

    def classes(self, view: Contingency) -> npt.NDArray[np.int64]:
        """The class that each segment's cluster is matched with."""
        assert self._centres is not None
        return self._class_of[nearest(view.features, self._centres)]


class Concept(EvaluationProtocol):
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

    def fit(self, view: Contingency) -> None:
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

    def classes(self, view: Contingency) -> npt.NDArray[np.int64]:
        """The class of the nearest concept."""
        return nearest(view.features, self.concepts)


class OpenVocabulary(EvaluationProtocol):
    """Each segment has the class whose name it was given; the truth has no say (section 4.4 of the paper)."""

    name = "open-vocabulary"
    rule = "each segment given the class that an embedder names"

    def classes(self, view: Contingency) -> npt.NDArray[np.int64]:
        """The named classes.

        Raises:
            GensegError: If no names were given.
        """
        if view.named is None:
            raise GensegError("the open-vocabulary protocol needs a class for each mask; name the masks first")
        return view.named


class Oracle(EvaluationProtocol):
    """Each segment takes the class that most of its pixels have; the smallest such class on a tie.

    The ceiling of what any naming of these segments can reach in accuracy. It rewards many small segments.
    """

    name = "oracle"
    rule = "each segment given the class that most of its pixels have"

    def classes(self, view: Contingency) -> npt.NDArray[np.int64]:
        """The majority class of each segment; `IGNORE` for one without measured pixels."""
        return np.where(view.table.any(axis=1), view.table.argmax(axis=1), IGNORE)


class PerImageManyToOne(Oracle):
    """As `oracle`, but mIoU and accuracy are measured in each image and then averaged over images.

    Any number of segments may take one class, so matching them best is the majority vote and nothing else.
    """

    name = "per-image-many-to-one"
    rule = f"{Oracle.rule}; mIoU and accuracy averaged over images"
    pooled = False


class PerImageHungarian(EvaluationProtocol):
    """One-to-one matching of each image's segments with its classes (Hungarian) that has most pixels right.

    The rule of DiffSeg (Tian et al., CVPR 2024) and DiffCut (Couairon et al., NeurIPS 2024), who then add pixels up
    over the set. Segments that are left over take no class: their pixels are missed, and false in no class.
    """

    name = "per-image-hungarian"
    rule = "segments given classes by the best one-to-one matching in each image"

    def classes(self, view: Contingency) -> npt.NDArray[np.int64]:
        """The matched class of each segment; `IGNORE` for one that shares no pixel with a class left to it."""
        found = np.full(len(view.table), IGNORE, dtype=np.int64)
        segments, classes = linear_sum_assignment(view.table, maximize=True)
        shared = view.table[segments, classes] > 0
        found[segments[shared]] = classes[shared]
        return found
