"""``genseg segment --dry-run``: what a run would cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from genseg.cli.files import files_of, write
from genseg.cli.segment_report import cost_in_words
from genseg.files import in_bytes
from genseg.progress import minutes

if TYPE_CHECKING:
    from genseg.segmenter import Segmenter


def foretell(
    segmenter: Segmenter, image: Path, images: int, kinds: Sequence[str], out: Path, loading: float, as_json: bool
) -> None:
    """Print what segmenting ``images`` images will take, if all are like ``image``.

    Raises:
        GensegError: If the image or the recipe cannot be used.
    """
    from genseg.cli.dry_run import forecast

    one = forecast(segmenter, image, lambda found, folder: write(found, files_of(image, folder, kinds)))
    each = sum(one.seconds.values())
    seconds, evaluations, size = loading + images * each, images * one.evaluations, images * one.size
    if as_json:
        facts = {"images": images, "seconds": round(seconds, 3), "evaluations": evaluations, "bytes": size}
        model = {"loading": round(loading, 3), "backend": segmenter.backend.name, "recipe": asdict(segmenter.recipe)}
        typer.echo(json.dumps(facts | {"probe": str(image), "per_image": asdict(one)} | model))
        return
    typer.echo(f"images: {images}")
    typer.echo(f"time: {minutes(seconds)}, {loading:.1f} s of it to load the model")
    typer.echo(f"cost per image: {cost_in_words(one.seconds, one.evaluations)}")
    typer.echo(f"files: {in_bytes(size)} in {out}")
    typer.echo(f"measured on {image}: {one.measured}, scaled up; nothing was written")
