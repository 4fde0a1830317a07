"""The paper's open-vocabulary protocol: segments come with classes, from names, and are measured as they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.protocols.base import Protocol, View


class OpenVocabulary(Protocol):
    """Each segment has the class whose name it was given; the truth has no say (section 4.4 of the paper)."""

    name = "open-vocabulary"
    rule = "each segment given the class that an embedder names"

    def classes(self, view: View) -> npt.NDArray[np.int64]:
        """The named classes.

        Raises:
            GensegError: If no names were given.
        """
        if view.named is None:
            raise GensegError("the open-vocabulary protocol needs a class for each mask; name the masks first")
        return view.named
