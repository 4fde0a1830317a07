"""The command ``genseg export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.errors import complain
from genseg.errors import needing
from genseg.exports.formats import EXPORTS

FORMATS = tuple(EXPORTS)


def export(
    masks: Annotated[
        list[str],
        typer.Argument(
            metavar="MASKS",
            help="The folder or URL that 'genseg run' wrote to; or what 'genseg segment --save npz' wrote: a folder, "
            "files or patterns.",
        ),
    ],
    format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
            autocompletion=complete.words(*FORMATS),
        ),
    ],
    out: cli_options.Out = Path("genseg-export"),
    classes: Annotated[
        str | None, typer.Option(metavar="NAME", help="A set of classes of the run; none for masks without classes.")
    ] = None,
    things: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Classes whose masks are things, for coco-panoptic; others are stuff."),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, metavar="T", help="Ignore pixels with less confidence, from 0 to 1.")
    ] = 0.0,
    min_area: Annotated[int, typer.Option(min=0, metavar="PIXELS", help="Ignore segments with fewer pixels.")] = 0,
    images: Annotated[
        str,
        typer.Option(
            help="Whether to link, copy or leave out the images: link, copy or none.",
            autocompletion=complete.words("link", "copy", "none"),
        ),
    ] = "link",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Export only the first N images.")] = None,
) -> None:
    """Write masks in a format that other tools read; DIR is written as a whole or not at all.

    Images that failed in a run are left out. Images and files that cannot be read are skipped; the exit code is then 1.
    """
    from rich.progress import Progress

    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("images")
        with needing("export", "exporting needs"):
            from genseg.exports.export import export_run

            exported = export_run(
                masks,
                format,
                out,
                classes=classes,
                things=things or (),
                min_confidence=min_confidence,
                min_area=min_area,
                images=images,
                limit=limit,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    typer.echo(f"{exported.images} images in {out}")
    if exported.skipped.count:
        complain(f"{exported.skipped.count} images or shards are left out; the first: {exported.skipped.reason}")
        raise typer.Exit(1)
