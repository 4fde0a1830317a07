"""A run to export: keys that are no file names, images that cannot be taken as they lie, and classes."""

import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

import genseg
from genseg.runs.rows import FAILED, Row, png_of
from genseg.runs.run import MANIFEST, Run
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of

CLASSES = ("road", "sky", "car")  # of Cityscapes; label k has class k % 4 - 1, so that every fourth has none
KEYS = ("street/a photo.jpg", "street/b.png", "street/B.jpg", "../c.png", "inside")
SIZE = (160, 120)


@cache
def segmented(name: str) -> genseg.Segmentation:
    photo = Image.fromarray(getattr(skimage.data, name)()).resize(SIZE)
    return genseg.segment(photo, n_clusters=10, draws=1, n_init=1, size=64)


def class_of(label: int) -> int:
    return label % 4 - 1


def made(folder: Path) -> Run:
    """Five images in two shards: a JPEG, a PNG, a turned JPEG, a part of a file, and one in the run.

    Between them is one that failed. Confidence falls from left to right.
    """
    files = folder / "images"
    files.mkdir()
    found = [segmented("astronaut"), segmented("coffee"), segmented("coffee")]
    found += [segmented("astronaut"), segmented("coffee")]
    falling = np.linspace(1, 0, SIZE[0], dtype=np.float16)[None].repeat(SIZE[1], axis=0)
    found = [replace(each, confidence=falling) for each in found]
    pictures = [Image.fromarray(each.image) for each in found]
    pictures[0].save(files / "a.jpg", quality=95)
    pictures[1].save(files / "b.png")
    turned = Image.Exif()
    turned[0x0112] = 3  # to be turned by 180°
    pictures[2].transpose(Image.Transpose.ROTATE_180).save(files / "B.turned.jpg", quality=100, exif=turned)
    part = png_of(found[3].image)
    (files / "c.tar").write_bytes(b"before" + part + b"after")
    inside = io.BytesIO()
    pictures[4].save(inside, format="WEBP", lossless=True)
    sources = [ImageSource(str(files / name)) for name in ("a.jpg", "b.png", "B.turned.jpg")]
    sources += [ImageSource(str(files / "c.tar"), 6, len(part)), ImageSource("s3://gone/inside")]
    rows = [
        Row.of(each, key, source, "hash", image=inside.getvalue() if key == "inside" else None)
        for each, key, source in zip(found, KEYS, sources, strict=True)
    ]
    store = Store(str(folder / "run"))
    store.write_table(
        "shards/shard-00000.parquet", table_of([*rows[:2], Row("x", ImageSource("x"), FAILED, "no image")])
    )
    store.write_table("shards/shard-00001.parquet", table_of(rows[2:]))
    store.write_json(MANIFEST, {"backend": "tiny"})
    run = Run(str(folder / "run"))
    chosen = np.array([class_of(label) for label in range(10)], dtype=np.int32)
    run.assign("streets", CLASSES, lambda _: chosen)
    run.assign("mine", ["thing", "stuff", '"x" & <y>'], lambda _: chosen)
    return run


def label_maps(run: Run) -> list[np.ndarray]:
    return [row.labels for row in run.rows()]


def category_maps(run: Run, min_confidence: float = 0.0) -> list[np.ndarray]:
    """Computed apart from the export: -1 where there is no class, or too little confidence."""
    return [np.where(row.confidence < min_confidence, -1, row.labels % 4 - 1) for row in run.rows()]
