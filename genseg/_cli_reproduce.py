"""The command ``genseg reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genseg import _cli_complete as complete
from genseg._cli_bars import Bars
from genseg._cli_files import check_writable
from genseg._cli_start import OFFLINE, go_offline, load_options
from genseg.errors import GensegError


def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="emerdiff.")],
    data: Annotated[
        Path, typer.Option("--data", "-d", metavar="ROOT", help="Holds a folder for each data set, named as it is.")
    ],
    options: complete.Keys = None,
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
    recipe: complete.Recipe = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most N images of a set, evenly spaced.")] = None,
    model: Annotated[str | None, typer.Option(help="A local checkpoint or hub id in place of the backend's.")] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="Of an encoder or embedder, such as tcl=tcl.pth; repeatable."),
    ] = None,
    load: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Another option of the backend, such as offload=true; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where files go.")] = Path(
        "genseg-reproduction"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: Annotated[str | None, typer.Option(help="A torch device; else CUDA where there is one.")] = None,
    dtype: complete.Dtype = None,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Run a paper's tables and print our figures beside the published ones; write reproduction.json, .md and .tex.

    A data set or model that is not there costs its rows only. Each evaluation has a folder in DIR, and a later run
    goes on from there.
    """
    check_writable(out)
    from genseg.evaluation.reproducing import Reproducer

    chosen = dict(_pair(given) for given in weights or [])
    reproducer = Reproducer(
        paper,
        data,
        tables or (),
        backend,
        recipe or "paper",
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
        found = reproducer.run(out, bars.told)
        found.save(out)
    typer.echo(f"\n{found.markdown()}")
    typer.echo(f"results in {out}: reproduction.json, reproduction.md, reproduction.tex, and a folder an evaluation")
    if any(row["failed"] or row["failures"] for row in found.rows):
        raise typer.Exit(1)


def _pair(given: str) -> tuple[str, str]:
    name, equals, place = given.partition("=")
    if not (name and equals and place):
        raise GensegError(f"--weights reads NAME=MODEL, such as tcl=tcl.pth, not {given!r}")
    return name, place
