"""The command ``genseg concepts``, and what it has in common with ``genseg name``."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from genseg.cli.errors import complain
from genseg.cli.progress import Bars
from genseg.errors import GensegError, needing, whole_number

if TYPE_CHECKING:
    from genseg.runs.run import Run

SHOWN = 10  # classes in the table

RunFolder: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help="The folder or URL that 'genseg run' wrote to.")
]


def concepts(
    run: RunFolder,
    k: Annotated[str, typer.Option("--k", "-k", metavar="K|auto", help="Number of concepts.")] = "27",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the set of classes; concepts-K unless given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
) -> None:
    """Find classes of a whole run: cluster the embeddings of all its masks, and assign each mask its cluster.

    Writes RUN/classes/NAME, or replaces it. Memory does not grow with the run.
    """
    number = "auto" if k == "auto" else whole_number(k)
    if number is None:
        raise GensegError(f"--k must be a number or auto, not {reprlib.repr(k)}")
    with needing("ray", "runs need"):
        from genseg.runs.run import Run

        opened = Run(run)

        from genseg.runs.concepts import find_concepts
    with Bars(1) as bars:
        result = find_concepts(opened, number, name=name, seed=seed, progress=bars.stage)
    show(opened, result.name)
    if report_damaged(opened):
        raise typer.Exit(1)


def report_damaged(run: Run) -> bool:
    """Report damaged shards and images; return whether there are any."""
    for name, reason in islice(run.damaged.items(), 1):
        complain(f"{len(run.damaged)} shards or images are damaged and left out; the first: {name}: {reason}")
    return bool(run.damaged)


def show(run: Run, classes: str) -> None:
    """Print the classes with most masks, and where pictures of them are."""
    from rich.console import Console
    from rich.table import Table

    from genseg.runs.class_sets import ClassCounts
    from genseg.runs.report import NAME

    counts = ClassCounts.of(run, classes)
    order = sorted(range(len(counts.names)), key=lambda k: -counts.masks[k])
    table = Table("class", "masks", "pixels", box=None, pad_edge=False)
    for k in order[:SHOWN]:
        share = counts.pixels[k] / max(sum(counts.pixels), 1)
        table.add_row(counts.names[k], f"{counts.masks[k]}", f"{share:.1%}")
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(table)
    further = f", of which the largest {SHOWN} are shown" if len(order) > SHOWN else ""
    console.print(f"{classes}: {sum(counts.masks)} masks in {len(order)} classes{further}", soft_wrap=True)
    console.print(f"typical masks of each class: {run.store.url.rstrip('/')}/{NAME}", soft_wrap=True)
