"""The command ``genseg synth``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genseg.cli import options as cli_options
from genseg.cli.options import OFFLINE, go_offline, load_options
from genseg.cli.progress import Bars
from genseg.errors import GensegError, needing


def synth(
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="A folder or URL for the shards.")],
    number: Annotated[int, typer.Option("--number", "--n", "-n", min=1, help="How many images, of seeds that follow.")],
    options: cli_options.Keys = None,
    backend: cli_options.Backend = "tiny",
    recipe: cli_options.Recipe = None,
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="What the images show; none for anything.")] = "",
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts that take turns, one per line, in place of --prompt.")
    ] = None,
    model: cli_options.Model = None,
    load: cli_options.Load = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first image; same seed, same image.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    shard_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images to a shard.")] = 64,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in DIR.")] = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Let a model make images with their masks, without inversion, as a run: shards of Parquet."""
    if prompt and prompts:
        raise GensegError("give --prompt or --prompts, not both")
    texts = [prompt] if prompts is None else _lines(prompts)
    with needing("ray", "runs need"):
        from genseg.runs.synth import synth as make

    with Bars(1) as bars:
        make(
            out,
            number,
            backend,
            recipe,
            prompts=texts,
            seed=seed,
            model=model,
            device=device,
            dtype=dtype,
            load=load_options(load or []),
            options=options or [],
            shard_size=shard_size,
            resume=resume,
            progress=bars.stage,
        )
    typer.echo(f"{number} images in {out}: shards/, run.json, report.html")


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise GensegError(f"cannot read the prompts {file}: {getattr(error, 'strerror', None) or error}") from error
