"""The command ``genseg evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genseg import _cli_complete as complete
from genseg._cli_bars import Bars
from genseg._cli_files import check_writable
from genseg._cli_start import OFFLINE, go_offline, load_options
from genseg.errors import GensegError

if TYPE_CHECKING:
    from genseg.evaluation.results import Evaluation


def names_in(given: str) -> list[str]:
    """The names of a comma-separated list, each once."""
    return list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))


def evaluate(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="See 'genseg datasets'; or 'folder'.")],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Where the data set lies.")],
    options: complete.Keys = None,
    backend: complete.Backend = "tiny",
    recipe: complete.Recipe = None,
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", metavar="A,B,...", help="How masks are given classes; 'all' for each.")
    ] = "oracle",
    methods: Annotated[
        str,
        typer.Option("--baselines", metavar="A,B,...", help="What modulation is measured against; 'all', or 'none'."),
    ] = "naive,feature-upsampling",
    clusters: Annotated[int | None, typer.Option("--clusters", "-k", metavar="K", help="Number of clusters.")] = None,
    resolution: Annotated[str, typer.Option(help="full, 512, 320 or 128: the side of the centre square.")] = "512",
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most N images, evenly spaced.")] = None,
    split: Annotated[str | None, typer.Option(help="Of the data set; none for the usual one.")] = None,
    refine: Annotated[str | None, typer.Option(help="A refinement of every method's masks, such as pamr.")] = None,
    min_pixels: Annotated[
        int, typer.Option(min=0, metavar="N", help="Merge parts smaller than N pixels, of every method.")
    ] = 0,
    encoder: Annotated[
        str | None, typer.Option(help="Cluster a vision encoder's features in place of a backend's, such as dinov2.")
    ] = None,
    embedder: Annotated[str | None, typer.Option(help="Names masks, for open-vocabulary: maskclip, tcl, ...")] = None,
    embedder_model: Annotated[str | None, typer.Option(help="A local checkpoint or hub id of the embedder.")] = None,
    model: Annotated[str | None, typer.Option(help="A local checkpoint or hub id in place of the backend's.")] = None,
    load: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Another option of the backend, such as offload=true; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where files go.")] = Path(
        "genseg-evaluation"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: Annotated[str | None, typer.Option(help="A torch device; else CUDA where there is one.")] = None,
    dtype: complete.Dtype = None,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Score modulation and baselines on a data set; write results.json, table.md, table.tex, plot.png, gallery.png.

    Masks are kept in DIR, and a later run goes on from there. What cannot be used is left out and told; the exit code
    is then 1.
    """
    check_writable(out)
    from genseg.evaluation.baselines import METHODS
    from genseg.evaluation.datasets import load_dataset
    from genseg.evaluation.evaluating import Plan
    from genseg.evaluation.evaluating import evaluate as run
    from genseg.evaluation.protocols import PROTOCOLS

    if encoder is not None and model is None and backend != "tiny":
        raise GensegError("--encoder takes the place of --backend; give one of them")
    data = load_dataset(dataset, root, split)
    others = list(METHODS) if methods == "all" else [] if methods == "none" else names_in(methods)
    chosen = list(dict.fromkeys(["modulation", *others]))
    if encoder is not None:
        chosen.remove("modulation")
    rules = names_in(protocol)
    if protocol == "all":
        rules = [p for p in PROTOCOLS if (data.n_classes or p == "oracle") and (embedder or p != "open-vocabulary")]
    if not chosen:
        raise GensegError("an encoder has no modulation; name a baseline, such as --baselines naive")
    plan = Plan(data, chosen, rules, resolution, limit, refine, min_pixels, seed)
    with Bars(len(plan.keys)) as bars:
        found = run(
            data,
            out,
            backend=backend,
            recipe=recipe,
            methods=chosen,
            protocols=rules,
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
            options=options or [],
            progress=bars.told,
            n_clusters=clusters,
        )
        found.save(out)
        bars.say(f"results in {out}: results.json, table.md, table.tex, plot.png, gallery.png")
    show(found)
    for entry in found.results["unmeasured"]:
        typer.echo(f"genseg: {entry['method']}, {entry['protocol']}: {entry['why']}", err=True)
    for failure in found.results["failures"]:
        typer.echo(f"genseg: {failure['image']}: {failure['problem']}", err=True)
    if found.results["failures"]:
        raise typer.Exit(1)


def show(found: Evaluation) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = found.rows()
    table = Table(*rows[0], title=found.caption())
    for row in rows:
        table.add_row(*(Text(cell) for cell in row.values()))
    console = Console()
    console = console if console.is_terminal else Console(width=240)
    console.print(table)


def datasets() -> None:
    """List the data sets that 'genseg evaluate' reads, and the layout that each wants."""
    from genseg.evaluation.datasets import list_datasets

    for info in list_datasets():
        classes = f"{info.n_classes} classes" if info.n_classes else "regions or any classes"
        typer.echo(f"{info.name}: {info.title}, {classes}; splits {', '.join(info.splits)}; {info.licence}")
        typer.echo("".join(f"    {path}\n" for path in info.paths).rstrip())
