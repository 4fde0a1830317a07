"""The plan of a run: the list of its images, and the shard that each belongs to.

It is made once, before anything is segmented, and decides everything: a shard's file is written from the plan's images
and no others, under a name that the plan gives. So whatever is killed, an image is in one shard, once.
"""

from __future__ import annotations

import glob
import os
import re
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from genseg.errors import GensegError
from genseg.files import as_utf8
from genseg.images.files import SUFFIXES
from genseg.images.listing import ANY, ImageFilter
from genseg.runs.sources import NAMES, ImageSource, file_system, image_column, uri_of
from genseg.runs.store import Store

PART = 1000  # shards to a file of the plan
READ = (*SUFFIXES, ".parquet", ".tar")

T = TypeVar("T")


class PlannedImage(NamedTuple):
    """An image of a run: its key, and where it is."""

    key: str
    source: ImageSource


_ITEM = pa.struct([("key", pa.string()), ("uri", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])
_SCHEMA = pa.schema([("items", pa.list_(_ITEM))])


def items_of(given: str) -> Iterator[PlannedImage]:
    """List the images of an input, in an order that depends on their names only.

    Files that are no images are left out with a warning, unless the input names one by itself.

    Args:
        given: A folder, a pattern or a file, local or by fsspec URL (``s3://``, ``gs://``, ``hf://``): images,
            WebDataset tars and Parquet files with a column of encoded images.

    Yields:
        Key and place of each image. The key is the path below the folder, or below the pattern's fixed part; for images
        in a tar or a Parquet file, their name there, or their row, follows the file's.

    Raises:
        GensegError: If the input cannot be read, or stands for nothing.
    """
    is_empty, reading = True, str(given)
    try:
        fs, path = file_system(given)
        image_filter = ImageFilter(lambda folder: [PurePosixPath(file).name for file in fs.ls(folder, detail=False)])
        for key, file in _files(fs, path, image_filter):
            reading = file
            for name, source in _images_in(fs, file, key):
                is_empty = False
                yield PlannedImage(as_utf8(name), source)
    except FileNotFoundError as error:
        raise GensegError(f"{reading} does not exist; check the path") from error
    except (OSError, ImportError, ValueError, pa.ArrowException, tarfile.TarError) as error:
        raise GensegError(f"{reading} cannot be read: {error}") from error
    image_filter.warn()
    if is_empty:
        raise GensegError(f"{given} holds no image ({' '.join(READ)}); name another folder or pattern")


def make_plan(store: Store, images: Iterator[PlannedImage], shard_size: int) -> tuple[int, int]:
    """Write the plan of a run, a part at a time.

    Args:
        store: The run's folder.
        images: From `items_of`.
        shard_size: Images per shard.

    Returns:
        Number of images and of shards.

    Raises:
        GensegError: If the input cannot be read, or stands for nothing.
    """
    n_images = n_shards = 0
    for part, group in enumerate(_batched(_batched(images, shard_size), PART)):
        rows = [{"items": [{"key": key, **vars(source)} for key, source in items]} for items in group]
        store.write_table(_part(part), pa.Table.from_pylist(rows, schema=_SCHEMA), row_group_size=1)
        n_images += sum(len(items) for items in group)
        n_shards += len(group)
    return n_images, n_shards


def items_in(store: Store, shard: int) -> list[PlannedImage]:
    """The images of one shard."""
    record: Any = store.row_group(_part(shard // PART), shard % PART).column("items")[0].as_py()
    return [PlannedImage(item["key"], ImageSource(item["uri"], item["offset"], item["length"])) for item in record]


def shard_name(shard: int) -> str:
    """The file of a shard."""
    return f"shards/shard-{shard:07}.parquet"


def _batched(things: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(things, size)):
        yield batch


def _part(part: int) -> str:
    return f"plan/part-{part:05}.parquet"


def _files(fs: Any, path: str, image_filter: ImageFilter) -> Iterator[tuple[str, str]]:
    """Key and path of each file that is read: in a folder, of a pattern, or the one that is named."""
    path = path.rstrip("/") or "/"
    if any(sign in path for sign in "*?[") and not fs.exists(path):
        fixed = path[: min(path.index(sign) for sign in "*?[" if sign in path)].rpartition("/")[0]
        for match in sorted(_matches(fs, path, fixed)):
            below = match[len(fixed) :].lstrip("/")
            if _hidden(below):
                continue
            if fs.isdir(match):
                yield from ((f"{below}/{key}", file) for key, file in _files(fs, match, image_filter))
            elif image_filter.takes(*_split(match), READ):
                yield below, match
    elif fs.isdir(path):
        for folder, name in _walk(fs, path):
            if image_filter.takes(folder, name, READ):
                yield f"{folder[len(path) :].strip('/')}/{name}".lstrip("/"), f"{folder.rstrip('/')}/{name}"
    elif fs.exists(path):
        if image_filter.takes(*_split(path), ANY):
            yield PurePosixPath(path).name, path
    else:
        raise FileNotFoundError(path)


def _matches(fs: Any, pattern: str, fixed: str) -> list[str]:
    """Paths that a pattern matches; ``**`` matches files alone if there are any, as folders' files match too.

    fsspec's own patterns follow no links to folders.
    """
    is_local = "file" in fs.protocol
    if "**" not in pattern:
        return list(glob.glob(pattern) if is_local else fs.glob(pattern))  # noqa: PTH207
    if is_local:
        whole = re.compile(glob_translate(pattern))
        paths = (f"{folder.rstrip('/')}/{name}" for folder, name in _walk(fs, fixed or "/"))
        files = [path for path in paths if whole.match(path)]
    else:
        files = [match for match in fs.glob(pattern) if not fs.isdir(match)]
    return files or list(fs.glob(pattern))


def _walk(fs: Any, folder: str) -> Iterator[tuple[str, str]]:
    """Folder and name of each file below a folder that is not hidden, sorted; links to folders are followed.

    A link to a folder that it lies in leads round, and is left out.
    """
    for _, folders, files in fs.walk(folder, maxdepth=1, detail=True):
        linked = {name for name, entry in files.items() if entry.get("islink") and fs.isdir(entry["name"])}
        yield from ((folder, name) for name in sorted(files.keys() - linked) if not _hidden(name))
        for name in sorted(folders.keys() | linked):
            path = f"{folder.rstrip('/')}/{name}"
            if not _hidden(name) and not (name in linked and _leads_back(path)):
                yield from _walk(fs, path)


def _leads_back(link: str) -> bool:
    return any(os.path.samefile(link, parent) for parent in PurePosixPath(link).parents)  # noqa: PTH121


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _images_in(fs: Any, file: str, key: str) -> Iterator[tuple[str, ImageSource]]:
    uri, kind = uri_of(fs, file), PurePosixPath(file).suffix.lower()
    if kind == ".tar":
        with fs.open(file) as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            for member in tar:
                if member.isfile() and member.name.lower().endswith(SUFFIXES):
                    yield f"{key}/{member.name}", ImageSource(uri, member.offset_data, member.size)
    elif kind == ".parquet":
        with fs.open(file) as opened:
            table = pq.ParquetFile(opened)
            image_column(table.schema_arrow, uri)
            yield from _rows(table, key, uri)
    else:
        yield key, ImageSource(uri)


def _rows(table: pq.ParquetFile, key: str, uri: str) -> Iterator[tuple[str, ImageSource]]:
    column = next((name for name in NAMES if name in table.schema_arrow.names), None)
    if column is None:
        yield from ((f"{key}/{row}", ImageSource(uri, row)) for row in range(table.metadata.num_rows))
        return
    row, seen = 0, set()
    for batch in table.iter_batches(columns=[column]):
        for name in batch.column(0).to_pylist():
            unique = str(name) if name is not None and name not in seen else f"{name}#{row}"
            seen.add(name)
            yield f"{key}/{unique}", ImageSource(uri, row)
            row += 1
