"""Rows of a run as tables of Parquet files, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genseg.cost import Cost
from genseg.recipe import Recipe
from genseg.runs.rows import DAMAGED, DONE, FAILED, Row, StoredMask
from genseg.runs.sources import ImageSource
from genseg.runs.validation import fault

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        pa.field("status", pa.string(), nullable=False),
        ("error", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("labels_png", pa.binary()),
        ("confidence_png", pa.binary()),
        (
            "masks",
            pa.list_(
                pa.struct(
                    [
                        ("label", pa.int32()),
                        ("area", pa.int64()),
                        ("confidence", pa.float32()),
                        ("rle", pa.string()),
                        ("embedding", pa.list_(pa.float32())),
                    ]
                )
            ),
        ),
        ("image", pa.binary()),
        ("seconds", pa.float64()),
        ("evaluations", pa.int64()),
        ("decodes", pa.int64()),
        ("peak_memory", pa.int64()),
        ("recipe_hash", pa.string()),
    ]
)


def table_of(rows: Iterable[Row]) -> pa.Table:
    """Rows as a table of `SCHEMA`."""
    return pa.Table.from_pylist([_record(row) for row in rows], schema=SCHEMA)


def rows_of(batch: pa.RecordBatch, max_pixels: int = Recipe.max_pixels) -> Iterator[Row]:
    """Read the rows of a part of such a table, and check them.

    Args:
        batch: Columns of `SCHEMA`; those that are missing leave their defaults.
        max_pixels: Of the run's recipe: no image can be larger.

    Raises:
        ValueError: If masks lack numbers.
    """
    columns = set(batch.schema.names)
    masks: Iterator[tuple[StoredMask, ...]] = repeat(())
    if "masks" in columns:
        masks = _masks(batch.column("masks"))
        columns |= {f"masks.{part.name}" for part in batch.schema.field("masks").type.value_type}
        batch = batch.drop_columns(["masks"])
    for record, masks_of_row in zip(batch.to_pylist(), masks, strict=False):
        yield _checked(_row(record, masks_of_row), columns, max_pixels)


def _record(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"key": row.key, **vars(row.source), "status": row.status, "error": row.error}
    record |= {"recipe_hash": row.recipe_hash}
    if row.status == FAILED:
        return record
    record |= {"height": row.size[0], "width": row.size[1], "masks": [vars(mask) for mask in row.masks]}
    record |= {name: getattr(row, name) for name in ("labels_png", "confidence_png", "image")}
    cost = row.cost
    return record | {
        "seconds": sum(cost.seconds.values()),
        "evaluations": cost.evaluations,
        "decodes": cost.decodes,
        "peak_memory": cost.peak_memory,
    }


_NO_MASK: dict[str, Any] = {"label": 0, "area": 0, "confidence": 0.0, "rle": "", "embedding": np.empty(0, np.float32)}
"""Defaults of a mask's columns that are not read."""


def _masks(column: pa.ListArray) -> Iterator[tuple[StoredMask, ...]]:
    """Yield the masks of each row; embeddings stay arrays on the way, for speed."""
    flat = column.flatten()
    if flat.null_count or any(part.null_count for part in flat.flatten()):
        raise ValueError("masks without numbers")
    facts = {each.name: flat.field(each.name) for each in flat.type}
    values = [_vectors(each) if name == "embedding" else each.to_pylist() for name, each in facts.items()]
    masks = (StoredMask(**_NO_MASK | dict(zip(facts, mask, strict=True))) for mask in zip(*values, strict=True))
    return (tuple(islice(masks, length or 0)) for length in column.value_lengths().to_pylist())


def _checked(row: Row, columns: Collection[str], max_pixels: int) -> Row:
    wrong = "" if row.status == FAILED else "status" if row.status != DONE else fault(row, columns, max_pixels)
    return replace(row, status=DAMAGED, error=f"its row is damaged: {wrong}") if wrong else row


def _vectors(column: pa.ListArray) -> list[npt.NDArray[np.float32]]:
    values = column.flatten().to_numpy(zero_copy_only=False)
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))
    return [vector.copy() for vector in np.split(values, ends[:-1])] if len(ends) else []


def _row(record: Mapping[str, Any], masks: tuple[StoredMask, ...] = ()) -> Row:
    return Row(
        key=record.get("key") or "",
        source=ImageSource(record.get("uri") or "", record.get("offset"), record.get("length")),
        status=record.get("status", DONE),
        error=record.get("error") or "",
        size=(record.get("height") or 0, record.get("width") or 0),
        masks=masks,
        cost=Cost(
            record.get("evaluations") or 0,
            record.get("decodes") or 0,
            {} if record.get("seconds") is None else {"image": record["seconds"]},
            record.get("peak_memory") or 0,
        ),
        recipe_hash=record.get("recipe_hash") or "",
        labels_png=record.get("labels_png"),
        confidence_png=record.get("confidence_png"),
        image=record.get("image"),
    )
