"""Report of a run: counts, failures, cost, classes with their typical masks, and a gallery, in one HTML file."""

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
from genseg.progress import Progress, minutes
from genseg.recipe import Recipe
from genseg.runs.rows import DONE, Row
from genseg.runs.run import Run
from genseg.runs.typical import PICTURED, TYPICAL, cutouts, typical_masks
from genseg.segmentation import Segmentation

NAME = "report.html"
FAILURES = 100  # that are listed
CLASSES = 60  # of a set, that are shown: the most that `k="auto"` finds
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


@dataclass(frozen=True)
class ClassReport:
    """A class as the report shows it.

    Attributes:
        name: The class.
        share: Its size, in words.
        pictures: Its most typical masks that can be cut out: what each is, and a data URI.
    """

    name: str
    share: str
    pictures: list[tuple[str, str]]


@dataclass(frozen=True)
class ClassSetReport:
    """A set of classes as the report shows it.

    Attributes:
        name: The set.
        note: What is shown, or why nothing can be.
        classes: The classes with most masks, the largest first.
    """

    name: str
    note: str
    classes: list[ClassReport] = field(default_factory=list)


def write_report(run: Run, progress: Progress | None = None) -> None:
    """Write ``report.html`` into a run's folder, in place of the one that there may be.

    Whatever changes a run or reads it as a whole calls this at its end: runs, classes, names and exports.

    Args:
        run: The run, finished or not.
        progress: Progress callback: ``("report", 0, 1)``.

    Raises:
        GensegError: If it cannot be written.
    """
    if progress is not None:
        progress("report", 0, 1)
    run = Run(run.store.url)  # damage that is found for the pictures is the page's, not the caller's
    summary = Summary.of(run)
    page = rendered(
        "run.html",
        title=run.settings.get("input") or run.store.path("").rstrip("/").rpartition("/")[2],
        settings=run.settings,
        facts=list(facts(run, summary)),
        failures=summary.failures,
        failed=summary.failed,
        class_sets=(_class_set(run, name) for name in run.class_sets),  # one at a time in memory
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


def _class_set(run: Run, name: str) -> ClassSetReport:
    """Describe a set of classes, with pictures of typical masks."""
    try:
        classes = typical_masks(run, name)
        n_classes = len(run.class_names(name))
    except GensegError as error:
        return ClassSetReport(name, str(error))
    masks, pixels = sum(each.masks for each in classes), sum(each.pixels for each in classes)
    shown = classes[:CLASSES]
    pictures = cutouts(run, [place for each in shown for place in each.places])
    note = f"{masks:,} masks in {n_classes:,} classes"
    if len(shown) < n_classes:
        note += f", of which the {len(shown):,} with most masks are shown"
    return ClassSetReport(
        name,
        f"{note}. Of each class: the {TYPICAL} masks nearest to its center, the nearest first.",
        [
            ClassReport(
                each.name,
                f"{each.pixels / pixels:.1%} of the pixels, {each.masks:,} masks ({each.masks / masks:.1%})",
                [(f"mask {p.label} of {p.key}", embedded(pictures[p])) for p in each.places if p in pictures],
            )
            for each in shown
        ],
    )


def _gallery(run: Run) -> Iterator[tuple[str, str]]:
    """Key and overlay of one image of each of some shards, as a data URI; those that can be read."""
    shards = run.shards
    chosen = (
        [shards[i] for i in np.unique(np.linspace(0, len(shards) - 1, GALLERY).round().astype(int))] if shards else []
    )
    each = -(-GALLERY // max(len(chosen), 1))
    for shard in chosen:
        for row in islice(run.rows(PICTURED, shards=[shard]), each):
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
