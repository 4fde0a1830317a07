"""A random sample of a stream of vectors that does not fit into memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_VECTORS = 20_000
MAX_BYTES = 32 * 2**20


class Reservoir:
    """A uniform sample of a stream of vectors (Vitter's algorithm R), deterministic in the order of the stream.

    It holds at most `MAX_VECTORS` vectors and `MAX_BYTES` bytes.

    Args:
        seed: Fixes the sample.
    """

    def __init__(self, seed: int) -> None:
        self._draws = np.random.default_rng(seed)
        self._sample: npt.NDArray[np.float32] | None = None
        self._count = 0

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Add vectors [N, D]."""
        if self._sample is None:
            width = vectors.shape[1]
            self._sample = np.empty((min(MAX_VECTORS, MAX_BYTES // (4 * width)), width), dtype=np.float32)
        place = np.arange(self._count, self._count + len(vectors))
        late = place >= len(self._sample)
        place[late] = self._draws.integers(
            0, place[late] + 1
        )  # any position so far; positions beyond the sample are dropped
        drawn = place < len(self._sample)
        self._sample[place[drawn]] = vectors[drawn]
        self._count += len(vectors)

    def vectors(self) -> npt.NDArray[np.float32]:
        """Return the sample: float32 [N, D]."""
        return np.empty((0, 0), dtype=np.float32) if self._sample is None else self._sample[: self._count]

    @property
    def is_whole(self) -> bool:
        """Whether the sample holds the whole stream."""
        return self._count == len(self.vectors())
