"""Report of a run: counts, failures, cost and a gallery, in one HTML file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from genseg.cost import Cost
from genseg.display.html import embedded, rendered
from genseg.display.palette import palette
from genseg.errors import GensegError
from genseg.progress import minutes
from genseg.recipe import Recipe
from genseg.runs.rows import DONE, Row
from genseg.runs.run import Run
from genseg.segmentation import Segmentation

NAME = "report.html"
FAILURES = 100  # that are listed
GALLERY = 12  # pictures, of shards evenly spaced
WIDTH = 240  # pixels, at most, of a picture
LEAN = ("key", "status", "error", "seconds", "evaluations", "decodes", "masks.list.element.label")


@dataclass
class Summary:
    """Counts and cost of a run.

    Attributes:
        images: Those that are there.
        failed: Those of them that failed.
        segments: Of all images together.
        seconds: Of all workers together.
        evaluations: Model evaluations.
        bytes: Of the shards.
        failures: The first `FAILURES` rows that failed.
    """

    images: int = 0
    failed: int = 0
    segments: int = 0
    seconds: float = 0.0
    evaluations: int = 0
    bytes: int = 0
    failures: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run) -> Summary:
        """Count a run's rows; memory does not grow with them."""
        summary = cls(bytes=sum(run.store.size(shard) for shard in run.shards))
        for row in run.rows(LEAN, failed=True):
            summary.images += 1
            if row.status != DONE:
                summary.failed += 1
                summary.failures += [row] if len(summary.failures) < FAILURES else []
                continue
            summary.segments += len(row.masks)
            summary.seconds += sum(row.cost.seconds.values())
            summary.evaluations += row.cost.evaluations
        return summary

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, for JSON."""
        figures = {key: value for key, value in vars(self).items() if key != "failures"}
        return figures | {"failures": {row.key: row.error for row in self.failures}}


def write_report(run: Run) -> None:
    """Write ``report.html`` into a run's folder.

    Raises:
        GensegError: If it cannot be written.
    """
    summary = Summary.of(run)
    page = rendered(
        "run.html",
        settings=run.settings,
        facts=list(facts(run, summary)),
        failures=summary.failures,
        failed=summary.failed,
        gallery=_gallery(run),
    )
    run.store.write(NAME, page.encode(errors="backslashreplace"))


def facts(run: Run, summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield the counts of a run, in words."""
    total, done = run.settings.get("images", summary.images), summary.images - summary.failed
    yield "segmented", f"{done:,} of {total:,}"
    yield "failed", f"{summary.failed:,}"
    if run.damaged:
        yield "damaged", f"{len(run.damaged):,} shards or images"
    if summary.images < total:
        yield "left", f"{total - summary.images:,}"
    if done:
        yield "segments an image", f"{summary.segments / done:.1f}"
        yield "seconds an image", f"{summary.seconds / done:.2f}"
        yield "model evaluations an image", f"{summary.evaluations / done:.0f}"
        yield "time of all workers", minutes(summary.seconds)
        yield (
            "shards",
            f"{len(run.shards):,} files, {summary.bytes / 1e6:,.1f} MB, {summary.bytes / done:,.0f} bytes an image",
        )


def _gallery(run: Run) -> Iterator[tuple[str, str]]:
    """Key and overlay of one image of each of some shards, as a data URI; those that can be read."""
    shards = run.shards
    chosen = (
        [shards[i] for i in np.unique(np.linspace(0, len(shards) - 1, GALLERY).round().astype(int))] if shards else []
    )
    each = -(-GALLERY // max(len(chosen), 1))
    for shard in chosen:
        for row in islice(run.rows(shards=[shard]), each):
            try:
                overlay = _overlay(row)
            except GensegError:  # damaged, moved since, or on another machine
                continue
            yield row.key, embedded(overlay)


def _overlay(row: Row) -> Image.Image:
    colors, picture = palette(int(row.labels.max()) + 1), np.asarray(row.picture())
    nothing = np.zeros((len(colors), 0), dtype=np.float32)
    segmentation = Segmentation(row.labels, row.labels, nothing, colors, picture, None, Cost(), Recipe(), "", 0)
    return segmentation.resized(WIDTH).overlay()
