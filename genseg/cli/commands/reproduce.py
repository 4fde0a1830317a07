"""The command ``genseg reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.files import check_writable
from genseg.cli.options import OFFLINE, go_offline, load_options
from genseg.cli.progress import Bars


def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="emerdiff.")],
    data: Annotated[
        Path, typer.Option("--data", "-d", metavar="ROOT", help="Holds a folder for each dataset, named as it is.")
    ],
    options: cli_options.Keys = None,
    tables: Annotated[
        list[int] | None, typer.Option("--table", "-t", metavar="N", help="A table; repeatable. All unless given.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            "-b",
            help="In place of the paper's model, sd14; see 'genseg backends'.",
            autocompletion=complete.plugins("backend"),
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "-r",
            help="A preset (see 'genseg recipes') or a YAML file, for all models.",
            autocompletion=complete.recipes,
        ),
    ] = "paper",
    limit: cli_options.Limit = None,
    model: cli_options.Model = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="Of an encoder or embedder, such as tcl=tcl.pth; repeatable."),
    ] = None,
    load: cli_options.Load = None,
    out: cli_options.Out = Path("genseg-reproduction"),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Run a paper's tables and print our scores beside the published ones; write reproduction.json, .md and .tex.

    A dataset or model that is not there costs its rows only. Each evaluation has a folder in DIR: an
    interrupted run resumes.
    """
    check_writable(out)
    from genseg.evaluation.paper.reproduce import Reproducer

    chosen = cli_options.pairs_in("--weights", weights or [])
    reproducer = Reproducer(
        paper,
        data,
        tables or (),
        backend,
        recipe,
        options or (),
        limit,
        chosen,
        seed=seed,
        model=model,
        device=device,
        dtype=dtype,
        load=load_options(load or []),
    )
    with Bars(sum(reproducer.jobs.values())) as bars:
        for why in dict.fromkeys(reproducer.why.values()):
            bars.say(f"not run: {why}")
        reproduction = reproducer.run(out, bars.on_progress)
        reproduction.save(out)
    typer.echo(f"\n{reproduction.markdown()}")
    typer.echo(f"results in {out}: reproduction.json, reproduction.md, reproduction.tex, and a folder per evaluation")
    if any(row["failed"] or row["failures"] for row in reproduction.rows):
        raise typer.Exit(1)
