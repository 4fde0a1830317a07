"""The command ``genseg ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import options as cli_options
from genseg.cli.files import check_writable
from genseg.cli.options import load_options
from genseg.cli.progress import Bars
from genseg.errors import GensegError

BASELINES = ["naive"]


def ablate(
    dataset: cli_options.Dataset,
    root: cli_options.Root,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys that all settings have.")
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option("--sweep", metavar="KEY=A,B,...", help="Values to try; repeatable.")
    ] = None,
    clusters: cli_options.Clusters = None,
    backend: cli_options.Backend = "tiny",
    recipe: cli_options.Recipe = None,
    protocol: cli_options.Protocols = cli_options.ORACLE,
    baselines: cli_options.Baselines = BASELINES,
    resolution: cli_options.Resolution = "512",
    limit: cli_options.Limit = None,
    split: cli_options.Split = None,
    refine: cli_options.Refine = None,
    min_pixels: cli_options.MinPixels = 0,
    model: cli_options.Model = None,
    load: cli_options.Load = None,
    out: cli_options.Out = Path("genseg-ablation"),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
) -> None:
    """Score a dataset at each value of recipe keys, one at a time; write ablation.json, ablation.md, ablation.png.

    Masks are saved in DIR, from which a later run resumes.
    """
    check_writable(out)
    options = cli_options.with_clusters(options, clusters)
    if not sweep:
        raise GensegError("nothing to sweep; give --sweep KEY=A,B,..., such as --sweep t_m=181,281")

    from genseg.evaluation.datasets import load_dataset

    data = load_dataset(dataset, root, split)

    from genseg.evaluation.ablation import ablate as run
    from genseg.evaluation.ablation import parse_sweep
    from genseg.evaluation.evaluate import Plan
    from genseg.registry import load_backend

    count = sum(len(parse_sweep(option)[1]) for option in sweep)
    chosen, further = cli_options.methods_in(baselines), load_options(load or [])
    rules = cli_options.protocols_in(protocol, has_classes=data.n_classes is not None)
    plan = Plan(data, chosen, rules, resolution, limit, refine, min_pixels, seed)
    loaded = load_backend(backend, model=model, device=device, dtype=dtype, **further)
    with Bars(count * len(plan.keys)) as bars:
        ablation = run(
            data,
            out,
            sweep,
            backend=loaded,
            options=options,
            recipe=recipe,
            methods=chosen,
            protocols=rules,
            resolution=resolution,
            limit=limit,
            refine=refine,
            min_pixels=min_pixels,
            seed=seed,
            model=model,
            dtype=dtype,
            load=further,
            progress=bars.on_progress,
        )
        ablation.save(out)
    typer.echo(ablation.table())
    typer.echo(f"results in {out}: ablation.json, ablation.md, ablation.png")
    if any(row["failures"] for row in ablation.rows):
        raise typer.Exit(1)
