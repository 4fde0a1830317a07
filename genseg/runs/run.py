"""A run on disk or in a bucket: shards of rows, read lazily, and the classes that their masks were given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genseg.errors import GensegError, unknown
from genseg.runs.rows import DONE, Row, rows_of
from genseg.runs.store import Store

MANIFEST = "run.json"
SHARDS = "shards/*.parquet"


class Run:
    """What ``genseg run`` or ``genseg synth`` has written, finished or not.

    Attributes:
        store: The folder.
        settings: The manifest: backend, recipe, seed, versions, input and how many images there are in all.

    Args:
        path: A local folder or an fsspec URL.

    Raises:
        GensegError: If it holds no run.
    """

    def __init__(self, path: str) -> None:
        self.store = Store(str(path))
        settings = self.store.read_json(MANIFEST)
        if settings is None:
            raise GensegError(f"{path} holds no run; name the folder that 'genseg run' wrote to")
        self.settings: Mapping[str, Any] = settings

    @property
    def shards(self) -> list[str]:
        """Names of the shards that are there, sorted."""
        return self.store.names(SHARDS)

    def __len__(self) -> int:
        """Number of images, done or failed, so far."""
        return sum(self.store.count(shard) for shard in self.shards)

    def rows(
        self,
        columns: Sequence[str] | None = None,
        *,
        classes: str | None = None,
        failed: bool = False,
        shards: Sequence[str] | None = None,
    ) -> Iterator[Row]:
        """The images one after the other, sorted by shard; a few are in memory at a time.

        Args:
            columns: Of `genseg.runs.rows.SCHEMA`, those to read; None for all. What is left out has its default.
            classes: Name of the classes that each row is to have, as `assign` wrote them.
            failed: Whether to give also those that failed.
            shards: Those to read, of `shards`; None for all.

        Raises:
            GensegError: If a shard is damaged, or there are no such classes.
        """
        if classes is not None:
            self.class_names(classes)
        for shard in self.shards if shards is None else shards:
            given = None if classes is None else self._given(shard, classes)
            for batch in self.store.batches(shard, _with_status(columns)):
                for row in rows_of(batch):
                    found = None if given is None else next(given)
                    if failed or row.status == DONE:
                        yield replace(row, classes=found)

    def counts(self) -> Counter[str]:
        """Number of images by status."""
        return Counter(row.status for row in self.rows(["status"], failed=True))

    def class_names(self, classes: str) -> tuple[str, ...]:
        """Names of the classes 0..N-1 that were assigned under a name.

        Raises:
            GensegError: If there are none.
        """
        about = self.store.read_json(_record(classes))
        if about is None:
            raise unknown("set of classes", classes, self.class_sets)
        return tuple(about["names"])

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
        """Give every mask a class, shard by shard.

        Args:
            classes: What the set of classes is called, such as ``"concepts-27"``; one of the name is replaced.
            names: Of the classes 0..N-1.
            choose: The class of each label of a row, -1 for none: int32, as long as the largest label asks for.
            columns: That ``choose`` needs; None for all.
            resume: Whether shards that have such classes keep them: ``choose`` then sees them as the row's `classes`.
            **about: Further facts for the record: how they were chosen.
        """
        if not resume:
            self.forget(classes)
        self.store.remove(_record(classes))  # until all shards have theirs, there are no such classes
        for shard in self.shards:
            given = self._given(shard, classes) if self._has(shard, classes) else ()
            rows = (row for batch in self.store.batches(shard, _with_status(columns)) for row in rows_of(batch))
            chosen = [
                choose(replace(row, classes=before)).tolist() if row.status == DONE else []
                for row, before in zip(rows, chain(given, repeat(None)), strict=False)
            ]
            table = pa.table({"classes": pa.array(chosen, pa.list_(pa.int32()))})
            self.store.write_table(_of_shard(shard, classes), table)
        self.store.write_json(_record(classes), {"names": list(names)} | about)

    def forget(self, classes: str) -> None:
        """Remove all that is kept under a name of classes: first their record, so that none are left in part."""
        self.store.remove(_record(classes))
        for name in self.store.names(f"classes/{classes}/*"):
            self.store.remove(name)

    def _has(self, shard: str, classes: str) -> bool:
        return bool(self.store.names(_of_shard(shard, classes)))

    def _given(self, shard: str, classes: str) -> Iterator[npt.NDArray[np.int32]]:
        if not self._has(shard, classes):
            raise GensegError(f"the run has images that came after its classes {classes}; give the classes again")
        for batch in self.store.batches(_of_shard(shard, classes)):
            for given in batch.column("classes").to_pylist():
                yield np.array(given, dtype=np.int32)


def _record(classes: str) -> str:
    return f"classes/{classes}/classes.json"


def _of_shard(shard: str, classes: str) -> str:
    return f"classes/{classes}/{shard.rpartition('/')[2]}"


def _with_status(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(dict.fromkeys([*columns, "status"]))
