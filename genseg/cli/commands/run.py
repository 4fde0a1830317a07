"""The command ``genseg run``."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from typing import Annotated, Any

import typer

from genseg.cli import options as cli_options
from genseg.cli.commands.concepts import report_damaged
from genseg.cli.errors import complain
from genseg.cli.options import OFFLINE, go_offline, load_options
from genseg.cli.progress import RunBar
from genseg.errors import needing


def run(
    given: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A folder, a pattern or a file, local or by URL (s3://, gs://, hf://): images, WebDataset tars, "
            "Parquet files with a column of images.",
        ),
    ],
    options: cli_options.Keys = None,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="A folder or URL for the shards.")
    ] = "genseg-run",
    backend: cli_options.Backend = "tiny",
    recipe: cli_options.Recipe = None,
    clusters: cli_options.Clusters = None,
    model: cli_options.Model = None,
    load: cli_options.Load = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many; one per GPU, or as many as the CPUs allow, unless given."),
    ] = None,
    cpus_per_worker: Annotated[
        int, typer.Option(min=1, metavar="N", help="CPUs that a worker reserves; its threads, where there is no GPU.")
    ] = 1,
    shard_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images to a shard: what a worker that is killed loses at most.")
    ] = 64,
    keep_images: Annotated[bool, typer.Option("--keep-images", help="Keep each image in its row.")] = False,
    mask_confidence: Annotated[
        bool, typer.Option("--mask-confidence", help="Keep confidence by mask alone, not by pixel.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in DIR.")] = False,
    max_errors: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Stop once more than N images have failed.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, such as auto; local starts Ray even for one worker.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate time and disk from a few images, and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as a JSON object.")] = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Segment a dataset into shards of Parquet, on all GPUs or CPUs; write report.html.

    One process does what one worker can: a single shard, a single GPU or CPU, or --workers 1. Ray shares the rest.
    An interrupted run continues with --resume. A broken image becomes a row with an error; the exit code is then 1.
    """
    keys = cli_options.with_clusters(options, clusters)
    with needing("ray", "runs need"):
        from genseg.runs.plan import items_of

        if not resume:  # the plan of a run that is resumed is there
            next(items_of(given))

        from genseg.runs.driver import run_dataset
        from genseg.runs.dry_run import estimate_run
        from genseg.runs.report import NAME, Summary, facts

    shared: dict[str, Any] = {
        "seed": seed,
        "options": keys,
        "workers": workers,
        "cpus_per_worker": cpus_per_worker,
        "shard_size": shard_size,
        "keep_images": keep_images,
        "pixel_confidence": not mask_confidence,
        "model": model,
        "device": device,
        "dtype": dtype,
        "load": load_options(load or []),
    }
    if dry_run:
        cost = estimate_run(given, backend, recipe, **shared)
        typer.echo(json.dumps(cost.as_dict()) if as_json else cost.in_words())
        return
    # Ray says on standard output that a worker died, where nothing but JSON may be.
    with redirect_stdout(sys.stderr) if as_json else nullcontext(), RunBar(quiet=as_json) as bar:
        done = run_dataset(
            given,
            out,
            backend,
            recipe,
            **shared,
            resume=resume,
            max_errors=max_errors,
            address=address,
            progress=bar.on_progress,
        )
    summary = Summary.of(done)
    if as_json:
        typer.echo(json.dumps(summary.as_dict() | {"out": out, "recipe_hash": done.settings["recipe_hash"]}))
    else:
        for name, figure in facts(done, summary):
            typer.echo(f"{name}: {figure}")
        typer.echo(f"files in {out}: shards/, run.json, {NAME}")
    for row in summary.failures:
        complain(f"{row.key}: {row.error}")
    if report_damaged(done) or summary.failed:
        raise typer.Exit(1)
