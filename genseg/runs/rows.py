"""What a run keeps of an image: a row of a Parquet file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image
from pycocotools import mask as coco_masks

from genseg.cost import Cost
from genseg.images import load_image
from genseg.recipe import Recipe
from genseg.runs.sources import Source
from genseg.segmentation import Segmentation

DONE, FAILED = "done", "failed"
LEVELS = 15  # of confidence above 0, so that its map is a PNG of 4 bits a pixel

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


@dataclass(frozen=True)
class Mask:
    """One segment of an image.

    Attributes:
        label: Its number in the label map.
        area: In pixels.
        confidence: Mean over its pixels, in [0, 1].
        rle: COCO's compressed run lengths, of the image's size, as text.
        embedding: float32 (C,): mean tap feature of its cluster.
    """

    label: int
    area: int
    confidence: float
    rle: str
    embedding: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One image of a run.

    Attributes:
        key: Names the image within the run.
        source: Where it lies.
        status: ``"done"`` or ``"failed"``.
        error: What went wrong; empty if nothing did.
        size: (H, W) of the image.
        masks: Its segments, each with at least one pixel, by ascending label.
        cost: What it took; all seconds are one stage, ``"image"``.
        recipe_hash: That of the run.
        labels_png: The label map as a grey PNG, of 8 bits, or of 16 where there are more than 256 labels.
        confidence_png: Confidence in steps of 1/15 as a PNG; None where it was not kept.
        image: The image as an encoded file; None where it was not kept.
        classes: int32: the class of each label, -1 for none; None where none was asked for.
    """

    key: str
    source: Source
    status: str = DONE
    error: str = ""
    size: tuple[int, int] = (0, 0)
    masks: tuple[Mask, ...] = ()
    cost: Cost = field(default_factory=Cost)
    recipe_hash: str = ""
    labels_png: bytes | None = None
    confidence_png: bytes | None = None
    image: bytes | None = None
    classes: npt.NDArray[np.int32] | None = None

    @classmethod
    def of(
        cls,
        found: Segmentation,
        key: str,
        source: Source,
        recipe_hash: str,
        *,
        image: bytes | None = None,
        pixel_confidence: bool = True,
    ) -> Row:
        """The row of an image that was segmented.

        Args:
            found: Its segments, with confidence.
            key: Names the image within the run.
            source: Where it lies.
            recipe_hash: That of the run.
            image: The image as an encoded file, if it is to be kept.
            pixel_confidence: Whether to keep the map of confidence, and not only its means over masks.
        """
        areas, means = np.bincount(found.labels.ravel()), found.mask_confidence
        masks = tuple(
            Mask(k, int(areas[k]), float(means[k]), rle_of(found.labels == k), found.embeddings[k])
            for k in np.flatnonzero(areas).tolist()
        )
        assert found.confidence is not None
        levels = np.round(found.confidence.astype(np.float32) * LEVELS).astype(np.uint8)
        return cls(
            key=key,
            source=source,
            size=(found.labels.shape[0], found.labels.shape[1]),
            masks=masks,
            cost=replace(found.cost, seconds={"image": sum(found.cost.seconds.values())}),
            recipe_hash=recipe_hash,
            labels_png=png_of(found.labels.astype(np.uint8 if len(areas) <= 256 else np.uint16)),
            confidence_png=_levels_png(levels) if pixel_confidence else None,
            image=image,
        )

    @cached_property
    def labels(self) -> npt.NDArray[np.int32]:
        """int32 (H, W): the label map."""
        assert self.labels_png is not None
        return np.asarray(Image.open(io.BytesIO(self.labels_png))).astype(np.int32)

    @cached_property
    def confidence(self) -> npt.NDArray[np.float32]:
        """float32 (H, W) in [0, 1]; where only means were kept, each pixel has its mask's."""
        if self.confidence_png is not None:
            return np.asarray(Image.open(io.BytesIO(self.confidence_png))).astype(np.float32) / np.float32(LEVELS)
        means = np.zeros(max(mask.label for mask in self.masks) + 1, dtype=np.float32)
        for mask in self.masks:
            means[mask.label] = mask.confidence
        return means[self.labels]

    @property
    def class_labels(self) -> npt.NDArray[np.int32]:
        """int32 (H, W): the class of each pixel's segment, -1 for none."""
        assert self.classes is not None
        return self.classes[self.labels]

    def picture(self) -> Image.Image:
        """The image, upright and in RGB: the one that was kept, else read from where it lies.

        Raises:
            GensegError: If it cannot be read.
        """
        return load_image(self.source.read() if self.image is None else self.image, Recipe.max_pixels)


def table_of(rows: Iterable[Row]) -> pa.Table:
    """Rows as a table of `SCHEMA`."""
    return pa.Table.from_pylist([_record(row) for row in rows], schema=SCHEMA)


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a part of such a table; columns that were not read leave their defaults."""
    if "masks" not in batch.schema.names:
        return (_row(record) for record in batch.to_pylist())
    records = batch.drop_columns(["masks"]).to_pylist()
    return (_row(record, found) for record, found in zip(records, _masks(batch.column("masks")), strict=True))


def rle_of(mask: npt.NDArray[np.bool_]) -> str:
    """A mask (H, W) as COCO's compressed run lengths."""
    counts: bytes = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return counts.decode("ascii")


def png_of(array: npt.NDArray[Any]) -> bytes:
    """An array (H, W[, 3]) of 8 bits, or (H, W) of 16, as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def _levels_png(levels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(levels, mode="P")
    picture.putpalette([round(level * 255 / LEVELS) for level in range(LEVELS + 1) for _ in "rgb"])
    picture.save(buffer, format="PNG", bits=4)
    return buffer.getvalue()


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
"""A mask's facts where only some of their columns are read."""


def _masks(column: pa.ListArray) -> Iterator[tuple[Mask, ...]]:
    """The masks of each row; embeddings do not become Python numbers on the way, of which there would be too many."""
    flat = column.flatten()
    facts = {each.name: flat.field(each.name) for each in flat.type}
    values = [_vectors(each) if name == "embedding" else each.to_pylist() for name, each in facts.items()]
    masks = (Mask(**_NO_MASK | dict(zip(facts, mask, strict=True))) for mask in zip(*values, strict=True))
    return (tuple(islice(masks, length or 0)) for length in column.value_lengths().to_pylist())


def _vectors(column: pa.ListArray) -> list[npt.NDArray[np.float32]]:
    values = column.flatten().to_numpy(zero_copy_only=False)
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))
    return [vector.copy() for vector in np.split(values, ends[:-1])] if len(ends) else []


def _row(record: Mapping[str, Any], masks: tuple[Mask, ...] = ()) -> Row:
    return Row(
        key=record.get("key", ""),
        source=Source(record.get("uri", ""), record.get("offset"), record.get("length")),
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
