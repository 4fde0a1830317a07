"""Concepts: classes of a whole run, found by clustering the embeddings of its masks or given by a few examples.

A mask takes the concept whose centre is nearest to its embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from genseg.errors import GensegError
from genseg.evaluation.protocols.base import nearest
from genseg.evaluation.reservoir import Reservoir
from genseg.progress import Progress
from genseg.runs.class_sets import assign_classes, check_name, load_centers, save_centers
from genseg.runs.embeddings import Vectors, parts, rows_in_chunks
from genseg.runs.report import write_report
from genseg.runs.rows import DONE, Row
from genseg.runs.run import Run

AUTO_RANGE = range(2, 61)  # the numbers of concepts that k="auto" chooses from
ELBOW_MASKS = 4  # a concept, at least: an inertia falls to 0 as each mask becomes a concept of its own
CHUNK = 4096  # masks, at least, that each step of mini-batch k-means sees, whatever the sizes of shards
PASSES = 3  # of mini-batch k-means over the run

COLUMNS = ["key", *(f"masks.list.element.{name}" for name in ("label", "area", "embedding"))]


@dataclass(frozen=True)
class Concepts:
    """Classes, each with a center in the space of embeddings.

    Attributes:
        name: Name of the set of classes in a run.
        names: Names of the concepts 0..K-1.
        centres: float32 (K, C), in the space of the masks' embeddings; NaN for a class that is never assigned.
    """

    name: str
    names: tuple[str, ...]
    centres: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes that are never assigned, as they have no example."""
        return tuple(self.names[k] for k in np.flatnonzero(np.isnan(self.centres).any(axis=1)))

    def classes_of(self, row: Row) -> npt.NDArray[np.int32]:
        """Return the nearest concept (Euclidean) of each mask of an image.

        Args:
            row: Of any run of the same backend and recipe, with its masks.

        Returns:
            int32, one for each label up to the largest; -1 for a label that no pixel has.

        Raises:
            GensegError: If the embeddings are of another length than the centres.
        """
        vectors = np.stack([mask.embedding for mask in row.masks])
        if vectors.shape[1] != self.centres.shape[1]:
            raise GensegError(
                f"the concepts {self.name} have {self.centres.shape[1]} numbers and the embeddings of {row.key} "
                f"{vectors.shape[1]}; take concepts of a run of the same backend and recipe"
            )
        classes = np.full(row.masks[-1].label + 1, -1, dtype=np.int32)
        classes[[mask.label for mask in row.masks]] = nearest(vectors, self.centres)
        return classes

    def assign(self, run: Run, progress: Progress | None = None, **about: Any) -> None:
        """Give every mask of a run its nearest concept, as the set of classes `name`, and keep the centres with it.

        The run's report shows them from then on.

        Args:
            run: The one that the concepts come from, with images added to it or not, or another.
            progress: Progress callback: ``("classes", done, total)`` in images, then ``("report", 0, 1)``.
            **about: Further facts for the record.

        Raises:
            GensegError: As `classes_of`, or if the run cannot be written to.
        """
        assign_classes(run, self.name, self.names, self.classes_of, COLUMNS, progress, **about)
        save_centers(run, self.name, self.names, self.centres)
        write_report(run, progress)

    @classmethod
    def load(cls, run: Run, name: str) -> Concepts:
        """Load the concepts of a run.

        Raises:
            GensegError: If there are no such classes, or they are names, which have no centres.
        """
        names, centres = run.class_names(name), load_centers(run, name)
        if centres is None:
            raise GensegError(f"the classes {name} have no centers; name those of 'genseg concepts' or --examples")
        return cls(name, names, centres)


