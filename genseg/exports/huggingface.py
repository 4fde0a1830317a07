"""A folder of Parquet that ``datasets.load_dataset`` opens, with images and label maps as images."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, List, Value
from datasets import Image as ImageFeature

from genseg.exports.images import encoded
from genseg.exports.items import ExportImage, Target
from genseg.runs.rows import png_of

ROWS = 100  # of a group, which are in memory at once
GROUPS = 50  # of a file


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``data/train-00000.parquet``, …: ``key``, ``image``, ``label`` and, with classes, ``classes``.

    ``label`` has the class of each pixel, or without classes its segment; 255, or 65535 in a map of 16 bits, is
    "ignore". ``classes`` has the classes of an image, by a feature with their names. All maps of classes have the
    same number of bits.
    """
    features = Features({"key": Value("string"), "image": ImageFeature(), "label": ImageFeature()})
    if target.images == "none":
        del features["image"]
    if target.classes is not None:
        features["classes"] = List(ClassLabel(names=list(target.classes)))
    schema = features.arrow_schema
    folder = target.folder / "data"
    folder.mkdir()
    records = (_record(item, target) for item in items)
    writer: pq.ParquetWriter
    with ExitStack() as opened:
        for group, rows in enumerate(iter(lambda: list(islice(records, ROWS)), [])):
            if group % GROUPS == 0:
                opened.close()
                path = folder / f"train-{group // GROUPS:05}.parquet"
                writer = opened.enter_context(pq.ParquetWriter(path, schema, compression="none"))  # PNG and JPEG are
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _record(item: ExportImage, target: Target) -> dict[str, Any]:
    values = item.labels if target.classes is None else item.categories
    n_values = int(values.max()) + 1 if target.classes is None else len(target.classes)
    kind = np.uint8 if n_values <= 255 else np.uint16
    label = png_of(values.astype(kind))  # -1 becomes the largest value
    record: dict[str, Any] = {"key": item.row.key, "label": {"bytes": label, "path": f"{item.name}.png"}}
    if target.classes is not None:
        record["classes"] = sorted({segment.category for segment in item.segments})
    if target.images != "none":
        content, suffix = encoded(item.row)
        record["image"] = {"bytes": content, "path": f"{item.name}{suffix}"}
    return record
