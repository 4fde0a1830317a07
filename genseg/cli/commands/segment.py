"""The command ``genseg segment``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.files import check_writable, kinds_of, planned, split_inputs, write
from genseg.cli.options import OFFLINE, go_offline, load_options
from genseg.cli.progress import Bars
from genseg.cli.segment_report import Report
from genseg.errors import GensegError, user_message
from genseg.files import KINDS

if TYPE_CHECKING:
    from genseg.recipe import Recipe
if TYPE_CHECKING:
    from genseg.segmentation import Segmentation

SAVED = ["overlay", "labels"]


def segment(
    inputs: cli_options.Inputs,
    backend: cli_options.Backend = "tiny",
    recipe: cli_options.Recipe = None,
    model: cli_options.Model = None,
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="A branch, tag or commit of the model on the hub.")
    ] = None,
    load: cli_options.Load = None,
    clusters: cli_options.Clusters = None,
    merge: Annotated[
        str | None, typer.Option(metavar="N|auto", help="Merge into at most N segments, or into a natural number.")
    ] = None,
    names: Annotated[
        str | None, typer.Option(metavar="CLASSES", help="Name segments by these classes, such as 'sky,building,tree'.")
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model that names segments; maskclip unless given.",
            autocompletion=complete.plugins("embedder"),
        ),
    ] = None,
    embedder_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A local checkpoint or hub id in place of the embedder's.")
    ] = None,
    out: cli_options.Out = Path("genseg-output"),
    save: Annotated[
        list[str],
        typer.Option(
            metavar="KINDS",
            help=f"Comma-separated, any of {','.join(KINDS)}; repeatable.",
            autocompletion=complete.several(complete.words(*KINDS)),
        ),
    ] = SAVED,
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    overwrite: cli_options.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each image, one per line.")] = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Segment images; for each, write NAME.overlay.png, NAME.labels.png, NAME.npz and so on.

    Files that exist are left alone. A broken image does not stop the others; the exit code is then 1.
    """
    kinds = kinds_of(save)
    unusable: dict[str, str] = {}
    images, options = split_inputs(inputs, unusable)
    options = cli_options.with_clusters(options, clusters)
    plan = planned(images, out, kinds, overwrite, unusable)
    check_writable(out)
    further = load_options(load or [], revision)
    _check(recipe, options, seed)
    merged = _merger(merge)

    todo = [(image, files) for image, files in plan if files]
    count = len(plan) + len(unusable)
    with Bars(count, quiet=as_json) as bars:
        report = Report(bars, count, out, kinds, as_json)
        for name, problem in unusable.items():
            report.failed(name, problem)
        if not dry_run:
            for image, files in plan:
                if not files:
                    report.skipped(image)
        if todo:
            bars.stage("load", 0, 1)
            begun = time.perf_counter()
            named = naming(names, embedder, embedder_model, device, dtype)

            from genseg.registry import load_backend

            loaded = load_backend(backend, model=model, device=device, dtype=dtype, **further)

            from genseg.segmenter import Segmenter

            resolved = loaded.resolve(recipe, options)
            segmenter = Segmenter(loaded, resolved, seed=seed, progress=bars.stage)
            loading = time.perf_counter() - begun
        if dry_run:
            while todo and (problem := _reading_error(todo[0][0], resolved)):
                report.failed(str(todo.pop(0)[0]), problem)
            if todo:
                from genseg.cli.dry_run import print_estimate

                print_estimate(segmenter, todo[0][0], len(todo), kinds, out, loading, as_json)
            else:
                report.nothing_to_do(backend, all_exist=not all(files for _, files in plan))
            todo = []
        for image, files in todo:
            try:
                segmentation = segmenter(image)
                if merged is not None:
                    segmentation = merged(segmentation)
                if named is not None:
                    segmentation = named(segmentation)
                write(segmentation, files, image)
            except Exception as error:  # whatever is wrong with one image or its files, the others are segmented
                report.failed(str(image), user_message(error))
            else:
                report.done(image, segmentation)
        report.end()


def _check(recipe: str | None, options: list[str], seed: int) -> None:
    """Refuse what can be refused before a model is loaded, the quickest to see first."""
    if seed < 0:
        raise GensegError(f"seed must be at least 0, not {seed}")

    from genseg.recipe import load_recipe

    load_recipe(recipe or "paper", options=options)


def _merger(merge: str | None) -> Callable[[Segmentation], Segmentation] | None:
    """Return the merging of ``--merge``; None without it."""
    if merge is None:
        return None
    from genseg.segmentation.merging import merger

    return merger(merge, "--merge")


def _reading_error(image: Path, recipe: Recipe) -> str:
    """Return why an image cannot be read; empty if it can."""
    from genseg.images import load_image

    try:
        load_image(image, recipe.max_pixels)
    except GensegError as error:
        return str(error)
    return ""


def naming(
    names: str | None, embedder: str | None, model: str | None, device: str | None, dtype: str | None
) -> Callable[[Segmentation], Segmentation] | None:
    """Return a function that names segments by ``--names`` and ``--embedder``; None without ``--names``.

    Raises:
        GensegError: If an embedder is given without names, or cannot be loaded, or a class has no name.
    """
    if names is None:
        if embedder or model:
            raise GensegError("--embedder names segments; give classes too, such as --names sky,building,tree")
        return None
    from genseg.naming import classes_of
    from genseg.registry import load_embedder

    classes = classes_of(names)
    loaded = load_embedder(embedder or "maskclip", model=model, device=device, dtype=dtype)
    return lambda segmentation: segmentation.name(classes, loaded)