def find_concepts(
    run: Run | str | Path,
    k: int | str = 27,
    *,
    name: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Concepts:
    """Find the concepts of a run by k-means over the embeddings of all its masks, and give every mask its nearest.

    It is the first step of the traditional protocol (section 4.2 of the paper): each mask counts once. Up to 20,000
    masks, or 32 MiB of their embeddings, it is that protocol's own k-means. Above, k-means on a uniform sample of
    that size gives the first centres, and mini-batch k-means (Sculley, 2010) improves them in three passes over all
    masks. Memory does not grow with the run. The result depends on the seed and the order of the rows, not on how
    they are parted into shards.

    Args:
        run: A run, or the folder or URL of one.
        k: Number of concepts; ``"auto"`` for the elbow of the k-means inertia on the sample, from 2 to 60
            and at most a quarter of the masks.
        name: Name of the set of classes; None for ``concepts-K``. A set of the same name is replaced.
        seed: Fixes sample and k-means.
        progress: Progress callback: ``(stage, done, total)``.

    Returns:
        The concepts, named ``concept 0``, ``concept 1``, ...; `ClassCounts.of(run, concepts.name)` counts them.

    Raises:
        GensegError: For fewer masks than concepts, or embeddings that are not finite.
    """
    run = run if isinstance(run, Run) else Run(str(run))
    if name is not None:
        check_name(name)
    if k != "auto" and (not isinstance(k, int) or k < 1):
        raise GensegError(f"k must be a number of concepts of at least 1, or 'auto', not {k}")
    on_progress = progress or (lambda *_: None)
    total = run.counts()[DONE]
    reservoir = Reservoir(seed)
    for vectors in _embeddings(run, "sample", total, 1, on_progress):
        reservoir.add(vectors)
    sample = reservoir.vectors()
    least = ELBOW_MASKS * (AUTO_RANGE[0] + 2) if k == "auto" else int(k)  # an elbow has numbers on either side
    if len(sample) < least:
        raise GensegError(f"the run has {len(sample)} masks, fewer than {least}; choose a smaller k or add images")
    n_concepts = _elbow(sample, seed, on_progress) if k == "auto" else int(k)
    on_progress("cluster", 0, 1)
    centres = _kmeans(sample, n_concepts, 1, seed).cluster_centers_
    if not reservoir.is_whole:
        means = MiniBatchKMeans(
            n_concepts, init=centres, n_init=1, random_state=seed, batch_size=CHUNK, reassignment_ratio=0
        )
        size = max(CHUNK, n_concepts)  # the first step must have a mask for each
        for chunk in rows_in_chunks(_embeddings(run, "centres", total, PASSES, on_progress), size):
            means.partial_fit(chunk)
        centres = means.cluster_centers_
    names = tuple(f"concept {number}" for number in range(n_concepts))
    concepts = Concepts(name or f"concepts-{n_concepts}", names, centres.astype(np.float32))
    concepts.assign(run, progress, kind="k-means", seed=seed)
    return concepts


def _embeddings(run: Run, stage: str, n_images: int, passes: int, on_progress: Progress) -> Iterator[Vectors]:
    """Yield the embeddings of a run, once per pass."""
    done = 0
    for _ in range(passes):
        for part in parts(run):
            yield part.vectors
            done += part.n_images
            on_progress(stage, done, passes * n_images)


def _kmeans(sample: Vectors, k: int, n_init: int, seed: int) -> KMeans:
    """Fit k-means as the traditional protocol does."""
    with warnings.catch_warnings():  # fewer distinct embeddings than concepts are no mistake
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(k, n_init=n_init, random_state=seed).fit(sample)


def _elbow(sample: Vectors, seed: int, on_progress: Progress) -> int:
    """Return the number of concepts at which the inertia of the sample bends most."""
    candidates = [k for k in AUTO_RANGE if k * ELBOW_MASKS <= len(sample)]
    inertias = []
    for done, k in enumerate(candidates):
        on_progress("elbow", done, len(candidates))
        inertias.append(_kmeans(sample, k, 3, seed).inertia_)
    return _knee(candidates, inertias)


def _knee(candidates: Sequence[int], inertias: Sequence[float]) -> int:
    """Find the knee of an inertia curve, as "kneedle" does (Satopää et al., 2011).

    On log inertia against log K, it is the K whose point lies farthest below the chord between the first and the last.
    """
    x = np.log(candidates)
    y = np.log(np.maximum(inertias, np.finfo(np.float32).tiny))
    chord = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    return candidates[int(np.argmax(chord - y))]
