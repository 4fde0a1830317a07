"""Places of images: a file, a part of a tar, or a row of a Parquet file; local or in a bucket."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from genseg.errors import GensegError

COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "bytes", "content")  # of images, of which the first is read
NAMES = ("key", "__key__", "id", "image_id", "file_name", "path")  # of their names


@dataclass(frozen=True)
class ImageSource:
    """The place of an image.

    Attributes:
        uri: Path or fsspec URL of a file.
        offset: First byte of a part of the file; the row in a Parquet file; None for the whole file.
        length: Bytes of the part; None for a whole file or a row.
    """

    uri: str
    offset: int | None = None
    length: int | None = None

    def read(self) -> bytes:
        """Read the image as an encoded file.

        Raises:
            GensegError: If it cannot be read.
        """
        try:
            if self.offset is None or self.length is not None:
                fs, path = locate(self.uri)
                if "file" in fs.protocol and Path(path).exists() and not Path(path).is_file():
                    raise GensegError(f"{self.uri} is no regular file; name another")  # a pipe may never end
                end = None if self.offset is None or self.length is None else self.offset + self.length
                return cast(bytes, fs.cat_file(path, start=self.offset, end=end))
            return _from_row(self.uri, self.offset)
        except GensegError:
            raise
        except FileNotFoundError as error:
            raise GensegError(f"{self.uri} does not exist; check the path") from error
        except (OSError, ImportError, ValueError, pa.ArrowException) as error:
            raise GensegError(f"{self.uri} cannot be read: {error}") from error


def uri_of(fs: Any, path: str) -> str:
    """The place of a file as text: an fsspec URL, or a local path; one that is not UTF-8 as a ``file:`` URL."""
    if "file" not in fs.protocol:
        return cast(str, fs.unstrip_protocol(path))
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a local path or an fsspec URL, and the path there.

    Two colons, by which fsspec chains URLs, are part of a local path.
    """
    if fsspec.core.split_protocol(url)[0] in (None, "file", "local"):
        fs = fsspec.filesystem("file")
        return fs, fs._strip_protocol(url)
    return cast(tuple[Any, str], fsspec.core.url_to_fs(url))


def locate(uri: str) -> tuple[Any, str]:
    """The file system of a place, and the path there: the inverse of `uri_of`."""
    if uri.startswith("file:"):
        uri = os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    return file_system(uri)


def image_column(schema: pa.Schema, uri: str) -> str:
    """Find the column of a Parquet file that holds images as encoded files.

    Raises:
        GensegError: If it has none of `COLUMNS`.
    """
    for name in COLUMNS:
        if name in schema.names and (pa.types.is_struct(kind := schema.field(name).type) or _is_binary(kind)):
            return name
    raise GensegError(f"{uri} has no column of images; name one of its binary columns {', '.join(COLUMNS)}")


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _from_row(uri: str, row: int) -> bytes:
    metadata, column = _parquet(uri)
    group = 0
    while row >= (length := metadata.row_group(group).num_rows):
        row -= length
        group += 1
    value: Any = _images(uri, group, column)[row].as_py()
    content = value.get("bytes") if isinstance(value, dict) else value  # Hugging Face's Image feature is a struct
    if content is None:
        raise GensegError(f"row {row} of {uri} has no image; give images as bytes")
    return cast(bytes, content)


@lru_cache(maxsize=8)
def _parquet(uri: str) -> tuple[pq.FileMetaData, str]:
    fs, path = locate(uri)
    with fs.open(path) as file:
        opened = pq.ParquetFile(file)
        return opened.metadata, image_column(opened.schema_arrow, uri)


@lru_cache(maxsize=1)  # rows are read one after the other
def _images(uri: str, group: int, column: str) -> pa.ChunkedArray:
    fs, path = locate(uri)
    with fs.open(path) as file:
        return pq.ParquetFile(file).read_row_group(group, columns=[column]).column(column)
