"""Does reading a large run, or exporting it, take more memory than reading a small one? Resident size, measured.

python benchmarks/lazy_reading.py [--gb 1] [--folder DIR] [--out FILE]

Shards are written up to a size and removed afterwards. Their rows are those of the example photos, segmented with the
embedded model and shifted so that no two of a shard are the same; every shard has them under keys of its own. Then all
rows are read, and the run is exported as coco-instances without its images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from rich.console import Console
from rich.table import Table

import genseg
from command import run
from genseg.files import write_whole
from genseg.runs.rows import Row, table_of
from genseg.runs.run import MANIFEST, SHARDS, Run
from genseg.runs.sources import Source
from genseg.runs.store import Store

ROOT = Path(__file__).parents[1]
ROWS = 256  # of a shard
POINTS = 20  # at which the resident size is taken
BAR = 50e6  # bytes: the most that it may grow after the first of them


def rows(n: int, options: Sequence[str]) -> Iterator[Row]:
    """``n`` rows, no two the same: segmentations of the example photos, shifted, with some noise on embeddings."""
    noise = np.random.default_rng(0)
    segmenter = genseg.Segmenter("tiny", options=list(options), device="cpu")
    found = list(segmenter.map(sorted((ROOT / "examples/images").glob("*.jpg"))))
    for index in range(n):
        one = found[index % len(found)]
        shift = (int(noise.integers(one.labels.shape[0])), int(noise.integers(one.labels.shape[1])))
        assert one.confidence is not None
        moved = replace(
            one,
            labels=np.roll(one.labels, shift, axis=(0, 1)),
            confidence=np.roll(one.confidence, shift, axis=(0, 1)),
            embeddings=one.embeddings + noise.normal(0, 1e-3, one.embeddings.shape).astype(np.float32),
        )
        yield Row.of(moved, "key", Source(f"images/{index}.jpg"), "hash")


def write(folder: Path, size: float, table: pa.Table) -> int:
    """Shards of a table under new keys, until they have ``size`` bytes; returns how many bytes they have."""
    store, written, shard = Store(str(folder)), 0, 0
    while written < size:
        name = SHARDS.replace("*", f"shard-{shard:05}")
        keys = pa.array([f"{shard:05}/{row:03}.jpg" for row in range(len(table))])
        store.write_table(name, table.set_column(0, table.schema.field(0), keys))
        written += (folder / name).stat().st_size
        shard += 1
    store.write_json(MANIFEST, {"backend": "tiny"})
    return written


class Course:
    """The resident size over a count, and the rate of it."""

    def __init__(self, total: int) -> None:
        self._every, self._began = max(total // POINTS, 1), time.perf_counter()
        self.points: list[tuple[int, int]] = []
        self.seconds = 0.0

    def told(self, count: int, _: int = 0) -> None:
        """Take note of a count."""
        if count % self._every == 0:
            self.points.append((count, psutil.Process().memory_info().rss))
            self.seconds = time.perf_counter() - self._began

    def report(self) -> dict[str, Any]:
        """The points, the largest growth after the first, and the rate."""
        sizes = [size for _, size in self.points]
        rate = self.points[-1][0] / self.seconds
        return {"points": self.points, "growth": max(sizes) - sizes[0], "rows_per_second": rate}


def measured(total: int, use: Callable[[Course], None]) -> dict[str, Any]:
    """The report of a course that something is told along."""
    course = Course(total)
    use(course)
    return course.report()


def main(argv: Sequence[str] | None = None) -> None:
    """Write, read, export, print a table and write a report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gb", type=float, default=1.0, help="size of the shards")
    parser.add_argument("--folder", type=Path, help="where they are written; a temporary folder unless given")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="recipe keys, such as n_clusters=25")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name) / "run"
        size = write(folder, args.gb * 1e9, table_of(rows(ROWS, args.options)))
        found = Run(str(folder))
        total = len(found)

        def read(course: Course) -> None:
            for count, _ in enumerate(found.rows(), start=1):
                course.told(count)

        def export(course: Course) -> None:
            genseg.export_run(found, "coco-instances", Path(name) / "out", images="none", progress=course.told)

        courses = {"rows": measured(total, read), "coco-instances": measured(total, export)}
    met = all(course["growth"] <= BAR for course in courses.values())
    report = {"bytes": size, "rows": total, "bytes_per_row": size / total, "courses": courses, "bar": BAR, "met": met}
    table = Table("rows", *(f"MB resident, {name}" for name in courses))
    for points in zip(*(course["points"] for course in courses.values()), strict=True):
        table.add_row(f"{points[0][0]:,}", *(f"{size / 1e6:.0f}" for _, size in points))
    Console().print(table, f"{size / 1e9:.2f} GB, {total:,} rows, {size / total:,.0f} bytes a row")
    for name, course in courses.items():
        grown, rate = course["growth"] / 1e6, course["rows_per_second"]
        Console().print(f"{name}: grew by {grown:.0f} MB, {rate:.0f} rows/s")
    Console().print("flat" if met else f"over {BAR / 1e6:.0f} MB")
    if args.out is not None:
        write_whole(args.out, lambda file: file.write((json.dumps(report, indent=2) + "\n").encode()))


if __name__ == "__main__":
    run(main)
