"""Checks of the files of a run, before anything relies on what they hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genseg.errors import GensegError

if TYPE_CHECKING:
    from genseg.runs.rows import Row, StoredMask

Types: TypeAlias = Mapping[str, type | tuple[type, ...]]

MANIFEST_TYPES: Types = {
    **dict.fromkeys(("images", "shards", "shard_size", "seed"), int),
    **dict.fromkeys(("backend", "recipe_hash", "input"), str),
    **dict.fromkeys(("recipe", "load", "weights", "versions"), dict),
    **dict.fromkeys(("model", "dtype"), (str, type(None))),
}
CRASH_LOG_TYPES: Types = {"key": (str, type(None)), "times": int, "given_up": list}
NOT_FINITE = "embeddings that are not finite; run the image again with --dtype float32"
MOST_LABELS = 2**16  # of an image, whose label map has at most 16 bits


def check_types(record: Mapping[str, Any], types: Types, path: str) -> None:
    """Check the types of a JSON file's values; any may be missing.

    Raises:
        GensegError: If one is of another type.
    """
    for key, kind in types.items():
        if key in record and not isinstance(record[key], kind):
            raise GensegError(f"{path} is damaged ({key}); restore it or choose another folder")


def check_columns(schema: pa.Schema, expected: pa.Schema, columns: Collection[str]) -> None:
    """Check that a Parquet file has the columns that are to be read, ``masks.list.element.label`` for ``masks``.

    Raises:
        ValueError: If one is missing or of another type.
    """
    for name in {column.partition(".")[0] for column in columns}:
        if name not in schema.names or schema.field(name).type != expected.field(name).type:
            raise ValueError(f"column {name}")


def fault(row: Row, columns: Collection[str], max_pixels: int) -> str:
    """Name what cannot be true of an image in a row; empty if all can.

    Args:
        row: Of an image that was segmented.
        columns: That were read; of masks ``masks.label`` and so on. The others are not checked.
        max_pixels: Of an image of the run.
    """
    (height, width), pixels = row.size, row.size[0] * row.size[1]
    if "height" in columns and not (min(height, width) > 0 and pixels <= max_pixels):
        return "size"
    numbers = (*row.cost.seconds.values(), row.cost.evaluations, row.cost.decodes, row.cost.peak_memory)
    if not all(0 <= number < math.inf for number in numbers):
        return "cost"
    if "masks.label" in columns:
        labels = [mask.label for mask in row.masks]
        if not labels or not all(a < b for a, b in pairwise([-1, *labels, MOST_LABELS])):
            return "labels of masks"
    return _fault_of_masks(row.masks, columns, pixels if "height" in columns else None)


def _fault_of_masks(masks: Sequence[StoredMask], columns: Collection[str], pixels: int | None) -> str:
    if "masks.confidence" in columns and not all(0 <= mask.confidence <= 1 for mask in masks):
        return "confidence of masks"
    if "masks.embedding" in columns:
        if len({len(mask.embedding) for mask in masks}) != 1:
            return "embeddings of masks"
        if not all(np.isfinite(mask.embedding).all() for mask in masks):
            return NOT_FINITE
    if "masks.area" in columns and pixels is not None:
        if not all(mask.area > 0 for mask in masks) or sum(mask.area for mask in masks) != pixels:
            return "areas of masks"
        if "masks.rle" in columns and not all(_is_mask(mask, pixels) for mask in masks):
            return "run lengths of masks"
    return ""


def _is_mask(mask: StoredMask, pixels: int) -> bool:
    lengths = run_lengths(mask.rle)
    return bool((lengths >= 0).all()) and lengths.sum() == pixels and lengths[1::2].sum() == mask.area


def run_lengths(rle: str) -> npt.NDArray[np.int64]:
    """Decode COCO's compressed run lengths, of 0 and 1 in turn.

    Each is written in digits of 5 bits, the lowest first, in letters from ``0`` on; a 6th bit says that more follow.
    From the fourth on it is the difference to the length before the last.
    """
    digits = np.frombuffer(rle.encode(), dtype=np.uint8).astype(np.int64) - ord("0")
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        return np.array([-1])
    ends = np.flatnonzero((digits & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 11:  # more than 60 bits
        return np.array([-1])
    places = 5 * (np.arange(len(digits)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((digits & 31) << places, starts)
    values -= np.where(digits[ends] & 16, 1 << 5 * (ends - starts + 1), 0)
    values[1::2], values[2::2] = values[1::2].cumsum(), values[2::2].cumsum()
    return values
