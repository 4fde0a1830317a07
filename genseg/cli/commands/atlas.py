"""``genseg atlas``: a picture of a model, its sites by timesteps, in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.commands.features import timesteps_in
from genseg.cli.errors import report_errors
from genseg.cli.files import check_output, split_inputs
from genseg.cli.options import OFFLINE, go_offline, load_options, names_in
from genseg.cli.progress import Bars
from genseg.errors import GensegError, needing


@report_errors()
def atlas(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO|KEY=VALUE",
            help="An image, and recipe keys such as n_clusters=12.",
            autocompletion=complete.keys,
        ),
    ],
    backend: cli_options.Backend = "tiny",
    sites: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,...", help="Sites, as for features; outputs and queries of blocks unless given."),
    ] = None,
    timesteps: Annotated[
        str | None, typer.Option(metavar="T,T,...", help="Timesteps; 1, 101, 201, 401 and the recipe's unless given.")
    ] = None,
    scores: Annotated[bool, typer.Option(help="Score each cell, which takes most of the time.")] = True,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The HTML file.")] = Path("atlas.html"),
    overwrite: cli_options.Overwrite = False,
    model: cli_options.Model = None,
    load: cli_options.Load = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Show what each site of a model sees of an image at each timestep, and how well it would be clustered."""
    images, options = split_inputs(inputs)
    if len(images) != 1:
        raise GensegError(f"an atlas is of one image, not of {len(images)}; give one")
    steps = timesteps_in(timesteps)
    check_output(out, overwrite)
    with Bars(1) as bars, needing("compare", "an atlas needs"):
        bars.stage("load", 0, 1)
        import jinja2  # noqa: F401

        from genseg.calibration.atlas import atlas as draw
        from genseg.recipe import load_recipe
        from genseg.registry import load_backend

        load_recipe(options=options)  # refuse a mistyped key before a model is loaded
        loaded = load_backend(backend, model=model, device=device, dtype=dtype, **load_options(load or []))
        result = draw(
            images[0],
            loaded,
            names_in(sites or []) or None,
            steps,
            scores=scores,
            seed=seed,
            progress=bars.stage,
            options=options,
        )
        result.to_html(out)
    for cell in result.best[:3]:
        typer.echo(f"tap={cell.site} t_f={cell.timestep}: {cell.score:.2f}")
    typer.echo(f"written: {out}")
