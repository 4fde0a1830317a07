"""A run whose images have two colors, and their classes."""

import numpy as np

from genseg.runs.rows import LEVELS, Row, StoredMask, _levels_png, png_of, rle_of
from genseg.runs.run import MANIFEST, Run
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of

SIDE = 32
COLORS = np.array([[200, 60, 40], [40, 80, 190]], dtype=np.uint8)


def two_colors(index: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with a rectangle of one color on the other, noise over both; and the map of classes."""
    draws = np.random.default_rng(index)
    labels = np.zeros((SIDE, SIDE + 8), dtype=np.int32)
    top, left = draws.integers(0, SIDE // 2, 2)
    labels[top : top + 14, left : left + 18] = 1
    noise = draws.normal(0, 10, (*labels.shape, 3))
    return np.clip(COLORS[labels] + noise, 0, 255).astype(np.uint8), labels


def row_of(index: int, confidence: np.ndarray | None = None) -> Row:
    image, labels = two_colors(index)
    levels = np.full(labels.shape, LEVELS, np.uint8) if confidence is None else confidence
    return Row(
        f"image-{index}",
        ImageSource(""),
        size=labels.shape,
        masks=tuple(
            StoredMask(k, int((labels == k).sum()), 1.0, rle_of(labels == k), np.zeros(1, np.float32)) for k in range(2)
        ),
        labels_png=png_of(labels.astype(np.uint8)),
        confidence_png=_levels_png(levels),
        image=png_of(image),
    )


def run_of(folder, rows: list[Row], shard: int = 8) -> Run:
    store = Store(str(folder))
    for first in range(0, len(rows), shard):
        store.write_table(f"shards/shard-{first // shard:05}.parquet", table_of(rows[first : first + shard]))
    store.write_json(MANIFEST, {"recipe_hash": "hash"})
    run = Run(str(folder))
    run.assign("colors", ["red", "blue"], lambda _: np.arange(2, dtype=np.int32))
    return run
