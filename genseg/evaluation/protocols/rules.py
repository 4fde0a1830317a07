"""The protocols, each of which assigns one class to every segment."""

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

    The first pass clusters the embeddings of all masks of the dataset, each counting once, into as many clusters as
    there are classes (k-means). The second pass counts pixels by cluster and class, and matches clusters with classes
    one to one such that most pixels are correct (Hungarian). If there are more masks than a `Reservoir` holds, k-means
    sees a uniform sample.
    """

    name = "traditional"
    rule = "segments clustered over the set, each cluster given one class by the best one-to-one matching"
    passes = 2
    needs_embeddings = True

    def __init__(self, n_classes: int, seed: int = 0) -> None:
        super().__init__(n_classes, seed)
        self._sample = Reservoir(seed)
        self._centers: npt.NDArray[np.float32] | None = None
        self._confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
        self._class_of: npt.NDArray[np.int64]

    def fit(self, contingency: Contingency) -> None:
        """Add an image's embeddings; in the second pass, its pixels by cluster and class."""
        if self._centers is None:
            self._sample.add(contingency.features[contingency.table.any(axis=1)])
        else:
            np.add.at(self._confusion, nearest(contingency.features, self._centers), contingency.table)

    def close(self) -> None:
        """Cluster; after the second pass, match.

        Raises:
            GensegError: If the dataset has fewer masks than classes.
        """
        if self._centers is not None:
            self._class_of = linear_sum_assignment(self._confusion, maximize=True)[1]
            return
        vectors = self._sample.vectors()
        if len(vectors) < self.n_classes:
            raise GensegError(
                f"the traditional protocol makes {self.n_classes} clusters of {len(vectors)} masks; take more images"
            )
        # In place; k-means would otherwise copy the vectors.
        means = KMeans(self.n_classes, n_init=1, random_state=self.seed, copy_x=False).fit(vectors)
        self._centers = means.cluster_centers_
        self._sample = Reservoir(self.seed)

    def classes(self, contingency: Contingency) -> npt.NDArray[np.int64]:
        """Return the class with which each segment's cluster is matched."""
        assert self._centers is not None
        return self._class_of[nearest(contingency.features, self._centers)]


class Concept(EvaluationProtocol):
    """Each segment takes the class whose concept is nearest (the paper's "modified" protocol).

    A pixel has the embedding of its mask, and the concept of a class is the mean over its pixels in the dataset. As
    concepts are computed from ground truth, the protocol measures how well embeddings separate classes.

    Attributes:
        concepts: float64 [C, D], set by `close`; NaN for classes that do not occur.
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

    def fit(self, contingency: Contingency) -> None:
        """Add an image's pixels to the means of their classes."""
        if self._sums is None:
            self._sums = np.zeros((self.n_classes, contingency.features.shape[1]))
        present = np.flatnonzero(contingency.table.any(axis=0))
        self._sums[present] += contingency.table[:, present].T @ contingency.features.astype(np.float64)
        self._pixels += contingency.table.sum(axis=0)

    def close(self) -> None:
        """Compute the concepts; classes that do not occur are never chosen."""
        assert self._sums is not None
        with np.errstate(invalid="ignore"):
            self.concepts = self._sums / self._pixels[:, None]

    def classes(self, contingency: Contingency) -> npt.NDArray[np.int64]:
        """Return the class of the nearest concept."""
        return nearest(contingency.features, self.concepts)


class OpenVocabulary(EvaluationProtocol):
    """Each segment takes the class by which an embedder named it, without ground truth (section 4.4 of the paper)."""

    name = "open-vocabulary"
    rule = "each segment given the class that an embedder names"

    def classes(self, contingency: Contingency) -> npt.NDArray[np.int64]:
        """Return the named classes.

        Raises:
            GensegError: If the segments have not been named.
        """
        if contingency.named is None:
            raise GensegError("the open-vocabulary protocol needs a class for each mask; name the masks first")
        return contingency.named


