"""Which recipe suits the bundled model? A sweep over recipe keys on a development subset.

    python benchmarks/calibrate_tiny.py --data FOLDER --grid "t_f=51,101,201" --grid "tap=up1.0.query,up1.0.output"

One factor at a time around the current recipe; ``--product`` for all combinations. Every setting is measured with
difference maps as they are and divided by their RMS, so `normalise` needs no sweep. Settings that the output file
already has are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

import genseg
from command import run
from genseg.evaluation.protocols import Record
from genseg.interface import Backend
from quality import (
    ARGMAX,
    Sample,
    common_options,
    digest,
    identity,
    load_set,
    model_labels,
    parsed,
    provenance,
    record_of,
    resolved,
    score_of,
    values_of,
    wide_console,
)

METHODS = ("naive", "feature-upsampling", *ARGMAX)
FIGURES = ("miou", "accuracy", "boundary_f")

Sets = Mapping[str, tuple[list[Sample], int | None]]


def settings(grids: Sequence[str], product: bool) -> list[list[str]]:
    """The settings of a sweep, each a list of ``key=value``, the current recipe (no override) first.

    Args:
        grids: ``key=value,value,...`` each.
        product: All combinations in place of one factor at a time.
    """
    factors = []
    for grid in grids:
        key, _, values = grid.partition("=")
        if not values:
            raise genseg.GensegError(f"a grid must read key=value,value,..., not {grid!r}")
        factors.append([f"{key}={value}" for value in values.split(",")])
    combined = itertools.product(*factors) if product else ([option] for factor in factors for option in factor)
    return [[], *(list(options) for options in combined)]


def measure(backend: Backend, recipe: genseg.Recipe, sets: Sets, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of one recipe: by set, and ``mean`` over sets; then by method; then by figure's name."""
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, (samples, n_classes) in sets.items():
        records: dict[str, dict[str, Record]] = {method: {} for method in METHODS}
        for sample in samples:
            labels = model_labels(backend, sample.square, recipe, seed)
            for method in METHODS:
                records[method][sample.name] = record_of(labels[method], sample.truths, n_classes)
        results[name] = {method: values_of(score_of(images, n_classes)) for method, images in records.items()}
    names = results[next(iter(sets))][METHODS[0]]
    mean = {m: {k: float(np.mean([results[s][m][k] for s in sets])) for k in names} for m in METHODS}
    return results | {"mean": mean}


def lines_of(path: Path) -> dict[str, dict[str, Any]]:
    """The settings that an output file already has, by key; a half-written last line is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry["key"]] = entry
    return found


def add_rows(table: Table, entry: Mapping[str, Any], names: Sequence[str]) -> None:
    """One setting's rows: by method, mIoU, accuracy and boundary F of each set and of the mean over sets."""
    for method in METHODS:
        cells = [" ".join(f"{entry['results'][name][method][k]:.3f}" for k in FIGURES) for name in (*names, "mean")]
        title = (" ".join(entry["setting"]) or "(current)") if method == METHODS[0] else ""
        table.add_row(title, method, *cells, f"{entry['seconds_per_image']:.1f}" if title else "")
    table.add_section()


def table_for(names: Sequence[str]) -> Table:
    """An empty table for `add_rows`."""
    return Table("setting", "method", *names, "mean of sets", "s/image", title="mIoU, accuracy, boundary F")


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = common_options(__doc__, "benchmarks/results/calibrate_tiny.jsonl", 12)
    parser.add_argument("--grid", action="append", default=[], metavar="KEY=A,B,...", help="values to try; repeatable")
    parser.add_argument("--product", action="store_true", help="all combinations, not one factor at a time")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sweep; append one JSON line a setting and print a table row for each."""
    args = parsed(options(), argv)
    console = wide_console()
    backend = genseg.load_backend(args.backend, model=args.model)
    recipes = [(setting, resolved(args, backend, setting)) for setting in settings(args.grid, args.product)]
    sets = {name: load_set(args.data / name, args.images) for name in args.sets}
    n_images = sum(len(samples) for samples, _ in sets.values())
    done, table, shown = lines_of(args.out), table_for(args.sets), set()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for number, (setting, recipe) in enumerate(recipes, 1):
        what = identity(args, backend, recipe)
        key = digest([what, args.sets, args.images])
        if key not in done:
            start = time.perf_counter()
            entry: dict[str, Any] = {"key": key, "setting": [*args.overrides, *setting], "recipe": what["recipe"]}
            try:
                with console.status(f"{number} of {len(recipes)}: {' '.join(setting)}"):
                    entry["results"] = measure(backend, recipe, sets, args.seed)
            except genseg.GensegError as error:  # this setting does not work; the others may
                console.print(f"{' '.join(setting)}: {error}")
                continue
            entry |= {"images": args.images, "seconds_per_image": (time.perf_counter() - start) / n_images}
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry | provenance(args)) + "\n")
            done[key] = entry
            row = table_for(args.sets)
            add_rows(row, entry, args.sets)
            console.print(row)
        if key not in shown:
            shown.add(key)
            add_rows(table, done[key], args.sets)
    console.print(table)
    console.print(f"written: {args.out}")


if __name__ == "__main__":
    run(main)
