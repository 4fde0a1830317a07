"""The worker of a run: loads the backend once and segments shard after shard."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from genseg.errors import GensegError, user_message
from genseg.files import as_utf8
from genseg.recipe import Recipe, RecipeLike
from genseg.registry import load_backend
from genseg.runs.plan import PlannedImage, items_in, shard_name
from genseg.runs.rows import FAILED, Row
from genseg.runs.run import SHARDS
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of
from genseg.runs.validation import CRASH_LOG_TYPES, check_types
from genseg.segmenter import Segmenter

AHEAD = 4  # images that are being fetched while the model works

POISONED = "workers died on this image again and again, perhaps of too little memory; try it alone, with a smaller size"

MOST = 3  # crashes in turn on one image


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker, which are sent to each of them.

    Attributes:
        out: Folder or URL of the run.
        backend: Name of the backend.
        recipe: All keys of the recipe.
        seed: Fixes every random draw.
        recipe_hash: Hash of the run's settings.
        model: A local checkpoint or hub id in place of the backend's own.
        device: A torch device; None for CUDA where the worker has one.
        dtype: As for `genseg.Segmenter`.
        load: Further options of the backend.
        threads: Number of torch's threads on a CPU.
        keep_images: Whether rows include the image.
        pixel_confidence: Whether rows include the map of confidence.
    """

    out: str
    backend: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    recipe_hash: str = ""
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    load: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    keep_images: bool = False
    pixel_confidence: bool = True


class Worker:
    """Segments shards; an actor of Ray Data's ``map_batches``, and usable without Ray.

    A shard's file is written whole or not at all, from the plan's images alone: a worker that is killed leaves
    nothing, and one that repeats a shard writes the same.

    Args:
        settings: The settings of the run.
        segmenter: A loaded segmenter; None to load one.
    """

    def __init__(self, settings: WorkerSettings, segmenter: Segmenter | None = None) -> None:
        self._settings, self._problem = settings, ""
        try:
            self._store, self._segmenter = Store(settings.out), segmenter or load_segmenter(settings)
        except GensegError as error:  # reported by the driver: Ray would start the actor again
            self._problem = str(error)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, Sequence[Any]]:
        """Segment the shards of a batch; return for each the number of images, of failures, and what stops the run."""
        shards = np.asarray(batch["shard"]).tolist()
        results = [(0, 0, self._problem) if self._problem else self._segment(shard) for shard in shards]
        images, failed, problems = zip(*results, strict=True)
        return {"shard": shards, "images": list(images), "failed": list(failed), "problem": list(problems)}

    def _segment(self, shard: int) -> tuple[int, int, str]:
        try:
            failures = [row.status == FAILED for row in self.segment(shard)]
        except GensegError as error:  # not of an image: the folder cannot be read or written
            return 0, 0, str(error)
        return len(failures), sum(failures), ""

    def segment(self, shard: int) -> Generator[Row]:
        """Segment a shard: yield its rows as they are made, and write its file after the last.

        Raises:
            GensegError: If the run's folder cannot be read or written.
        """
        crashes, rows = CrashLog(self._store, shard), []
        try:
            for row in self.rows(items_in(self._store, shard), crashes):
                rows.append(row)
                yield row
        except (KeyboardInterrupt, GeneratorExit):
            crashes.forgive()
            raise
        self._store.write_table(shard_name(shard), table_of(rows))
        crashes.clear()

    def rows(self, images: Sequence[PlannedImage], crashes: CrashLog | None = None) -> Iterator[Row]:
        """Segment images; yield a row for each, in order. The next few images are fetched while the model works."""
        with ThreadPoolExecutor(max_workers=AHEAD, thread_name_prefix="genseg-read") as reader:
            contents: deque[Future[bytes]] = deque()
            ahead = iter(images)
            for image in images:
                while len(contents) < AHEAD and (coming := next(ahead, None)) is not None:
                    contents.append(reader.submit(coming.source.read))
                content = contents.popleft()
                if crashes is not None and crashes.is_poisoned(image.key):
                    yield Row(*image, FAILED, POISONED, recipe_hash=self._settings.recipe_hash)
                else:
                    yield self._row(*image, content)

    def _row(self, key: str, source: ImageSource, content: Future[bytes]) -> Row:
        settings = self._settings
        try:
            image = content.result()
            return Row.of(
                self._segmenter(image),
                key,
                source,
                settings.recipe_hash,
                image=image if settings.keep_images else None,
                pixel_confidence=settings.pixel_confidence,
            )
        except Exception as error:  # whatever is wrong with one image, the others are segmented
            message = as_utf8(user_message(error))
            return Row(key, source, FAILED, message, recipe_hash=settings.recipe_hash)


def resolve_recipe(
    settings: WorkerSettings, recipe: RecipeLike | None, options: Sequence[str], overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Resolve the recipe where workers run; return all its keys, and what is wrong if it cannot be used.

    Only a loaded backend knows its own preset and calibration.
    """
    try:
        return asdict(load_segmenter(settings, recipe, options, overrides).recipe), ""
    except GensegError as error:
        return {}, str(error)


def load_segmenter(
    settings: WorkerSettings,
    recipe: RecipeLike | None = None,
    options: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Segmenter:
    """Load the segmenter of a run, with the recipe of the settings or, where they have none yet, the given one.

    Raises:
        GensegError: If its backend or recipe cannot be used.
    """
    torch.set_num_threads(settings.threads)
    backend = load_backend(
        settings.backend, model=settings.model, device=settings.device, dtype=settings.dtype, **settings.load
    )
    resolved = Recipe(**settings.recipe) if settings.recipe else backend.resolve(recipe, options, **overrides or {})
    return Segmenter(backend, resolved, seed=settings.seed)


def shards_left(store: Store, shards: int) -> Iterator[int]:
    """The shards of a plan that have no file yet."""
    finished = set(store.names(SHARDS))
    return (shard for shard in range(shards) if shard_name(shard) not in finished)


class CrashLog:
    """Log of the images on which workers crashed, so that none is tried without end.

    Ray retries a shard whose worker died, indefinitely. From the second attempt on, each image is noted before it is
    begun, and one on which `MOST` attempts in turn have crashed is not tried again.

    Args:
        store: The run's folder, in which the log is a small file until the shard is finished.
        shard: Number of the shard.
    """

    def __init__(self, store: Store, shard: int) -> None:
        self._store, self._name = store, shard_name(shard).replace("shards/", "begun/").replace(".parquet", ".json")
        record = store.read_json(self._name)
        check_types(record or {}, CRASH_LOG_TYPES, store.path(self._name))
        self._is_retry = record is not None
        self._last, self._times = (record or {}).get("key"), (record or {}).get("times", 0)
        self._given_up = set(map(str, (record or {}).get("given_up", ())))
        if self._last is not None and self._times >= MOST:
            self._given_up.add(self._last)
        self._note(self._last, self._times)

    def is_poisoned(self, key: str) -> bool:
        """Whether an image is not to be tried again; if it is, note it as the one that is begun."""
        if key in self._given_up:
            return True
        if self._is_retry:  # the first attempt at a shard needs no notes, and most shards have no second
            self._note(key, self._times + 1 if key == self._last else 1)
        return False

    def forgive(self) -> None:
        """Note that the running image was stopped by its user: it has not crashed."""
        self._note(None, 0)

    def clear(self) -> None:
        """Remove the log: the shard is finished."""
        self._store.remove(self._name)

    def _note(self, key: str | None, times: int) -> None:
        self._store.write_json(self._name, {"key": key, "times": times, "given_up": sorted(self._given_up)})
