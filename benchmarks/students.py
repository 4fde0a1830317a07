"""What is a student worth that was trained on masks nobody drew? First step: the masks.

    python benchmarks/students.py --data FOLDER --out OUT [--photos 700] [key=value ...]

FOLDER/train/GROUP/ holds photos without labels, FOLDER/SET/images and FOLDER/SET/labels the photos that are measured
(as for quality.py). Writes OUT/train/WAY and OUT/SET/WAY, runs in genseg's own format, where WAY is ``modulation``
(EmerDiff, section 3.4) or ``naive`` (the same clusters, scaled bilinearly). Shards that are there are kept, so that the
command goes on where it was killed; the photos of a larger --photos begin with those of a smaller one.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

import genseg
from command import run
from genseg.cluster import masks_of
from genseg.modulate import labels_and_margins
from genseg.runs.rows import Row, png_of, table_of
from genseg.runs.run import MANIFEST
from genseg.runs.sources import Source
from genseg.runs.store import Store
from quality import SIDE, load_set

WAYS = ("modulation", "naive")
SHARD = 25  # photos: a minute of work
MIX = ("camvid", "intel-street", "camvid", "intel-buildings")  # whose photos take turns
SETS = ("camvid", "facade")

Photo = tuple[str, Source, bytes | None]
"""Key, place, and the encoded image where it lies nowhere in this size."""


def photos_of(train: Path) -> Iterator[Photo]:
    """Photos of street scenes, groups taking turns, each in an order of its own that a seed fixes."""
    shuffled = {}
    for group in dict.fromkeys(MIX):
        paths = sorted((train / group).iterdir())
        order = np.random.default_rng(0).permutation(len(paths))
        shuffled[group] = iter([paths[i] for i in order])
    for group in cycle(MIX):
        path = next(shuffled[group], None)
        if path is None:
            return
        yield f"{group}/{path.stem}", Source(str(path)), None


def measured_photos(folder: Path, n_images: int) -> Iterator[Photo]:
    """The centre squares of photos that have labels, at the size of the training photos."""
    for sample in load_set(folder, n_images)[0]:
        square = sample.square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        yield sample.name, Source(""), png_of(np.asarray(square))


def naive_of(found: genseg.Segmentation) -> genseg.Segmentation:
    """The same clusters, scaled bilinearly in place of modulated; their margins are the confidence."""
    masks = masks_of(found.grid_labels, len(found.embeddings))
    labels, margins = labels_and_margins(masks, *found.labels.shape)
    return replace(found, labels=labels.numpy(), confidence=margins.half().numpy())


def segment_all(segmenter: genseg.Segmenter, photos: Sequence[Photo], out: Path) -> None:
    """Write both ways' runs, shard by shard."""
    recipe = dataclasses.asdict(segmenter.recipe)
    about = {"backend": segmenter.backend.name, "recipe": recipe, "seed": segmenter.seed}
    recipe_hash = hashlib.sha256(json.dumps([genseg.__version__, about], sort_keys=True).encode()).hexdigest()
    stores = {way: Store(str(out / way)) for way in WAYS}
    for way, store in stores.items():
        store.write_json(MANIFEST, about | {"way": way, "recipe_hash": recipe_hash, "images": len(photos)})
    for first in track(range(0, len(photos), SHARD), description=out.name):
        name, part = f"shards/shard-{first // SHARD:05}.parquet", photos[first : first + SHARD]
        if all(name in store.names("shards/*.parquet") and store.count(name) == len(part) for store in stores.values()):
            continue
        start = time.perf_counter()
        rows: dict[str, list[Row]] = {way: [] for way in WAYS}
        found_all = segmenter.map(source.read() if image is None else image for _, source, image in part)
        for (key, source, image), found in zip(part, found_all, strict=True):
            for way, segments in zip(WAYS, (found, naive_of(found)), strict=True):
                rows[way].append(Row.of(segments, key, source, recipe_hash, image=image))
        for way, store in stores.items():
            store.write_table(name, table_of(rows[way]))
        print(f"{out.name} {name}: {(time.perf_counter() - start) / len(part):.2f} s a photo", flush=True)


def masks(data: Path, out: Path, n_photos: int, n_measured: int, options: Iterable[str]) -> None:
    """Segment the photos that are measured and those that students learn from."""
    backend = genseg.load_backend("tiny")
    recipe = genseg.load_recipe("plus", calibration=backend.recipe, options=list(options))
    segmenter = genseg.Segmenter(backend, recipe)
    for name in SETS:
        segment_all(segmenter, list(measured_photos(data / name, n_measured)), out / name)
    segment_all(segmenter, list(islice(photos_of(data / "train"), n_photos)), out / "train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=700, help="without labels, for students")
    parser.add_argument("--measured", type=int, default=50, help="of each set with labels")
    parser.add_argument("options", nargs="*", metavar="key=value", help="recipe keys, laid over plus")
    args = parser.parse_args()
    masks(args.data, args.out, args.photos, args.measured, args.options)


if __name__ == "__main__":
    run(main)
