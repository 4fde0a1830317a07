"""The command ``genseg evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genseg.cli import options as cli_options
from genseg.cli.errors import complain
from genseg.cli.files import check_writable
from genseg.cli.options import OFFLINE, go_offline, load_options
from genseg.cli.progress import Bars
from genseg.errors import GensegError

if TYPE_CHECKING:
    from genseg.evaluation.results import Evaluation

BASELINES = ["naive", "feature-upsampling"]
MAIN_METRICS = ("miou", "boundary_f", "berkeley_f", "berkeley_ods")  # the last two of annotators' regions alone
SET_BY_RULES = ("protocol", "resolution", "refine", "min_pixels", "embedder")


def evaluate(
    context: typer.Context,
    dataset: cli_options.Dataset,
    root: cli_options.Root,
    options: cli_options.Keys = None,
    backend: cli_options.Backend = "tiny",
    recipe: cli_options.Recipe = None,
    protocol: cli_options.Protocols = cli_options.ORACLE,
    rules: cli_options.Rules = None,
    baselines: cli_options.Baselines = BASELINES,
    clusters: cli_options.Clusters = None,
    resolution: cli_options.Resolution = "512",
    limit: cli_options.Limit = None,
    split: cli_options.Split = None,
    refine: cli_options.Refine = None,
    min_pixels: cli_options.MinPixels = 0,
    encoder: Annotated[
        str | None, typer.Option(help="Cluster a vision encoder's features in place of a backend's, such as dinov2.")
    ] = None,
    embedder: Annotated[str | None, typer.Option(help="Names masks, for open-vocabulary: maskclip, tcl, ...")] = None,
    embedder_model: Annotated[str | None, typer.Option(help="A local checkpoint or hub id of the embedder.")] = None,
    model: cli_options.Model = None,
    load: cli_options.Load = None,
    out: cli_options.Out = Path("genseg-evaluation"),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    all_metrics: Annotated[bool, typer.Option("--all", help="Print all metrics of table.md.")] = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Score modulation and baselines on a dataset; write results.json, table.md, table.tex, plot.png, gallery.png.

    Masks are kept in DIR: an interrupted run resumes. Images that cannot be used are skipped and reported;
    the exit code is then 1.
    """
    check_writable(out)
    options = cli_options.with_clusters(options, clusters)
    if encoder is not None and cli_options.given(context, ["backend"]):
        raise GensegError("--encoder takes the place of --backend; give one of them")
    cli_options.check_embedder(embedder, embedder_model)
    if rules is not None and (others := cli_options.given(context, SET_BY_RULES)):
        raise GensegError(f"--rules {rules} sets what {others[0]} would; give one of them")

    published = None
    if rules is not None:
        from genseg.evaluation.published_rules import rules_named

        published = rules_named(rules)
        split = split or published.split_of(dataset)

    from genseg.evaluation.datasets import load_dataset

    data = load_dataset(dataset, root, split)

    from genseg.evaluation.evaluate import Plan
    from genseg.evaluation.evaluate import evaluate as run

    chosen = cli_options.methods_in(baselines, encoder=encoder is not None)
    protocols = cli_options.protocols_in(protocol, has_classes=data.n_classes is not None, named=embedder is not None)
    named = embedder is not None
    if named and rules is None and "open-vocabulary" not in protocols:
        raise GensegError("--embedder names masks for --protocol open-vocabulary; give that protocol too")
    plan = Plan(data, chosen, protocols, resolution, limit, refine, min_pixels, seed, named, published)
    with Bars(len(plan.keys)) as bars:
        evaluation = run(
            data,
            out,
            backend=backend,
            recipe=recipe,
            methods=chosen,
            protocols=protocols,
            rules=rules,
            resolution=resolution,
            limit=limit,
            refine=refine,
            min_pixels=min_pixels,
            encoder=encoder,
            embedder=embedder,
            embedder_model=embedder_model,
            seed=seed,
            model=model,
            device=device,
            dtype=dtype,
            load=load_options(load or []),
            options=options,
            progress=bars.on_progress,
        )
        evaluation.save(out)
        bars.say(f"results in {out}: results.json, table.md, table.tex, plot.png, gallery.png")
    show(evaluation, all_metrics)
    for entry in evaluation.results["unmeasured"]:
        complain(f"{entry['method']}, {entry['protocol']}: {entry['why']}")
    for failure in evaluation.results["failures"]:
        complain(f"{failure['image']}: {failure['problem']}")
    if evaluation.results["failures"]:
        raise typer.Exit(1)


def show(evaluation: Evaluation, all_metrics: bool = False) -> None:
    """Print the table, of the main metrics or of all, and what it says."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = evaluation.rows() if all_metrics else evaluation.rows(MAIN_METRICS)
    table = Table(*rows[0], title=evaluation.caption())
    for row in rows:
        table.add_row(*(Text(cell) for cell in row.values()))
    console = Console()
    console = console if console.is_terminal else Console(width=240 if all_metrics else 120)
    console.print(table)
    for line in evaluation.verdict():
        typer.echo(line)


def datasets() -> None:
    """List the datasets that 'genseg evaluate' reads, and the layout that each wants."""
    from genseg.evaluation.datasets import list_datasets

    for info in list_datasets():
        classes = f"{info.n_classes} classes" if info.n_classes else "regions or any classes"
        typer.echo(f"{info.name}: {info.title}, {classes}; splits {', '.join(info.splits)}; {info.licence}")
        typer.echo("\n".join(f"    {path}" for path in info.paths))
        for other in info.others:
            typer.echo(f"    also: {other}")
