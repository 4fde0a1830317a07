"""The command ``genseg ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genseg import _cli_complete as complete
from genseg._cli_bars import Bars
from genseg._cli_evaluate import names_in
from genseg._cli_files import check_writable


def ablate(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="See 'genseg datasets'; or 'folder'.")],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Where the data set lies.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys that all settings have.")
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option("--sweep", metavar="KEY=A,B,...", help="Values to try; repeatable.")
    ] = None,
    backend: complete.Backend = "tiny",
    recipe: complete.Recipe = None,
    protocol: Annotated[str, typer.Option("--protocol", "-p", metavar="A,B,...")] = "oracle",
    methods: Annotated[str, typer.Option("--methods", metavar="A,B,...")] = "modulation,naive",
    resolution: Annotated[str, typer.Option(help="full, 512, 320 or 128: the side of the centre square.")] = "512",
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most N images, evenly spaced.")] = None,
    split: Annotated[str | None, typer.Option(help="Of the data set; none for the usual one.")] = None,
    min_pixels: Annotated[int, typer.Option(min=0, metavar="N", help="Merge parts smaller than N pixels.")] = 0,
    model: Annotated[str | None, typer.Option(help="A local checkpoint or hub id in place of the backend's.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where files go.")] = Path("genseg-ablation"),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same result.")] = 0,
    device: Annotated[str | None, typer.Option(help="A torch device; else CUDA where there is one.")] = None,
    dtype: complete.Dtype = None,
) -> None:
    """Score a data set at each value of recipe keys, one at a time; write ablation.json, ablation.md, ablation.png.

    Masks are kept in DIR, and a later run goes on from there.
    """
    check_writable(out)
    from genseg.errors import GensegError
    from genseg.evaluation.ablation import ablate as run
    from genseg.evaluation.ablation import sweep_of
    from genseg.evaluation.datasets import load_dataset
    from genseg.evaluation.evaluating import Plan
    from genseg.registry import load_backend

    if not sweep:
        raise GensegError("nothing to sweep; give --sweep KEY=A,B,..., such as --sweep t_m=181,281")
    count = sum(len(sweep_of(given)[1]) for given in sweep)
    data, chosen, rules = load_dataset(dataset, root, split), names_in(methods), names_in(protocol)
    plan = Plan(data, chosen, rules, resolution, limit, None, min_pixels, seed)
    loaded = load_backend(backend, model=model, device=device, dtype=dtype)
    with Bars(count * len(plan.keys)) as bars:
        found = run(
            data,
            out,
            sweep,
            backend=loaded,
            options=options or [],
            recipe=recipe,
            methods=chosen,
            protocols=rules,
            resolution=resolution,
            limit=limit,
            min_pixels=min_pixels,
            seed=seed,
            model=model,
            dtype=dtype,
            progress=bars.told,
        )
        found.save(out)
    typer.echo(found.table())
    typer.echo(f"results in {out}: ablation.json, ablation.md, ablation.png")
    if any(row["failures"] for row in found.rows):
        raise typer.Exit(1)
