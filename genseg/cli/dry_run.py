"""The cost of segmenting images, estimated from a part of the work on one of them."""

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
from genseg.cluster import cluster, masks_of
from genseg.cost import Cost
from genseg.display.palette import palette
from genseg.files import in_bytes
from genseg.images import ImageLike, inner
from genseg.modulate import differences, masks_for, pack_masks, perturbed
from genseg.pipeline import encode, find_labels, read, refined_maps
from genseg.progress import minutes
from genseg.segmentation import Segmentation

if TYPE_CHECKING:
    from genseg.interface import Backend
    from genseg.progress import Progress
    from genseg.recipe import Recipe
    from genseg.segmenter import Segmenter

MASKS, STEPS, RESTARTS, DRAWS = 5, 2, 3, 16  # most masks, steps and restarts that are run; one of so many draws
PART = 40  # masks of all steps to one that is run, so that a recipe of few steps is not run in large part


@dataclass(frozen=True)
class CostEstimate:
    """The cost of one image.

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


class Passes:
    """Records when each pass of a model ends.

    Args:
        backend: The model, whose meter counts passes.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend, self._marks = backend, [(0, 0.0)]

    def __enter__(self) -> Passes:
        self._before, self._start = self._backend.meter.evaluations, time.perf_counter()
        self._backend.meter.listener = self._mark
        return self

    def __exit__(self, *_: object) -> None:
        self._mark()
        self._backend.meter.listener = None

    def _mark(self) -> None:
        if self._backend.device.type == "cuda":
            torch.cuda.synchronize(self._backend.device)
        self._marks.append((self._backend.meter.evaluations - self._before, time.perf_counter() - self._start))

    @property
    def evaluations(self) -> int:
        """Model evaluations in all."""
        return self._marks[-1][0]

    def seconds(self, first: float = 0, last: float | None = None) -> float:
        """Time from the end of the ``first`` evaluation to that of the ``last``, by default the last of all."""
        end = self._marks[-1][1] if last is None else self._time(last)
        return end - self._time(first)

    def _time(self, evaluations: float) -> float:
        return next(seconds for done, seconds in self._marks if done >= evaluations)


