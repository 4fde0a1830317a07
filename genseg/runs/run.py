"""A run on disk or in a bucket, as `genseg.runs.driver` writes and resumes it: shards of rows, read lazily."""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genseg.errors import GensegError, unknown
from genseg.recipe import Recipe
from genseg.runs.rows import DAMAGED, DONE, Row
from genseg.runs.store import Store
from genseg.runs.tables import SCHEMA, rows_of
from genseg.runs.validation import MANIFEST_TYPES, check_types

MANIFEST = "run.json"
SHARDS = "shards/*.parquet"
CLASSES = pa.schema([("classes", pa.list_(pa.int32()))])


@dataclass
class Skipped:
    """Images, or whole shards, that were skipped because they cannot be read or used.

    Attributes:
        count: Their number.
        reason: The problem of the first; empty if there is none.
    """

    count: int = 0
    reason: str = ""

    def add(self, reason: str) -> None:
        """Count one more."""
        self.count += 1
        self.reason = self.reason or reason


class Run:
    """The shards that ``genseg run`` or ``genseg synth`` has written, finished or not.

    Files are checked as they are read. A damaged shard is skipped with a warning.

    Attributes:
        store: The folder.
        settings: The manifest: backend, recipe, seed, versions, input and how many images there are in all.
        damaged: The problem of each damaged shard and row read so far, by file name or key.

    Args:
        path: A local folder or an fsspec URL.

    Raises:
        GensegError: If it does not exist or holds no run.
    """

    def __init__(self, path: str) -> None:
        self.store = Store(str(path))
        settings = self.store.read_json(MANIFEST)
        if settings is None and self.store.local and not Path(self.store.path("")).exists():
            raise GensegError(f"{path} does not exist; check the path")
        if settings is None:
            raise GensegError(f"{path} holds no run; name the folder that 'genseg run' wrote to")
        check_types(settings, MANIFEST_TYPES, self.store.path(MANIFEST))
        self.settings: Mapping[str, Any] = settings
        self.damaged: dict[str, str] = {}

    @property
    def shards(self) -> list[str]:
        """Names of the shards that are there, sorted."""
        return self.store.names(SHARDS)

    def __len__(self) -> int:
        """Number of images, done or failed, so far."""
        count = 0
        for shard in self.shards:
            with self.leaving_out(shard):
                count += self.store.count(shard)
        return count

    def rows(
        self,
        columns: Sequence[str] | None = None,
        *,
        classes: str | None = None,
        failed: bool = False,
        shards: Sequence[str] | None = None,
    ) -> Iterator[Row]:
        """Read the images one after the other, sorted by shard; a few are in memory at a time.

        Args:
            columns: Columns of `genseg.runs.tables.SCHEMA` to read; None for all. The others have their defaults.
            classes: Name of a set of classes to read with the rows; see `assign`.
            failed: Whether to include rows that failed or are damaged.
            shards: Names from `shards`; None for all.

        Raises:
            GensegError: If there are no such classes, or none of some shards.
        """
        n_classes = 0 if classes is None else len(self.class_names(classes))
        for shard in self.shards if shards is None else shards:
            if classes is not None and not self._has(shard, classes):
                deque(self._read(shard), maxlen=0)  # a damaged shard has no classes
                if shard not in self.damaged:
                    raise GensegError(f"the run has images that came after its classes {classes}; give them again")
                continue
            for row in self._read(shard, columns, classes, n_classes):
                if failed or row.status == DONE:
                    yield row

    def _read(
        self, shard: str, columns: Sequence[str] | None = None, classes: str | None = None, n_classes: int = 0
    ) -> Iterator[Row]:
        """Read all rows of a shard, up to where it is damaged."""
        with self.leaving_out(shard):
            classes_of_rows: Iterable[npt.NDArray[np.int32] | None] = repeat(None)
            if classes is not None:
                classes_of_rows = self._classes(shard, classes, n_classes)
            batches = self.store.batches(shard, SCHEMA, _completed(columns))
            rows = (row for batch in batches for row in rows_of(batch, self._max_pixels))
            for row, classes_of_row in zip(rows, classes_of_rows, strict=classes is not None):
                if row.status == DAMAGED:
                    self.damaged[row.key] = row.error
                if (
                    row.status == DONE
                    and row.masks
                    and classes_of_row is not None
                    and len(classes_of_row) <= row.masks[-1].label
                ):
                    row = replace(row, status=DAMAGED, error="not all of its masks were given classes")
                yield replace(row, classes=classes_of_row)

    @contextmanager
    def leaving_out(self, shard: str) -> Iterator[None]:
        """Leave a shard out with a warning if it turns out to be damaged."""
        self.damaged.pop(shard, None)
        try:
            yield
        except GensegError as error:
            self.damaged[shard] = str(error)
        except ValueError as error:
            self.damaged[shard] = f"{self.store.path(shard)} is damaged ({error}); remove it and resume the run"
        if shard in self.damaged:
            warnings.warn(self.damaged[shard], stacklevel=2)

    def counts(self) -> Counter[str]:
        """Number of images by status."""
        return Counter(row.status for row in self.rows(["status"], failed=True))

    @property
    def _max_pixels(self) -> int:
        most = self.settings.get("recipe", {}).get("max_pixels")
        return most if isinstance(most, int) else Recipe.max_pixels

    def class_names(self, classes: str) -> tuple[str, ...]:
        """Names of the classes 0..N-1 that were assigned under a name.

        Raises:
            GensegError: If there are none.
        """
        about = self.store.read_json(_record(classes))
        if about is None:
            raise unknown("set of classes", classes, self.class_sets)
        names = about.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise GensegError(f"{self.store.path(_record(classes))} is damaged (names); give the classes again")
        return tuple(names)

    @property
    def class_sets(self) -> list[str]:
        """Names under which classes were assigned, sorted."""
        return [name.split("/")[1] for name in self.store.names("classes/*/classes.json")]

    def assign(
        self,
        classes: str,
        names: Sequence[str],
        choose: Callable[[Row], npt.NDArray[np.int32]],
        columns: Sequence[str] | None = None,
        *,
        resume: bool = False,
        **about: Any,
    ) -> None:
        """Assign a class to every mask, shard by shard.

        Args:
            classes: Name of the set of classes, such as ``"concepts-27"``; a set of the same name is replaced.
            names: Names of the classes 0..N-1.
            choose: The class of each label of a row, -1 for none: int32, as long as the largest label asks for.
            columns: Columns that ``choose`` needs; None for all.
            resume: Whether to keep the classes of earlier calls: ``choose`` then sees them as the row's `classes`.
            **about: Further facts for the record: how they were chosen.
        """
        if not resume:
            self.forget(classes)
        self.store.remove(_record(classes))  # until all shards have theirs, there are no such classes
        for shard in self.shards:
            before = classes if self._has(shard, classes) else None
            rows = self._read(shard, columns, before, len(names))
            chosen = [choose(row).tolist() if row.status == DONE else [] for row in rows]
            if shard not in self.damaged:
                self.store.write_table(_of_shard(shard, classes), pa.table({"classes": chosen}, CLASSES))
        self.store.write_json(_record(classes), {"names": list(names)} | about)

    def forget(self, classes: str) -> None:
        """Remove a set of classes: first its record, so that an interruption leaves no part of it in use."""
        self.store.remove(_record(classes))
        for name in self.store.names(f"classes/{classes}/*"):
            self.store.remove(name)

    def _has(self, shard: str, classes: str) -> bool:
        return self.store.has(_of_shard(shard, classes))

    def _classes(self, shard: str, classes: str, n_classes: int) -> Iterator[npt.NDArray[np.int32]]:
        """Read the classes of each row of a shard."""
        for batch in self.store.batches(_of_shard(shard, classes), CLASSES):
            for numbers in batch.column("classes").to_pylist():
                if numbers and not all(number is not None and -1 <= number < n_classes for number in numbers):
                    raise ValueError(f"there are other classes than {classes} has")
                yield np.array(numbers or (), dtype=np.int32)


def _record(classes: str) -> str:
    return f"classes/{classes}/classes.json"


def _of_shard(shard: str, classes: str) -> str:
    return f"classes/{classes}/{shard.rpartition('/')[2]}"


def _completed(columns: Sequence[str] | None) -> list[str] | None:
    """Columns, and those that tell whether a row is what it should be."""
    return None if columns is None else list(dict.fromkeys([*columns, "key", "status", "height", "width"]))
