"""What runs on each accelerator: the backend, loaded once, and the images of one shard after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from genseg.errors import GensegError, user_message
from genseg.files import as_utf8
from genseg.recipe import Recipe, RecipeLike
from genseg.registry import load_backend
from genseg.runs.plan import Item, items_in, shard_name
from genseg.runs.rows import FAILED, Row
from genseg.runs.run import SHARDS
from genseg.runs.sources import Source
from genseg.runs.store import Store
from genseg.runs.tables import table_of
from genseg.segmenter import Segmenter

AHEAD = 4  # images that are being fetched while the model works

KILLER = "workers died on this image again and again, perhaps of too little memory; try it alone, with a smaller size"

MOST = 3  # deaths in turn on one image


@dataclass(frozen=True)
class Job:
    """What a worker is to do; it travels to each.

    Attributes:
        out: The run's folder or URL.
        backend: Name of the backend.
        recipe: All keys of the recipe.
        seed: Fixes every random draw.
        recipe_hash: That of the run.
        model: A local checkpoint or hub id in place of the backend's own.
        device: A torch device; None for CUDA where the worker has one.
        dtype: As for `genseg.Segmenter`.
        load: Further options of the backend.
        threads: Of torch, on a CPU.
        keep_images: Whether rows carry the image.
        pixel_confidence: Whether rows carry the map of confidence.
    """

    out: str
    backend: str
    recipe: Mapping[str, Any]
    seed: int
    recipe_hash: str
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    load: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    keep_images: bool = False
    pixel_confidence: bool = True


class Worker:
    """Segments shards; an actor of Ray Data's ``map_batches``, and usable without Ray.

    A shard's file is written wholly or not at all, from the plan's images alone: a worker that is killed leaves
    nothing, and one that does a shard again writes the same.
    """

    def __init__(self, job: Job, segmenter: Segmenter | None = None) -> None:
        self._job, self._problem = job, ""
        try:
            self._store, self._segmenter = Store(job.out), segmenter or segmenter_of(job)
        except GensegError as error:  # told by the driver: Ray would start the actor again
            self._problem = str(error)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, Sequence[Any]]:
        """Do the shards of a batch; what came of each: how many images, how many failed, and what stops the run."""
        shards = batch["shard"].tolist()
        told = [(0, 0, self._problem) if self._problem else self._told(shard) for shard in shards]
        images, failed, problems = zip(*told, strict=True)
        return {"shard": shards, "images": list(images), "failed": list(failed), "problem": list(problems)}

    def _told(self, shard: int) -> tuple[int, int, str]:
        try:
            deaths = Deaths(self._store, shard)
            rows = list(self.rows(items_in(self._store, shard), deaths))
            self._store.write_table(shard_name(shard), table_of(rows))
            deaths.over()
        except GensegError as error:  # nothing of an image: the folder cannot be read or written
            return 0, 0, str(error)
        return len(rows), sum(row.status == FAILED for row in rows), ""

    def rows(self, items: Sequence[Item], deaths: Deaths | None = None) -> Iterator[Row]:
        """The rows of images, failed ones among them, in order; the next few are fetched while the model works."""
        with ThreadPoolExecutor(max_workers=AHEAD, thread_name_prefix="genseg-read") as reader:
            waiting: deque[Future[bytes]] = deque()
            ahead = iter(items)
            for item in items:
                while len(waiting) < AHEAD and (coming := next(ahead, None)) is not None:
                    waiting.append(reader.submit(coming[1].read))
                content = waiting.popleft()
                if deaths is not None and deaths.kills(item[0]):
                    yield Row(*item, FAILED, KILLER, recipe_hash=self._job.recipe_hash)
                else:
                    yield self._row(*item, content)

    def _row(self, key: str, source: Source, content: Future[bytes]) -> Row:
        job = self._job
        make = partial(Row, key, source, recipe_hash=job.recipe_hash)
        try:
            image = content.result()
            found = self._segmenter(image)
        except Exception as error:  # whatever is wrong with one image, the others are segmented
            return make(status=FAILED, error=as_utf8(user_message(error)))
        return Row.of(
            found,
            key,
            source,
            job.recipe_hash,
            image=image if job.keep_images else None,
            pixel_confidence=job.pixel_confidence,
        )


def resolved(
    job: Job, asked: RecipeLike | None, options: Sequence[str], overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """All keys of the recipe that a worker would run, and what is wrong if it could not.

    Only a loaded backend knows its own preset and calibration; it is loaded where workers are.
    """
    try:
        return asdict(segmenter_of(job, asked, options, overrides).recipe), ""
    except GensegError as error:
        return {}, str(error)


def segmenter_of(
    job: Job, asked: RecipeLike | None = None, options: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> Segmenter:
    """The segmenter of a job: with its recipe, or with the one that is asked for where it has none yet.

    Raises:
        GensegError: If its backend or recipe cannot be used.
    """
    torch.set_num_threads(job.threads)
    backend = load_backend(job.backend, model=job.model, device=job.device, dtype=job.dtype, **job.load)
    recipe = Recipe(**job.recipe) if job.recipe else backend.resolve(asked, options, **overrides or {})
    return Segmenter(backend, recipe, seed=job.seed)


def shards_left(store: Store, shards: int) -> Iterator[int]:
    """The shards of a plan that have no file yet."""
    there = np.zeros(shards, dtype=bool)
    for name in store.names(SHARDS):
        there[int(name.rpartition("-")[2].removesuffix(".parquet"))] = True
    return iter(np.flatnonzero(~there).tolist())


class Deaths:
    """What is known of the attempts at a shard; a small file while it is not done.

    Args:
        store: The run's folder.
        shard: Its number.
    """

    def __init__(self, store: Store, shard: int) -> None:
        self._store, self._name = store, shard_name(shard).replace("shards/", "begun/").replace(".parquet", ".json")
        known = store.read_json(self._name)
        self._again = known is not None
        self._last, self._times = (known or {}).get("key"), (known or {}).get("times", 0)
        self._given_up = set((known or {}).get("given_up", ()))
        if self._last is not None and self._times >= MOST:
            self._given_up.add(self._last)
        self._note(self._last, self._times)

    def kills(self, key: str) -> bool:
        """Whether an image is not to be tried any more; else it is noted as the one that is begun."""
        if key in self._given_up:
            return True
        if self._again:  # the first attempt at a shard needs no notes, and nearly all have no second
            self._note(key, self._times + 1 if key == self._last else 1)
        return False

    def over(self) -> None:
        """The shard is done."""
        self._store.remove(self._name)

    def _note(self, key: str | None, times: int) -> None:
        self._store.write_json(self._name, {"key": key, "times": times, "given_up": sorted(self._given_up)})
