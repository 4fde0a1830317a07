"""A sample of more vectors than memory holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST_VECTORS = 20_000  # in a sample
MOST_BYTES = 32 * 2**20  # that they take


class Reservoir:
    """A uniform sample of a stream of vectors (Vitter's algorithm R), the same for the same order of the stream.

    It holds `MOST_VECTORS`, or as many as `MOST_BYTES` hold, or all there are if they are fewer.
    """

    def __init__(self, seed: int) -> None:
        self._draws = np.random.default_rng(seed)
        self._kept: npt.NDArray[np.float32] | None = None
        self._seen = 0

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Take in vectors [N, D]."""
        if self._kept is None:
            width = vectors.shape[1]
            self._kept = np.empty((min(MOST_VECTORS, MOST_BYTES // (4 * width)), width), dtype=np.float32)
        place = np.arange(self._seen, self._seen + len(vectors))
        late = place >= len(self._kept)
        place[late] = self._draws.integers(0, place[late] + 1)  # any of those seen so far; the first ones are kept
        kept = place < len(self._kept)
        self._kept[place[kept]] = vectors[kept]
        self._seen += len(vectors)

    def vectors(self) -> npt.NDArray[np.float32]:
        """The sample: float32 [N, D]."""
        return np.empty((0, 0), dtype=np.float32) if self._kept is None else self._kept[: self._seen]

    @property
    def is_whole(self) -> bool:
        """Whether the sample is all there was."""
        return self._seen == len(self.vectors())
