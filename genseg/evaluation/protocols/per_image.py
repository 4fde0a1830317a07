"""Protocols that look at one image at a time and give its segments classes by its own truth: they need no features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.protocols.base import Protocol, View


class Oracle(Protocol):
    """Each segment takes the class that most of its pixels have; the smallest such class on a tie.

    The ceiling of what any naming of these segments can reach in accuracy. It rewards many small segments.
    """

    name = "oracle"
    rule = "each segment given the class that most of its pixels have"

    def classes(self, view: View) -> npt.NDArray[np.int64]:
        """The majority class of each segment; `IGNORE` for one without measured pixels."""
        return np.where(view.table.any(axis=1), view.table.argmax(axis=1), IGNORE)


class PerImageManyToOne(Oracle):
    """As `oracle`, but mIoU and accuracy are measured in each image and then averaged over images.

    Any number of segments may take one class, so matching them best is the majority vote and nothing else.
    """

    name = "per-image-many-to-one"
    rule = f"{Oracle.rule}; mIoU and accuracy averaged over images"
    pooled = False


class PerImageHungarian(Protocol):
    """One-to-one matching of each image's segments with its classes (Hungarian) that has most pixels right.

    The rule of DiffSeg (Tian et al., CVPR 2024) and DiffCut (Couairon et al., NeurIPS 2024), who then add pixels up
    over the set. Segments that are left over take no class: their pixels are missed, and false in no class.
    """

    name = "per-image-hungarian"
    rule = "segments given classes by the best one-to-one matching in each image"

    def classes(self, view: View) -> npt.NDArray[np.int64]:
        """The matched class of each segment; `IGNORE` for one that shares no pixel with a class left to it."""
        found = np.full(len(view.table), IGNORE, dtype=np.int64)
        segments, classes = linear_sum_assignment(view.table, maximize=True)
        shared = view.table[segments, classes] > 0
        found[segments[shared]] = classes[shared]
        return found
