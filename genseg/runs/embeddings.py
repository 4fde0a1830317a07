"""Embeddings of all masks of a run, as a stream of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genseg.runs.run import Run
from genseg.runs.tables import SCHEMA
from genseg.runs.validation import NOT_FINITE

Vectors = npt.NDArray[np.float32]


class Part(NamedTuple):
    """A few images of a run.

    Attributes:
        n_images: Number of images, without those that failed.
        vectors: float32 [N, C]: the embeddings of their masks.
    """

    n_images: int
    vectors: Vectors


def parts(run: Run) -> Iterator[Part]:
    """Read the embeddings of a run's masks, a few images at a time, in the order of the rows.

    Damaged shards, and images with embeddings that are not finite, are left out; see `Run.damaged`.
    """
    for shard in run.shards:
        with run.leaving_out(shard):
            for batch in run.store.batches(shard, SCHEMA, ["key", "masks.list.element.embedding"]):
                images = batch.column("masks")
                vectors = _vectors(images)
                if vectors is not None:
                    bad: npt.NDArray[np.bool_] = np.logical_not(np.isfinite(vectors).all(axis=1))
                    if bad.any():
                        bad = _of_same_image(images, batch.column("key"), bad, run)
                    yield Part(len(images) - images.null_count, vectors[~bad])


def rows_in_chunks(parts: Iterable[Vectors], size: int) -> Iterator[Vectors]:
    """Regroup vectors in chunks of ``size``, the last one smaller."""
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


def _vectors(images: pa.Array) -> Vectors | None:
    """Return the embeddings of all masks of images, float32 [N, C]; None if there is no mask.

    Raises:
        ValueError: If they are of different lengths.
    """
    masks = images.flatten()
    if not len(masks):
        return None
    embeddings = masks.field("embedding")
    lengths = embeddings.value_lengths().unique()
    if len(lengths) != 1 or not lengths[0].as_py():
        raise ValueError("embeddings of different lengths")
    vectors: Vectors = embeddings.flatten().to_numpy(zero_copy_only=False).reshape(len(masks), -1)
    return vectors


def _of_same_image(images: pa.Array, keys: pa.Array, bad: npt.NDArray[np.bool_], run: Run) -> npt.NDArray[np.bool_]:
    """Extend what is bad to all masks of the same images, and note these."""
    lengths = images.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    image = np.repeat(np.arange(len(images)), lengths)
    for number in np.unique(image[bad]).tolist():
        run.damaged[keys[number].as_py()] = NOT_FINITE
    return np.isin(image, image[bad])
