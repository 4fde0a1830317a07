"""The command ``genseg name``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.commands.concepts import RunFolder, report_damaged, show
from genseg.cli.errors import complain
from genseg.cli.options import OFFLINE, go_offline
from genseg.cli.progress import Bars
from genseg.errors import GensegError, needing

if TYPE_CHECKING:
    from genseg.runs.run import Run


def name(
    context: typer.Context,
    run: RunFolder,
    classes: Annotated[
        str | None, typer.Option(metavar="CLASSES", help="Name masks by these texts, such as 'sky,building,tree'.")
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="Name masks by the labeled images in this folder.")
    ] = None,
    dataset: Annotated[
        str, typer.Option(metavar="DATASET", help="Dataset of the examples; see 'genseg datasets'.")
    ] = "folder",
    split: cli_options.Split = None,
    limit: cli_options.Limit = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model that compares masks and texts; maskclip unless given.",
            autocompletion=complete.plugins("embedder"),
        ),
    ] = None,
    embedder_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A local checkpoint or hub id in place of the embedder's.")
    ] = None,
    called: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the set of classes.")] = "names",
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume naming by the same texts, such as after an interruption.")
    ] = False,
    device: cli_options.Device = None,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Name the masks of a run, by texts or by a few labeled images.

    Writes RUN/classes/NAME, or replaces it unless --resume is given. Masks of images that can no longer be read get no
    name; the exit code is then 1.
    """
    if (classes is None) == (examples is None):
        raise GensegError(
            "give either --classes, such as 'sky,building,tree', or --examples, a folder of labeled images"
        )
    if classes is None and (embedder or embedder_model):
        raise GensegError("--embedder compares masks and texts; give --classes in place of --examples")
    if classes is None and resume:
        raise GensegError("--resume resumes naming by texts; leave it out with --examples, which is quick")
    if examples is None and (others := cli_options.given(context, ("dataset", "split", "limit"))):
        raise GensegError(f"{others[0]} chooses examples; give --examples in place of --classes")
    with needing("ray", "runs need"):
        from genseg.runs.run import Run
    opened = Run(run)
    if classes is None:
        assert examples is not None
        _by_examples(opened, examples, dataset, split, limit, called, device)
    else:
        _by_text(opened, classes, embedder or "maskclip", embedder_model, called, resume, device)


def _by_text(
    run: Run, classes: str, embedder: str, model: str | None, name: str, resume: bool, device: str | None
) -> None:
    from genseg.naming import classes_of
    from genseg.registry import load_embedder
    from genseg.runs.naming import name_run

    names = classes_of(classes)  # refuse those that cannot be used before a model is loaded
    with Bars(1) as bars:
        bars.stage("load", 0, 1)
        loaded = load_embedder(embedder, model=model, device=device)
        unnamed = name_run(run, names, loaded, name=name, resume=resume, progress=bars.stage)
    show(run, name)
    if unnamed.count:
        complain(f"{unnamed.count} images have no names; the first: {unnamed.reason}")
    if unnamed.count or report_damaged(run):
        raise typer.Exit(1)


def _by_examples(
    run: Run, root: Path, dataset: str, split: str | None, limit: int | None, name: str, device: str | None
) -> None:
    from genseg.evaluation.datasets import load_dataset
    from genseg.runs.naming import name_run_from_examples

    examples = load_dataset(dataset, root, split)
    with Bars(1) as bars:
        naming = name_run_from_examples(run, examples, name=name, limit=limit, device=device, progress=bars.stage)
    show(run, name)
    if naming.absent:
        complain(f"never assigned, as no example shows them: {', '.join(naming.absent)}")
    if report_damaged(run):
        raise typer.Exit(1)
