"""The command ``genseg compare``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genseg import _cli_complete as complete
from genseg._cli_bars import Bars
from genseg._cli_files import check_writable, sorted_out
from genseg.errors import GensegError
from genseg.files import write_whole

if TYPE_CHECKING:
    from genseg.comparison import Comparison


def compare(
    inputs: complete.Inputs,
    backends: Annotated[
        str,
        typer.Option(
            "--backends",
            "-b",
            metavar="A,B,...",
            help="See 'genseg backends'.",
            autocompletion=complete.several(complete.plugins("backend")),
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where files go.")] = Path("genseg-report"),
    recipe: complete.Recipe = None,
    clusters: Annotated[
        int | None, typer.Option("--clusters", "-k", metavar="K", help="Number of clusters, for all; else 25.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Ground truth: DIR/NAME.png, a class a pixel; 255 is ignored.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="A local checkpoint or hub id for one of the backends; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    device: Annotated[str | None, typer.Option(help="A torch device; else CUDA where there is one.")] = None,
    dtype: complete.Dtype = None,
) -> None:
    """Compare models on the same images; write index.html, comparison.json, images.csv and pairs.csv.

    Segmentations are kept in DIR/BACKEND/NAME.npz, and a later run goes on from there. What cannot be used is left
    out and told; the exit code is then 1.
    """
    images, options = sorted_out(inputs)
    names = [name.strip() for name in backends.split(",")]
    check_writable(out)
    with Bars(len(images) * len(names)) as bars:

        def told(backend: str, image: str, stage: str, done: int, total: int) -> None:
            bars.told(f"{backend}, {image}", stage, done, total)

        import genseg

        comparison = genseg.compare(
            images,
            names,
            recipe,
            out=out,
            truths=None if labels is None else {image.stem: labels / f"{image.stem}.png" for image in images},
            seed=seed,
            device=device,
            dtype=dtype,
            models=dict(_named(model or [])),
            options=options,
            progress=told,
            n_clusters=clusters,
        )
        comparison.to_html(out / "index.html")
        comparison.to_json(out / "comparison.json")
        _write_csv(comparison, out)
        bars.say(f"report in {out}: index.html, comparison.json, images.csv, pairs.csv")
    for backend, image, problem in comparison.failures.itertuples(index=False):
        typer.echo(f"genseg: {': '.join(filter(None, (backend, image)))}: {problem}", err=True)
    if len(comparison.failures):
        raise typer.Exit(1)


def _named(models: Iterable[str]) -> Iterable[tuple[str, str]]:
    """The backends' names and models of ``--model``."""
    for given in models:
        name, equals, model = given.partition("=")
        if not (name and equals and model):
            raise GensegError(f"--model {given} is not NAME=MODEL, such as sd15=checkpoints/mine")
        yield name, model


def _write_csv(comparison: Comparison, out: Path) -> None:
    for name, frame in (("images", comparison.images), ("pairs", comparison.pairs)):
        text = frame.to_csv(index=False)
        write_whole(out / f"{name}.csv", lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
