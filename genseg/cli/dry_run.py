"""What segmenting images will cost, from a part of the work on one of them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import typer
from PIL import Image

from genseg.cli.files import files_of, write
from genseg.cli.segment_report import cost_in_words
from genseg.cluster import cluster
from genseg.cost import Cost
from genseg.display.palette import palette
from genseg.files import in_bytes
from genseg.images import ImageLike, inner
from genseg.modulate import differences, masks_for, pack_masks, perturbed
from genseg.pipeline import encode, find_labels, label_maps, read
from genseg.progress import minutes
from genseg.segmentation import Segmentation
from genseg.segmenter import Segmenter

if TYPE_CHECKING:
    from genseg.segmenter import Segmenter


FEW = 4  # draws, and branches, that are run of the many


@dataclass(frozen=True)
class Forecast:
    """What one image will cost.

    Attributes:
        evaluations: Model evaluations, as `genseg.Cost` counts them.
        seconds: Wall time by stage; ``"write"`` is that of writing the files.
        size: Bytes of the files.
        measured: What was run of how much, in words.
    """

    evaluations: int
    seconds: dict[str, float]
    size: int
    measured: str


def forecast(segmenter: Segmenter, image: ImageLike, write: Callable[[Segmentation, Path], object]) -> Forecast:
    """Run every stage on an image, of noise draws and masks only a few, and scale up what they took.

    The model is warm when time is taken. Files are written into a temporary folder, which is removed, with the
    low-resolution clusters in place of the labels.

    Args:
        segmenter: The model, the recipe and the seed.
        image: One image.
        write: Writes a segmentation's files into a folder.

    Raises:
        GensegError: If the image or the recipe cannot be used.
    """
    backend, recipe, tap, point = segmenter.backend, segmenter.recipe, segmenter.tap, segmenter.point
    meter, seconds, evaluations = backend.meter, dict[str, float](), 0.0

    @contextmanager
    def stage(name: str, times: float = 1.0) -> Iterator[None]:
        nonlocal evaluations
        before, start = meter.evaluations, time.perf_counter()
        yield
        if backend.device.type == "cuda":
            torch.cuda.synchronize(backend.device)
        seconds[name] = (time.perf_counter() - start) * times
        evaluations += (meter.evaluations - before) * times

    with stage("read"):
        picture, pixels, _ = read(image, recipe, backend.image_size, backend.size_multiple)
    size, margin = (pixels.shape[2], pixels.shape[3]), recipe.margin
    # Only where there is noise does the number of draws say how often the features are read.
    draws = min(recipe.draws, FEW) if backend.capabilities.noise_axis else recipe.draws
    with stage("encode"):
        state = encode(backend, pixels, recipe, segmenter.seed)
    backend.features(state, tap, replace(recipe, draws=1))
    with stage("features", recipe.draws / draws):
        features = inner(backend.features(state, tap, replace(recipe, draws=draws)), margin // tap.stride)
    with stage("cluster"):
        grid_labels, embeddings = cluster(features, recipe)
    masks = masks_for(point, grid_labels, len(embeddings), size, margin)
    branches, _ = pack_masks(masks, recipe.reach)
    few = branches[:FEW]
    perturbed(backend, state, few[:1], recipe)
    of, among = (1 + (2 * n if recipe.difference == "two-sided" else 1 + n) for n in (len(branches), len(few)))
    with stage("modulate", of / among):
        estimates = perturbed(backend, state, few, recipe)
    whole = (size[0] + 2 * margin, size[1] + 2 * margin)
    with stage("decode", len(branches) / len(few)):
        maps = inner(differences(backend, estimates, whole, recipe), margin)
    with stage("labels", len(embeddings) / len(few)):
        _, margins = find_labels(label_maps(maps, pixels, recipe), (picture.height, picture.width), recipe)
    stand_in = Image.fromarray(grid_labels).resize(picture.size, Image.Resampling.NEAREST)
    found = Segmentation(
        labels=np.asarray(stand_in, dtype=np.int32),
        grid_labels=grid_labels,
        embeddings=embeddings,
        colors=palette(len(embeddings)),
        image=np.asarray(picture),
        scores=maps[torch.arange(len(embeddings)) % len(maps)].numpy() if recipe.keep_scores else None,
        cost=Cost(),
        recipe=recipe,
        backend=backend.name,
        seed=segmenter.seed,
        confidence=margins.astype(np.float16),
    )
    with tempfile.TemporaryDirectory(prefix="genseg-dry-run-") as folder:
        with stage("write"):
            write(found, Path(folder))
        written = sum(file.stat().st_size for file in Path(folder).iterdir())
    measured = f"{draws} of {recipe.draws} noise draws and {len(few)} of {len(branches)} masks"
    return Forecast(round(evaluations), seconds, written, measured)


def foretell(
    segmenter: Segmenter, image: Path, images: int, kinds: Sequence[str], out: Path, loading: float, as_json: bool
) -> None:
    """Print what segmenting ``images`` images will take, if all are like ``image``.

    Raises:
        GensegError: If the image or the recipe cannot be used.
    """
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
