"""The embeddings of all masks of a run as a stream of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genseg.errors import GensegError
from genseg.runs.run import Run

Vectors = npt.NDArray[np.float32]


class Part(NamedTuple):
    """A few images of a run.

    Attributes:
        n_images: How many; those that failed do not count.
        vectors: float32 [N, C]: the embeddings of their masks.
    """

    n_images: int
    vectors: Vectors


def parts(run: Run) -> Iterator[Part]:
    """The embeddings of a run's masks, a few images at a time, in the order of the rows.

    Raises:
        GensegError: If an embedding is not finite, or a shard is damaged.
    """
    for shard in run.shards:
        for batch in run.store.batches(shard, ["key", "masks.list.element.embedding"]):
            images = batch.column("masks")
            masks = images.flatten()
            if not len(masks):
                continue
            vectors = masks.field("embedding").flatten().to_numpy(zero_copy_only=False).reshape(len(masks), -1)
            if not np.isfinite(vectors).all():
                _refuse(batch.column("key"), images, vectors)
            yield Part(len(images) - images.null_count, vectors)


def rows_in_chunks(parts: Iterable[Vectors], size: int) -> Iterator[Vectors]:
    """Vectors regrouped in chunks of ``size``, the last one smaller: the same however they came."""
    waiting: list[Vectors] = []
    count = 0
    for vectors in parts:
        waiting.append(vectors)
        count += len(vectors)
        while count >= size:
            joined = np.concatenate(waiting)
            yield joined[:size]
            waiting, count = [joined[size:]], count - size
    if count:
        yield np.concatenate(waiting)


def _refuse(keys: pa.Array, images: pa.Array, vectors: Vectors) -> None:
    bad = int(np.argmin(np.isfinite(vectors).all(axis=1)))
    ends = np.cumsum(images.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    key = keys[int(np.searchsorted(ends, bad, side="right"))].as_py()
    raise GensegError(f"the embeddings of image {key} are not finite; run the images again with --dtype float32")
