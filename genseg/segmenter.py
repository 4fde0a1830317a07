"""The pipeline: encode → features → cluster → difference maps → labels (EmerDiff, figure 2)."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from genseg.cluster import cluster, masks_of
from genseg.errors import GensegError
from genseg.images import ImageLike, inner, load_image, mirrored, model_size, to_tensor
from genseg.interface import Backend, pick
from genseg.modulate import Progress, difference_maps, labels_at, normalised
from genseg.recipe import RecipeLike, load_recipe
from genseg.registry import load_backend
from genseg.segmentation import Cost, Segmentation, palette


class Segmenter:
    """Segments images with one backend and one recipe; loads the model once.

    Args:
        backend: A name from `genseg.list_backends`, or a loaded `Backend`.
        recipe: A preset's name, a YAML file, a mapping or a `Recipe`; None for the backend's own preset.
        seed: Fixes every random draw: same image, recipe, seed and device give the same labels.
        model: A local checkpoint or hub id in place of the backend's own.
        device: A torch device; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"`` (the default), ``"float16"`` or ``"bfloat16"``.
        progress: Called as ``progress(stage, done, total)``.
        **overrides: Recipe keys, such as ``n_clusters=25``.

    Raises:
        GensegError: For an unknown backend, recipe or key, or missing weights.
    """

    def __init__(
        self,
        backend: str | Backend = "tiny",
        recipe: RecipeLike | None = None,
        *,
        seed: int = 0,
        model: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        progress: Progress | None = None,
        **overrides: Any,
    ) -> None:
        if seed < 0:
            raise GensegError(f"seed must be at least 0, not {seed}")
        if isinstance(recipe, str):
            load_recipe(recipe, **overrides)  # refuse a mistyped recipe before a model is loaded
        if isinstance(backend, str):
            backend = load_backend(backend, model=model, device=device, dtype=dtype)
        self.backend = backend
        self.recipe = load_recipe(recipe or backend.preset, calibration=backend.recipe, **overrides)
        self.seed = seed
        self.progress = progress or (lambda *_: None)
        self.tap = pick("tap", backend.taps, self.recipe.tap)
        self.point = pick("point", backend.points, self.recipe.point)
        if self.recipe.margin % backend.size_multiple:
            raise GensegError(f"margin must be a multiple of {backend.size_multiple} for {backend.name}")

    def __call__(self, image: ImageLike) -> Segmentation:
        """Segment one image.

        Args:
            image: A path, a PIL image, an array (H, W[, 3 or 4]) or a tensor ([3 or 4, ]H, W); see
                `genseg.images.load_image`.

        Returns:
            The segmentation, at the image's own resolution.

        Raises:
            GensegError: If the image or the recipe cannot be used; the message says what to do.
        """
        backend, recipe, clock = self.backend, self.recipe, _Clock(self.backend)
        picture = load_image(image, recipe.max_pixels)
        side, margin = recipe.size or backend.image_size, recipe.margin
        pixels = to_tensor(picture, model_size(*picture.size, side, backend.size_multiple, recipe.resize))

        with clock.stage("encode"), self._stage("encode"):
            state = backend.encode(mirrored(pixels, margin), recipe, self.seed)
        with clock.stage("features"), self._stage("features"):
            features = inner(backend.features(state, self.tap, recipe), margin // self.tap.stride)
        with clock.stage("cluster"), self._stage("cluster"):
            grid_labels, embeddings = cluster(features, recipe)
        with clock.stage("modulate"):
            masks = F.interpolate(
                masks_of(grid_labels, len(embeddings))[None],
                self.point.grid_for(*pixels.shape[2:]),
                mode="nearest-exact",
            )[0]
            masks = mirrored(masks, margin // self.point.stride)
            differences = difference_maps(backend, state, masks, recipe, self.progress)
            maps = normalised(inner(differences, margin), recipe.normalise)
        with clock.stage("labels"), self._stage("labels"):
            labels = labels_at(maps, picture.height, picture.width).numpy()

        return Segmentation(
            labels=labels,
            grid_labels=grid_labels,
            embeddings=embeddings,
            colors=palette(len(embeddings)),
            image=np.asarray(picture),
            scores=maps.numpy() if recipe.keep_scores else None,
            cost=clock.cost(),
            recipe=recipe,
            backend=backend.name,
            seed=self.seed,
        )

    def map(self, images: Iterable[ImageLike]) -> Iterator[Segmentation]:
        """Segment many images, one result at a time and in order."""
        return map(self, images)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.progress(name, 0, 1)
        yield
        self.progress(name, 1, 1)


def segment(
    image: ImageLike,
    backend: str | Backend = "tiny",
    recipe: RecipeLike | None = None,
    *,
    seed: int = 0,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **overrides: Any,
) -> Segmentation:
    """Segment one image: `Segmenter` and its call in one line; see there for the arguments.

    Returns:
        The segmentation, at the image's own resolution.

    Raises:
        GensegError: If the image, the recipe or the backend cannot be used; the message says what to do.
    """
    segmenter = Segmenter(backend, recipe, seed=seed, model=model, device=device, dtype=dtype, **overrides)
    return segmenter(image)


class _Clock:
    """Seconds by stage, and what the backend's meter and the memory say at the end."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._evaluations, self._decodes = backend.meter.evaluations, backend.meter.decodes
        self._seconds: dict[str, float] = {}
        if backend.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(backend.device)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self._backend.device.type == "cuda":
            torch.cuda.synchronize(self._backend.device)
        self._seconds[name] = time.perf_counter() - start

    def cost(self) -> Cost:
        meter = self._backend.meter
        if self._backend.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._backend.device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Cost(meter.evaluations - self._evaluations, meter.decodes - self._decodes, self._seconds, peak)
