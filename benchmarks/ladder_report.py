"""The figures of `ladder`: each rung beside `paper`, photo by photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
from rich.table import Table

from genseg.evaluation.agreement import agreement
from genseg.evaluation.metrics import Floats, Labels, interval
from genseg.evaluation.protocols import Record
from quality import score_of

FIGURES = ("miou", "boundary_f")


@dataclass(frozen=True)
class Measured:
    """One photo by one rung.

    Attributes:
        name: The photo's.
        labels: Its segments.
        same_clusters: Its segments if the clusters are those of `paper`: what the modulation alone changes.
        seconds: Wall time by stage.
        figures: Its segments against the truth, under the protocol ``oracle``.
        n_classes: Of its set; None for annotators' regions.
    """

    name: str
    labels: Labels
    same_clusters: Labels
    seconds: Mapping[str, float]
    figures: Record
    n_classes: int | None


Sets = Mapping[str, Sequence[Measured]]


def figures(rung: Sets, paper: Sets, paper_same_dtype: Sets | None) -> dict[str, Any]:
    """Time, agreement with `paper` and change of its figures, of a rung measured on the photos of several sets.

    Changes are paired by photo and have 95 % bootstrap intervals; ``mean`` is over sets, each resampled by itself.
    """
    photos, papers = ([m for measured in sets.values() for m in measured] for sets in (rung, paper))
    names = [f"{s}/{m.name}" for s, measured in rung.items() for m in measured]
    assert names == [f"{s}/{m.name}" for s, measured in paper.items() for m in measured]
    ends = [agreement(p.labels, m.labels) for m, p in zip(photos, papers, strict=True)]
    same = [agreement(p.labels, m.same_clusters) for m, p in zip(photos, papers, strict=True)]
    stages = {stage: median(m.seconds[stage] for m in photos) for stage in photos[0].seconds}
    changes = {s: change(rung[s], paper[s], number) for number, s in enumerate(rung)}
    return {
        "seconds": seconds(rung),
        "stages": stages,
        "speedup": seconds(paper) / seconds(rung),
        "speedup_same_dtype": seconds(paper_same_dtype) / seconds(rung) if paper_same_dtype else None,
        "agreement": {key: fmean(photo[key] for photo in ends) for key in ends[0]},
        "worst_agreement": min(photo["matched"] for photo in ends),
        "agreement_same_clusters": {key: fmean(photo[key] for photo in same) for key in same[0]},
        "change": {
            key: {s: summary(found[key]) for s, found in changes.items()}
            | {"mean": summary(np.mean([found[key] for found in changes.values()], axis=0))}
            for key in FIGURES
        },
        "by_photo": {name: end["matched"] for name, end in zip(names, ends, strict=True)},
    }


def seconds(sets: Sets) -> float:
    """Median over all photos of the stages' sum."""
    return median(sum(m.seconds.values()) for measured in sets.values() for m in measured)


def change(rung: Sequence[Measured], paper: Sequence[Measured], seed: int) -> dict[str, Floats]:
    """Gains of a set's figures over `paper`'s: by figure, for the set and each of its D resamples [1 + D]."""
    own, base = (score_of({m.name: m.figures for m in photos}, photos[0].n_classes, seed) for photos in (rung, paper))
    return {key: own.values(key) - base.values(key) for key in FIGURES}


def summary(values: Floats) -> dict[str, Any]:
    """A change and its versions [1 + D] as a number and its interval."""
    return {"value": float(values[0]), "interval": interval(values[1:])}


HEADER = (
    "rung", "s/image", "speed-up", "same dtype", "agreement", "worst photo", "ARI", "same clusters", "Δ mIoU, points",
    "Δ boundary F, points",
)  # fmt: skip


def rows(rungs: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The cells of every rung, as `HEADER` names them."""
    found = []
    for name, entry in rungs.items():
        same_dtype = entry["speedup_same_dtype"]
        cells = [f"{entry['seconds']:.2f}", f"{entry['speedup']:.1f}×", f"{same_dtype:.1f}×" if same_dtype else ""]
        cells += [f"{entry['agreement']['matched']:.3f}", f"{entry['worst_agreement']:.3f}"]
        cells += [f"{entry['agreement']['ari']:.3f}", f"{entry['agreement_same_clusters']['matched']:.3f}"]
        found.append((name, *cells, *(_points(entry["change"][key]["mean"]) for key in FIGURES)))
    return found


def _points(change: Mapping[str, Any]) -> str:
    """A change in points, with its interval."""
    low, high = (100 * end for end in change["interval"])
    return f"{100 * change['value']:+.1f} [{low:+.1f}, {high:+.1f}]"


def table_of(rungs: Mapping[str, Any]) -> Table:
    """All rungs as a table."""
    about = "to paper in float32; agreement: pixels after matching segments; Δ: mean over sets, 95 % interval"
    table = Table(*HEADER, caption=about)
    for cells in rows(rungs):
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def markdown(rungs: Mapping[str, Any]) -> str:
    """All rungs as a table for the docs."""
    lines = [HEADER, ("---",) * len(HEADER), *((f"`{cells[0]}`", *cells[1:]) for cells in rows(rungs))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