def estimate_cost(
    segmenter: Segmenter,
    image: ImageLike,
    write: Callable[[Segmentation, Path], object],
    progress: Progress | None = None,
) -> CostEstimate:
    """Run a part of every stage on an image, and scale up what it took.

    Of noise draws, restarts of k-means, steps and masks only a few are run. Files are written into a temporary folder,
    which is removed, with the low-resolution clusters in place of the labels.

    Args:
        segmenter: The model, the recipe and the seed.
        image: One image.
        write: Writes a segmentation's files into a folder.
        progress: Progress callback: ``(stage, done, total)``.

    Raises:
        GensegError: If the image or the recipe cannot be used.
    """
    backend, recipe, tap, point = segmenter.backend, segmenter.recipe, segmenter.tap, segmenter.point
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str, times: float = 1.0) -> Iterator[Passes]:
        if progress is not None:
            progress(name, 0, 1)
        with Passes(backend) as passes:
            yield passes
        seconds[name] = passes.seconds() * times

    with stage("read"):
        picture, pixels, _ = read(image, recipe, backend.image_size, backend.size_multiple)
    size, margin = (pixels.shape[2], pixels.shape[3]), recipe.margin
    steps, shortened = backend.steps(recipe), replace(recipe, replay_steps=min(backend.steps(recipe), STEPS))
    with stage("encode") as encoding:
        state = encode(backend, pixels, shortened, segmenter.seed)
    # Only where there is noise does the number of draws say how often the features are read.
    draws = min(recipe.draws, max(recipe.draws // DRAWS, 2)) if backend.capabilities.noise_axis else recipe.draws
    first = -(-draws // 2)  # a batch that warms the model up
    with stage("features") as reading:
        few_draws = replace(recipe, draws=draws, batch_size=min(first, recipe.batch_size or first))
        features = inner(backend.features(state, tap, few_draws), margin // tap.stride)
    if reading.evaluations == draws > 1:
        seconds["features"] = reading.seconds(first) * recipe.draws / (draws - first)
    restarts = min(recipe.n_init, RESTARTS)
    with stage("cluster", recipe.n_init / restarts):
        grid_labels, embeddings = cluster(features, replace(recipe, n_init=restarts))
    measured = f"{draws} of {recipe.draws} noise draws, {restarts} of {recipe.n_init} restarts of k-means"
    if recipe.modulate:
        branches, _ = pack_masks(masks_for(point, grid_labels, len(embeddings), size, margin), recipe.reach)
        largest = branches.sum(dim=(1, 2)).argsort(descending=True)  # of which one at least changes pixels
        few = branches[largest[: max(2, min(MASKS, len(branches) * steps // PART))]]
        with stage("modulate") as modulation:
            estimates = perturbed(backend, state, few, shortened)
        seconds["modulate"], modulations = _all_steps(modulation, len(few), len(branches), backend, recipe, shortened)
        whole = (size[0] + 2 * margin, size[1] + 2 * margin)
        two_sided = recipe.difference == "two-sided"
        pair = estimates.reshape(2, -1, *estimates.shape[1:])[:, :2].flatten(0, 1) if two_sided else estimates[:3]
        with stage("decode", len(branches) / 2 if two_sided else (1 + len(branches)) / 3):
            maps = inner(differences(backend, pair, whole, recipe), margin)
        measured += f", {backend.steps(shortened)} of {steps} steps and {len(few)} of {len(branches)} masks"
    else:
        maps, modulations = masks_of(grid_labels, len(embeddings)).to(backend.device), 0
    with stage("labels", len(embeddings) / len(maps)):
        _, confidence = find_labels(refined_maps(maps, pixels, recipe), (picture.height, picture.width), recipe)
    stand_in = Image.fromarray(grid_labels).resize(picture.size, Image.Resampling.NEAREST)
    segmentation = Segmentation(
        labels=np.asarray(stand_in, dtype=np.int32),
        grid_labels=grid_labels,
        embeddings=embeddings,
        colors=palette(len(embeddings)),
        image=np.asarray(picture),
        scores=maps[torch.arange(len(embeddings)) % len(maps)].cpu().numpy() if recipe.keep_scores else None,
        cost=Cost(),
        recipe=recipe,
        backend=backend.name,
        seed=segmenter.seed,
        confidence=confidence.astype(np.float16),
    )
    with tempfile.TemporaryDirectory(prefix="genseg-dry-run-") as folder:
        with stage("write"):
            write(segmentation, Path(folder))
        size_of_files = sum(file.stat().st_size for file in Path(folder).iterdir())
    reads = recipe.draws if reading.evaluations == draws else reading.evaluations
    return CostEstimate(encoding.evaluations + reads + modulations, seconds, size_of_files, measured)


def _all_steps(
    passes: Passes, few: int, masks: int, backend: Backend, recipe: Recipe, shortened: Recipe
) -> tuple[float, int]:
    """Seconds and evaluations that `perturbed` takes for all masks and steps, by its passes for a few of them.

    The first step is quicker than those after it, for it begins at the modulation point; in each the unmodified sample
    goes first, by itself.
    """
    steps, run = backend.steps(recipe), backend.steps(shortened)
    elements, of = (2 * n if recipe.difference == "two-sided" else 1 + n for n in (few, masks))
    each = passes.evaluations / run
    alone = 1 if each == 1 + elements else 0
    leads = [passes.seconds(i * each, i * each + alone) for i in range(run)]
    branches = [passes.seconds(i * each + alone, (i + 1) * each) for i in range(run)]
    later = min(branches[1:], default=0.0)
    return steps * min(leads) + of / elements * (branches[0] + (steps - 1) * later), steps * (alone + of)


def print_estimate(
    segmenter: Segmenter, image: Path, images: int, kinds: Sequence[str], out: Path, loading: float, as_json: bool
) -> None:
    """Print the cost of segmenting ``images`` images, if all are like ``image``.

    Raises:
        GensegError: If the image or the recipe cannot be used.
    """
    if not as_json:
        typer.echo(f"images: {images}")
    one = estimate_cost(
        segmenter,
        image,
        lambda segmentation, folder: write(segmentation, files_of(image, folder, kinds), image),
        segmenter.progress,
    )
    each = sum(one.seconds.values())
    seconds, evaluations, size = loading + images * each, images * one.evaluations, images * one.size
    if as_json:
        facts = {"images": images, "seconds": round(seconds, 3), "evaluations": evaluations, "bytes": size}
        model = {"loading": round(loading, 3), "backend": segmenter.backend.name, "recipe": asdict(segmenter.recipe)}
        typer.echo(json.dumps(facts | {"probe": str(image), "per_image": asdict(one)} | model))
        return
    typer.echo(f"time: {minutes(seconds)}, {loading:.1f} s of it to load the model")
    typer.echo(f"cost per image: {cost_in_words(one.seconds, one.evaluations)}")
    typer.echo(f"files: {in_bytes(size)} in {out}")
    typer.echo(f"measured on {image}: {one.measured}, scaled up; nothing was written")
