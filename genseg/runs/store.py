"""A folder on disk or in a bucket, whose files are written as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from genseg.errors import GensegError
from genseg.files import check_unpacked, write_whole
from genseg.runs.sources import file_system
from genseg.runs.validation import check_columns

BATCH = 32  # rows of a shard in memory at once


class Store:
    """Files below a local path or an fsspec URL such as ``s3://bucket/run``.

    A local file is written under a temporary name and renamed; object stores put whole objects.

    Args:
        url: The folder; it need not exist.

    Raises:
        GensegError: If the URL's file system is unknown or its package is missing.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, self._root = file_system(url)
        except (ImportError, ValueError) as error:
            raise GensegError(f"{url} cannot be opened: {error}") from error
        self.url = url
        self.local = "file" in self._fs.protocol

    def inside(self, url: str) -> bool:
        """Return whether this is a folder in another one."""
        try:
            fs, root = file_system(url)
        except (ImportError, ValueError):
            return False
        return type(fs) is type(self._fs) and f"{self._root}/".startswith(f"{root.rstrip('/')}/")

    def write(self, name: str, content: bytes) -> None:
        """Write a file, in place of one of the name that there may be.

        Raises:
            GensegError: If it cannot be written; what was there is as it was.
        """
        path = self.path(name)
        if self.local:
            write_whole(Path(path), lambda file: file.write(content))
            return
        try:
            self._fs.pipe_file(path, content)
        except OSError as error:
            raise GensegError(f"cannot write {path}: {error}; choose another output folder") from error

    def remove(self, name: str) -> None:
        """Remove a file, if there is one of the name."""
        if self.has(name):
            self._fs.rm_file(self.path(name))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write an object as JSON."""
        self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write a table as Parquet."""
        self.write(name, parquet(table, row_group_size))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read an object; None if there is no such file.

        Raises:
            GensegError: If it is damaged.
        """
        try:
            content = json.loads(self._fs.cat_file(self.path(name)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise GensegError(f"{self.path(name)} cannot be read; restore it or choose another folder") from error
        if not isinstance(content, dict):
            raise GensegError(f"{self.path(name)} is damaged; restore it or choose another folder")
        return content

    def batches(self, name: str, schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Read a Parquet file a few rows at a time.

        Args:
            name: The file's.
            schema: What it must have of the columns.
            columns: Those to read; None for all of the schema.

        Raises:
            GensegError: If it is damaged, or its columns are others.
        """
        with self._opened(name) as table:
            columns = schema.names if columns is None else columns
            check_columns(table.schema_arrow, schema, columns)
            yield from table.iter_batches(BATCH, columns=columns)

    def row_group(self, name: str, group: int) -> pa.Table:
        """Read one row group of a Parquet file; see `batches`."""
        with self._opened(name) as table:
            return table.read_row_group(group)

    def count(self, name: str) -> int:
        """Count the rows of a Parquet file, without reading them; see `batches`."""
        with self._opened(name) as table:
            return int(table.metadata.num_rows)

    @contextmanager
    def _opened(self, name: str) -> Iterator[pq.ParquetFile]:
        try:
            with self._fs.open(self.path(name)) as file:
                table = pq.ParquetFile(file)
                groups = range(table.metadata.num_row_groups)
                unpacked = sum(table.metadata.row_group(group).total_byte_size for group in groups)
                check_unpacked(unpacked, file.seek(0, os.SEEK_END))
                yield table
        except (OSError, ValueError, pa.ArrowException) as error:
            cause = str(error).splitlines()[0]
            raise GensegError(f"{self.path(name)} is damaged ({cause}); remove it and resume the run") from error

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return int(self._fs.size(self.path(name)))

    def has(self, name: str) -> bool:
        """Return whether there is a file of the name."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self.path(name)))

    def names(self, pattern: str) -> list[str]:
        """List the names of the files that match a pattern with one star, such as ``shards/*.parquet``, sorted.

        The store's own path is no part of the pattern, and may have brackets.
        """
        self._fs.invalidate_cache()
        head, _, tail = pattern.partition("*")
        folder = head.rpartition("/")[0]
        files = self._fs.find(self.path(folder), maxdepth=1 + tail.count("/"))
        names = (str(file)[len(self._root) :].lstrip("/") for file in files)
        return sorted(name for name in names if name.startswith(head) and name[len(head) :].endswith(tail))

    def path(self, name: str) -> str:
        """Return the path of a file within its file system."""
        return f"{self._root.rstrip('/')}/{name}"


def parquet(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """Encode a table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        row_group_size=row_group_size,
        use_dictionary=["uri", "status", "error", "recipe_hash"],  # nothing else repeats
        use_byte_stream_split=["masks.list.element.embedding.list.element"],
    )
    return cast(bytes, sink.getvalue().to_pybytes())