class Oracle(EvaluationProtocol):
    """Each segment takes the class that most of its pixels have; the smallest such class on a tie.

    It is an upper bound of the accuracy that any naming of these segments can reach. It rewards many small segments.
    """

    name = "oracle"
    rule = "each segment given the class that most of its pixels have"

    def classes(self, contingency: Contingency) -> npt.NDArray[np.int64]:
        """Return the majority class of each segment; `IGNORE` for segments without measured pixels."""
        return np.where(contingency.table.any(axis=1), contingency.table.argmax(axis=1), IGNORE)


class PerImageManyToOne(Oracle):
    """The same classes as `Oracle`, with mIoU and accuracy computed per image and averaged over images.

    As any number of segments may take one class, the best matching is the majority vote.
    """

    name = "per-image-many-to-one"
    rule = f"{Oracle.rule}; mIoU and accuracy averaged over images"
    pooled = False


class PerImageHungarian(EvaluationProtocol):
    """Each image's segments are matched with its classes one to one, such that most pixels are correct (Hungarian).

    Unmatched segments take no class: their pixels are false negatives only.
    """

    name = "per-image-hungarian"
    rule = "segments given classes by the best one-to-one matching in each image"

    def classes(self, contingency: Contingency) -> npt.NDArray[np.int64]:
        """Return the matched class of each segment; `IGNORE` for unmatched segments and matches without pixels."""
        matched = np.full(len(contingency.table), IGNORE, dtype=np.int64)
        segments, classes = linear_sum_assignment(contingency.table, maximize=True)
        shared = contingency.table[segments, classes] > 0
        matched[segments[shared]] = classes[shared]
        return matched


class PerImageHungarianAll(EvaluationProtocol):
    """The same matching, in which every segment takes a class while there are classes.

    This is the published code of DiffSeg (Tian et al., CVPR 2024), which DiffCut (Couairon et al., NeurIPS 2024) and
    Seg4Diff share: segments that remain take classes that the image lacks, as the solver happens to decide, and their
    pixels are false positives of these. Only segments beyond the number of classes take none.
    """

    name = "per-image-hungarian-all"
    rule = f"{PerImageHungarian.rule}; remaining segments take classes without pixels"

    def classes(self, contingency: Contingency) -> npt.NDArray[np.int64]:
        """Return the matched class of each segment; `IGNORE` for segments beyond the number of classes."""
        return np.concatenate([self._matched(table) for table in contingency.groups])

    def _matched(self, table: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        segments, counts = _match_all(table)
        matched = np.full(counts.shape[1], IGNORE, dtype=np.int64)
        matched[segments] = np.arange(len(segments))
        return matched[: len(table)]


def merge_unmatched(table: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Merge the segments with which no foreground class is matched into one, as DiffCut's code does.

    A class without pixels in any matched segment has no match. A class whose pixels all lie in segments of other
    classes keeps its own, as in that code.

    Args:
        table: int64 [K, C], the number of pixels of each foreground class in each segment.

    Returns:
        int64 [K], the new number of each segment: its own, or K.
    """
    segments, counts = _match_all(table)
    matched = segments[counts[:, segments].any(axis=1)]
    numbers = np.arange(len(table))
    return np.where(np.isin(numbers, matched), numbers, len(table))


def _match_all(table: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Match each class with a segment of its own, such that most pixels are correct.

    Classes are rows and segments are columns, with empty columns where there are fewer segments than classes, because
    the solver decides between equal matchings by the matrix.

    Args:
        table: int64 [K, C], the number of pixels of each class in each segment.

    Returns:
        A segment for each class, int64 [C], from K on an empty one; and the matrix, int64 [C, max(C, K)].
    """
    n_segments, n_classes = table.shape
    counts = np.zeros((n_classes, max(n_segments, n_classes)), dtype=np.int64)
    counts[:, :n_segments] = table.T
    return linear_sum_assignment(counts, maximize=True)[1], counts
