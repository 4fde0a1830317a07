"""``genseg results``: one table of many evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genseg.cli.errors import complain, report_errors
from genseg.errors import GensegError

app = typer.Typer(help="Collect evaluations into one table: model, rule and dataset.", no_args_is_help=True)

Table = Annotated[Path, typer.Option("--table", metavar="CSV", help="The table.")]
TABLE = Path("results.csv")


@app.command(no_args_is_help=True)
@report_errors()
def add(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="results.json of 'genseg evaluate', reproduction.json of 'genseg reproduce', or their folders.",
        ),
    ],
    table: Table = TABLE,
    dataset: Annotated[
        str | None, typer.Option(help="The dataset's name in the table, for data of your own ('folder').")
    ] = None,
) -> None:
    """Add results to a table; a row takes the place of an older one of the same model, settings and images."""
    from genseg.evaluation.results_table import merged, read_table, rows_of, write_table

    for file in files:
        if not file.exists():
            raise GensegError(f"{file} does not exist; check the path")
    before = read_table(table)
    added, failures = [], 0
    for file in files:
        try:
            added += rows_of(file, dataset)
        except GensegError as error:
            failures += 1
            complain(str(error))
    if added:
        after = merged(before, added)
        write_table(table, after)
        new = len(after) - len(before)
        typer.echo(f"{table}: {len(after)} rows, {new} new and {len({row.identity for row in added}) - new} replaced")
    if failures:
        raise typer.Exit(1)


@app.command()
@report_errors()
def show(table: Table = TABLE) -> None:
    """Print a table as Markdown."""
    from genseg.evaluation.results_table import read_table, to_markdown

    if not table.exists():
        raise GensegError(f"{table} does not exist; make it with 'genseg results add FILE --table {table}'")
    typer.echo(to_markdown(read_table(table)).rstrip())
