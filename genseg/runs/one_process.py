"""The one worker of a small run, in the caller's process."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch

from genseg.recipe import RecipeLike
from genseg.runs.rows import FAILED
from genseg.runs.worker import Worker, WorkerSettings, load_segmenter
from genseg.segmenter import Segmenter


def useful_workers(workers: int | None, shards: int, device: str | None, cpus_per_worker: int) -> int:
    """How many workers this machine has work for: at most one per shard.

    Args:
        workers: The number asked for; None for one per GPU, or as many as the CPUs allow.
        shards: Shards to make.
        device: A torch device; None for the GPUs where there are some.
        cpus_per_worker: CPUs that a worker reserves.
    """
    on_gpu = torch.cuda.is_available() and not (device or "cuda").startswith("cpu")
    most = torch.cuda.device_count() if on_gpu else (os.cpu_count() or 1) // cpus_per_worker
    return max(min(workers or most, shards), 1)


class OneProcess:
    """Segments shards one after the other in this process.

    Args:
        settings: The settings of the run, its recipe not resolved yet.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._segmenter: Segmenter | None = None

    def resolve(
        self, recipe: RecipeLike | None, options: Sequence[str], overrides: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Load the segmenter; return all keys of its recipe.

        Raises:
            GensegError: If the backend or the recipe cannot be used.
        """
        self._segmenter = load_segmenter(self._settings, recipe, options, overrides)
        return asdict(self._segmenter.recipe)

    def segment(self, recipe_hash: str, resolved: Mapping[str, Any], left: Sequence[int]) -> Generator[dict[str, Any]]:
        """Segment shards; yield a result for each image, and the failures of a shard once its file is written.

        Raises:
            GensegError: If the run's folder cannot be read or written.
        """
        worker = Worker(replace(self._settings, recipe=resolved, recipe_hash=recipe_hash), self._segmenter)
        for shard in left:
            failed = 0
            for row in worker.segment(shard):
                failed += row.status == FAILED
                yield {"images": 1, "failed": 0, "problem": ""}
            yield {"images": 0, "failed": failed, "problem": ""}


@contextmanager
def one_process(settings: WorkerSettings) -> Iterator[OneProcess]:
    """A worker in this process; afterwards torch has as many threads as before."""
    threads = torch.get_num_threads()
    try:
        yield OneProcess(settings)
    finally:
        torch.set_num_threads(threads)
