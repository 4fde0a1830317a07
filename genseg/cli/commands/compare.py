"""The command ``genseg compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.errors import complain
from genseg.cli.files import check_writable, split_inputs
from genseg.cli.progress import Bars
from genseg.display.spreadsheet import cell
from genseg.files import write_whole

if TYPE_CHECKING:
    from genseg.comparison.result import Comparison


def compare(
    inputs: cli_options.Inputs,
    backends: Annotated[
        list[str],
        typer.Option(
            "--backends",
            "-b",
            metavar="A,B,...",
            help="See 'genseg backends'; repeatable.",
            autocompletion=complete.several(complete.plugins("backend")),
        ),
    ],
    out: cli_options.Out = Path("genseg-report"),
    recipe: cli_options.Recipe = None,
    clusters: Annotated[
        int | None, typer.Option("--clusters", "-k", metavar="K", help="Number of clusters, for all; else 25.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Ground truth: DIR/NAME.png of classes; 255 is ignored.")
    ] = None,
    protocol: cli_options.Protocols = cli_options.ORACLE,
    model: cli_options.Models = None,
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
) -> None:
    """Compare models on the same images; write index.html, comparison.json, images.csv and pairs.csv.

    Segmentations are saved in DIR/BACKEND/NAME.npz, and a later run reuses them. Images and backends that cannot be
    used are skipped and listed; the exit code is then 1.
    """
    images, options = split_inputs(inputs)
    options = cli_options.with_clusters(options, clusters)
    names = [name.strip() for each in backends for name in each.split(",")]  # one named twice is refused
    check_writable(out)
    with Bars(len(images) * len(names)) as bars:

        def on_progress(backend: str, image: str, stage: str, done: int, total: int) -> None:
            bars.on_progress(f"{backend}, {image}", stage, done, total)

        import genseg

        comparison = genseg.compare(
            images,
            names,
            recipe,
            out=out,
            truths=None if labels is None else {image.stem: labels / f"{image.stem}.png" for image in images},
            protocols=cli_options.protocols_in(protocol),
            seed=seed,
            device=device,
            dtype=dtype,
            models=cli_options.pairs_in("--model", model or []),
            options=options,
            progress=on_progress,
        )
        comparison.to_html(out / "index.html")
        comparison.to_json(out / "comparison.json")
        _write_csv(comparison, out)
        bars.say(f"report in {out}: index.html, comparison.json, images.csv, pairs.csv")
    for backend, image, problem in comparison.failures.itertuples(index=False):
        complain(f"{': '.join(filter(None, (backend, image)))}: {problem}")
    if len(comparison.failures):
        raise typer.Exit(1)


def _write_csv(comparison: Comparison, out: Path) -> None:
    for name, frame in (("images", comparison.images), ("pairs", comparison.pairs)):
        text = frame.assign(image=frame["image"].map(cell)).to_csv(index=False)
        write_whole(out / f"{name}.csv", lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
