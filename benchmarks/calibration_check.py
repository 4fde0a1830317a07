"""Does calibration without labels know what is good? The rank correlation of its score with labelled figures.

    python benchmarks/calibration_check.py --data FOLDER [--images N] [--between] [key=value ...]

A spread of settings of `tiny`, one or two factors away from its recipe, each scored without labels and measured with
them, protocol of quality.py. Finished settings of a photo are kept, so that an interrupted run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr
from skimage.color import rgb2lab
from skimage.filters import sobel

import genseg
from calibrate_tiny import lines_of
from command import run
from genseg.calibration.criterion import Found, Unlabelled
from genseg.calibration.trials import Bench
from genseg.cluster import masks_of
from genseg.evaluation.metrics import boundaries
from genseg.evaluation.protocols import Record
from genseg.modulate import labels_at
from quality import (
    SIDE,
    Sample,
    common_options,
    digest,
    identity,
    load_set,
    parsed,
    provenance,
    record_of,
    resolved,
    score_of,
    wide_console,
)

SETTINGS = [
    "",
    *(f"tap={tap}" for tap in ("up1.0.query", "up1.0.self-query", "up1.0.output", "up1.1.query", "up1.1.self-query")),
    "tap=up1.2.output",
    *(f"t_f={t}" for t in (1, 51, 101, 401, 601)),
    *(f"point={point}" for point in ("up1.2.cross", "up1.0.cross")),
    *(f"strength={strength}" for strength in (1, 5, 10, 50, 200)),
    *(f"t_m={t}" for t in (21, 61, 381, 581, 781)),
    "tap=up1.0.query point=up1.0.cross strength=5",
    "tap=up1.2.output point=up1.2.cross",
    "tap=up1.0.query t_f=1 point=up1.2.cross",
    "t_f=601 t_m=781",
]
TERMS = ("localisation", "stability", "explained")
REJECTED = ("own", "margin", "contrast", "gain")
FORMULAS = [
    *((name,) for name in (*TERMS, *REJECTED)),
    ("localisation", "stability", "margin"),
    ("localisation", "stability", "gain"),
    ("localisation", "stability", "contrast", "explained"),
    ("contrast", "explained"),
    ("localisation", "explained"),
    TERMS,
]


def rejected_terms(pixels: torch.Tensor, found: Found) -> dict[str, float]:
    """Terms that the criterion does without, each in [0, 1].

    Returns:
        ``own``: share of each mask's own pixels that it wins, the mean over masks. ``margin``: by how much of itself
        the largest difference is above the second, the mean over pixels. ``contrast``: lightness gradient on the
        labels' boundaries against that of the whole image, c / (1 + c). ``gain``: the same against that on the
        boundaries of the clusters scaled bilinearly.
    """
    height, width = found.maps.shape[1:]
    naive = labels_at(masks_of(found.grid_labels, len(found.maps)), height, width).numpy()
    labels = found.maps.argmax(dim=0).numpy()
    second, first = np.sort(found.maps.numpy(), axis=0)[-2:]
    gradient = sobel(rgb2lab((pixels[0].permute(1, 2, 0).numpy() + 1) / 2)[..., 0])
    everywhere = np.ones(labels.shape, dtype=bool)
    there, before = (gradient[boundaries(each, everywhere)].mean() for each in (labels, naive))
    return {
        "own": float(np.mean([(labels[naive == k] == k).mean() for k in np.unique(naive)])),
        "margin": float(((first - second) / np.maximum(first, np.finfo(np.float32).tiny)).mean()),
        "contrast": float(there / (there + gradient[1:-1, 1:-1].mean())),
        "gain": float(there / (there + before)),
    }


def photo_line(key: str, bench: Bench, sample: Sample, n_classes: int | None, recipe: Any, seed: int) -> dict[str, Any]:
    """One setting on one photo: the terms without labels, and the figures with them."""
    found = [bench.found(0, recipe, seed + n) for n in range(Unlabelled.seeds)]
    records = [record_of(labels_at(each.maps, SIDE, SIDE).numpy(), sample.truths, n_classes) for each in found]
    kept = [{"figures": record.figures, "pixels": record.pixels.tolist()} for record in records]
    terms = Unlabelled().measure(0, bench.pixels[0], found)
    others = [rejected_terms(bench.pixels[0], each) for each in found]
    terms |= {name: float(np.mean([each[name] for each in others])) for name in REJECTED}
    return {"key": key, "terms": terms, "name": sample.name, "classes": n_classes, "records": kept}


def summary(lines: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """One setting over all photos, by set: terms are means over photos, figures are means over sets and both seeds."""
    terms = {
        name: float(np.mean([line["terms"][name] for each in lines.values() for line in each]))
        for name in (*TERMS, *REJECTED)
    }
    figures = []
    for each in lines.values():
        for seed in range(Unlabelled.seeds):
            kept = {line["name"]: line["records"][seed] for line in each}
            records = {name: Record(k["figures"], np.array(k["pixels"])) for name, k in kept.items()}
            figures.append(score_of(records, each[0]["classes"]))
    labelled = {name: float(np.mean([each.values(name)[0] for each in figures])) for name in ("miou", "boundary_f")}
    return terms | labelled | {"labelled": float(np.mean(list(labelled.values())))}


def product(row: dict[str, float], names: Sequence[str]) -> float:
    """Geometric mean of some terms."""
    return float(np.prod([row[name] for name in names]) ** (1 / len(names)))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print each setting and the rank correlations."""
    parser = common_options(__doc__, "benchmarks/results/calibration_check.jsonl", 3)
    parser.add_argument("--between", action="store_true", help="the photos half way between those instead")
    args = parsed(parser, argv)
    console = wide_console()
    backend = genseg.load_backend(args.backend, model=args.model)
    recipes = {setting: resolved(args, backend, setting.split()) for setting in SETTINGS}
    done = lines_of(args.out)
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {setting: {} for setting in SETTINGS}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        samples, n_classes = load_set(args.data / name, 2 * args.images - 1 if args.between else args.images)
        for sample in track(samples[1::2] if args.between else samples, name, console=console):
            bench = Bench(backend, recipes[""], [sample.square])
            for setting, recipe in recipes.items():
                key = digest([identity(args, backend, recipe), name, sample.name, n_classes, "records"])
                if key not in done:
                    done[key] = photo_line(key, bench, sample, n_classes, recipe, args.seed)
                    with Path(args.out).open("a", encoding="utf-8") as file:
                        file.write(json.dumps(done[key] | {"provenance": provenance(args)}) + "\n")
                rows[setting].setdefault(name, []).append(done[key])
    figures = {setting: summary(lines) for setting, lines in rows.items()}
    table = Table("setting", *TERMS, "score", "mIoU", "boundary F")
    for setting, row in figures.items():
        cells = [*(row[name] for name in TERMS), product(row, TERMS), row["miou"], row["boundary_f"]]
        table.add_row(setting or "(shipped)", *(f"{cell:.3f}" for cell in cells))
    console.print(table)
    table = Table(
        "formula", "mIoU", "boundary F", "their mean", "its best setting", title="Spearman's rank correlation"
    )
    for names in FORMULAS:
        scores = {setting: product(row, names) for setting, row in figures.items()}
        ranks = [
            spearmanr(list(scores.values()), [row[what] for row in figures.values()]).statistic
            for what in ("miou", "boundary_f", "labelled")
        ]
        table.add_row(
            " × ".join(names), *(f"{rank:.2f}" for rank in ranks), max(scores, key=scores.__getitem__) or "(shipped)"
        )
    console.print(table)


if __name__ == "__main__":
    run(main)
