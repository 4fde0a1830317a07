"""The cost of a run, estimated from a few of its images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genseg.errors import GensegError
from genseg.files import in_bytes
from genseg.progress import minutes
from genseg.recipe import RecipeLike
from genseg.runs.one_process import useful_workers
from genseg.runs.plan import items_in, items_of, make_plan
from genseg.runs.rows import FAILED, Row
from genseg.runs.store import Store, parquet
from genseg.runs.tables import table_of
from genseg.runs.worker import Worker, WorkerSettings, load_segmenter

SAMPLE, PART = 4, 10  # images, evenly spaced, and at most one of so many; the first warms the model up
TRIED = 16  # images, at most, where some of these cannot be segmented
SHARD = 64


@dataclass(frozen=True)
class RunCost:
    """Cost of a run, if all images are like the sample.

    Attributes:
        images: Number of images.
        sample: Number of images that were tried for the estimate.
        workers: Number of workers that share the work.
        seconds_per_image: Seconds that one worker takes for an image.
        seconds: Seconds of the run, including its start.
        evaluations: Model evaluations of the run.
        bytes: Size of the shards.
    """

    images: int
    sample: int
    workers: int
    seconds_per_image: float
    seconds: float
    evaluations: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, for JSON."""
        return asdict(self)

    def in_words(self) -> str:
        """Format the estimate, one line each."""
        return (
            f"images: {self.images:,}\n"
            f"time: {minutes(self.seconds)} with {self.workers} workers, {self.seconds_per_image:.2f} s an image each\n"
            f"model evaluations: {self.evaluations:,}\n"
            f"shards: {in_bytes(self.bytes)}\n"
            f"measured on {self.sample} images in one process; nothing was written"
        )


def estimate_run(
    given: str | Path,
    backend: str = "tiny",
    recipe: RecipeLike | None = None,
    *,
    options: Sequence[str] = (),
    workers: int | None = None,
    cpus_per_worker: int = 1,
    shard_size: int = 64,
    **settings: Any,
) -> RunCost:
    """Count the images of a run, segment a few of them in this process, and scale up; without Ray.

    Arguments and errors are those of `genseg.run_dataset`; ``settings`` are fields of `WorkerSettings`. Workers that
    share memory bandwidth are slower than one alone, so the time is a lower bound.

    Raises:
        GensegError: If the input, the backend or the recipe cannot be used, or no image of the sample.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="genseg-dry-run-") as folder:
        store = Store(folder)
        images, _ = make_plan(store, items_of(str(given)), SHARD)
        sample = min(SAMPLE, max(images // PART, 1))
        spaced = (i * images // count for count in (sample, min(TRIED, images)) for i in range(count))
        candidates = [items_in(store, at // SHARD)[at % SHARD] for at in dict.fromkeys(spaced)]
    worker_settings = WorkerSettings(".", backend, threads=cpus_per_worker, **settings)
    segmenter = load_segmenter(worker_settings, recipe, options)
    starting = time.perf_counter() - start
    rows: list[Row] = []
    done: list[Row] = []
    for row in Worker(worker_settings, segmenter).rows(candidates):
        rows.append(row)
        done += [row] if row.status != FAILED else []
        if len(done) == sample:
            break
    if not done:
        raise GensegError(f"none of {len(rows)} images of {given} can be segmented: {rows[0].error}")
    measured = done[1:] or done  # the first one warms the model up
    each = sum(sum(row.cost.seconds.values()) for row in measured) / len(measured)
    number = useful_workers(workers, -(-images // shard_size), worker_settings.device, cpus_per_worker)
    return RunCost(
        images=images,
        sample=len(rows),
        workers=number,
        seconds_per_image=each,
        seconds=starting + each * -(-images // number),
        evaluations=round(images * sum(row.cost.evaluations for row in done) / len(done)),
        bytes=round(images * len(parquet(table_of(done))) / len(done)),
    )
