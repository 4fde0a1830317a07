"""The pipeline: encode → features → cluster → difference maps → labels (EmerDiff, figure 2)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from genseg.cluster import cluster
from genseg.cost import Clock, Progress
from genseg.errors import GensegError
from genseg.images import ImageLike, inner, load_image, mirrored, model_size, to_image, to_tensor
from genseg.interface import Backend, pick
from genseg.modulate import differences, labels_and_margins, masks_for, normalised, perturbed
from genseg.progress import Bar
from genseg.recipe import Recipe, RecipeLike, load_recipe
from genseg.registry import load_backend
from genseg.segmentation import Segmentation, palette
from genseg.sharing import shared


class Clusters(NamedTuple):
    """What is known before anything is modulated.

    Attributes:
        state: What the backend's `encode` returned.
        size: (H, W) of the image as the model sees it, without its margin.
        features: float32 [C, h, w]: the tap's features.
        grid_labels: int32 (h, w): the low-resolution clusters.
        embeddings: float32 (K, C): mean feature of each cluster.
    """

    state: Any
    size: tuple[int, int]
    features: Tensor
    grid_labels: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]


class Analysis(NamedTuple):
    """What the method finds at the model's resolution.

    Attributes:
        features: float32 [C, h, w]: the tap's features.
        grid_labels: int32 (h, w): the low-resolution clusters.
        embeddings: float32 (K, C): mean feature of each cluster.
        differences: float32 [K, H, W]: the difference maps, not yet normalised.
    """

    features: Tensor
    grid_labels: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]
    differences: Tensor


class Segmenter:
    """Segments images with one backend and one recipe; loads the model once.

    Args:
        backend: A name from `genseg.list_backends`, or a loaded `Backend`.
        recipe: A preset's name, a YAML file, a mapping or a `Recipe`; None for the backend's own preset.
        seed: Fixes every random draw: same image, recipe, seed and device give the same labels.
        model: A local checkpoint or hub id in place of the backend's own.
        device: A torch device; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"`` (the default), ``"float16"`` or ``"bfloat16"``.
        progress: True for a bar, in terminals and notebooks, or what is called as ``progress(stage, done, total)``.
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
        progress: Progress | bool | None = None,
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
        self.progress = Bar() if progress is True else progress or None
        self.tap = pick("tap", backend.taps, self.recipe.tap)
        self.point = pick("point", backend.points, self.recipe.point)
        side = self.recipe.size or backend.image_size
        if self.recipe.margin % backend.size_multiple or self.recipe.margin > side:
            raise GensegError(
                f"margin must be a multiple of {backend.size_multiple} and at most {side}, not {self.recipe.margin}"
            )

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
        return self._segmented(self._read(image))

    def map(self, images: Iterable[ImageLike]) -> Iterator[Segmentation]:
        """Segment many images, one result at a time and in order; the next image is read while the model works.

        Raises:
            GensegError: When the turn of an image comes that cannot be used; what came before has been yielded.
        """
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="genseg-read") as reader:
            waiting: deque[Future[_Reading]] = deque()
            for image in images:
                waiting.append(reader.submit(self._read, image))
                if len(waiting) > 1:
                    yield self._segmented(waiting.popleft().result())
            while waiting:
                yield self._segmented(waiting.popleft().result())

    def reconstruction(self, image: ImageLike) -> tuple[Tensor, Tensor]:
        """What the model takes an image for, and what it regenerates of it where nothing is perturbed.

        Args:
            image: As for a call.

        Returns:
            The model's input, in [-1, 1], and its reconstruction, nominally so and not clamped: float32 [1, 3, H, W]
            each, on the CPU, the recipe's margin cut off.

        Raises:
            GensegError: If the image cannot be used.
        """
        pixels, margin = self._read(image).pixels, self.recipe.margin
        continued = mirrored(pixels, margin)
        state = self.backend.encode(continued, self.recipe, self.seed)
        nothing = torch.zeros(1, *self.point.grid_for(*continued.shape[2:]), device=self.backend.device)
        estimate = self.backend.regenerate(state, self.point, nothing, self.recipe)
        return pixels, inner(self.backend.decode(estimate), margin).float().cpu()

    def _read(self, image: ImageLike) -> _Reading:
        start = time.perf_counter()
        picture = load_image(image, self.recipe.max_pixels)
        side = self.recipe.size or self.backend.image_size
        size = model_size(*picture.size, side, self.backend.size_multiple, self.recipe.resize)
        return _Reading(picture, to_tensor(picture, size), time.perf_counter() - start)

    def generate(self, prompt: str = "", seed: int | None = None) -> Segmentation:
        """Let the model make an image and segment it: exactly, without inversion.

        Args:
            prompt: What the image shows; ``""`` for anything.
            seed: Fixes the image and every other random draw; None for the segmenter's.

        Returns:
            The segmentation, with the image, at the backend's own size.

        Raises:
            GensegError: If the model cannot generate, or not from a prompt.
        """
        seed, recipe = self.seed if seed is None else seed, replace(self.recipe, margin=0)
        clock = Clock(self.backend, self.progress)
        with clock.stage("encode"):
            state = self.backend.generate(prompt, seed, recipe)
            unmodified = torch.zeros(1, *self.point.grid)
            (image,) = self.backend.decode(self.backend.regenerate(state, self.point, unmodified, recipe))
        clusters = self._clustered(state, (image.shape[1], image.shape[2]), recipe, clock)
        found = self._modulated(clusters, recipe, clock)
        return replace(self._labelled(found, to_image(image), clock), recipe=recipe, seed=seed)

    def _segmented(self, read: _Reading) -> Segmentation:
        clock = Clock(self.backend, self.progress, {"read": read.seconds})
        return self._labelled(self.analyse(read.pixels, clock), read.picture, clock)

    def _labelled(self, found: Analysis, picture: Image.Image, clock: Clock) -> Segmentation:
        """What was found, at the size of the picture it was found in."""
        with clock.stage("labels"):
            maps = normalised(found.differences, self.recipe.normalise)
            labels, margins = labels_and_margins(maps, picture.height, picture.width)
        return Segmentation(
            labels=labels.numpy(),
            grid_labels=found.grid_labels,
            embeddings=found.embeddings,
            colors=palette(len(found.embeddings)),
            image=np.asarray(picture),
            scores=maps.numpy() if self.recipe.keep_scores else None,
            cost=clock.cost(),
            recipe=self.recipe,
            backend=self.backend.name,
            seed=self.seed,
            confidence=margins.half().numpy(),
        )

    def analyse(self, pixels: Tensor, clock: Clock | None = None) -> Analysis:
        """The method itself, at the model's resolution: all but reading the image and scaling the result.

        Args:
            pixels: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of the backend's `size_multiple`.
            clock: Times the stages and tells progress.

        Returns:
            Features, clusters and difference maps, the recipe's margin cut off.
        """
        clock = clock or Clock(self.backend)
        return self.modulated(self.clusters(pixels, clock), clock)

    def clusters(self, pixels: Tensor, clock: Clock | None = None) -> Clusters:
        """The first half of `analyse`: encode, read features and cluster them.

        Args:
            pixels: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of the backend's `size_multiple`.
            clock: Times the stages and tells progress.
        """
        clock = clock or Clock(self.backend)
        with clock.stage("encode"):
            state = self.backend.encode(mirrored(pixels, self.recipe.margin), self.recipe, self.seed)
        return self._clustered(state, (pixels.shape[2], pixels.shape[3]), self.recipe, clock)

    def modulated(self, clusters: Clusters, clock: Clock | None = None) -> Analysis:
        """The second half of `analyse`: perturb each cluster and take differences."""
        return self._modulated(clusters, self.recipe, clock or Clock(self.backend))

    def _clustered(self, state: Any, size: tuple[int, int], recipe: Recipe, clock: Clock) -> Clusters:
        """Features and clusters of an encoded image of ``size`` (H, W) without its margin."""
        with clock.stage("features", recipe.draws, evaluations=recipe.draws):
            features = inner(self.backend.features(state, self.tap, recipe), recipe.margin // self.tap.stride)
        with clock.stage("cluster"):
            return Clusters(state, size, features, *cluster(features, recipe))

    def _modulated(self, clusters: Clusters, recipe: Recipe, clock: Clock) -> Analysis:
        backend, margin, (state, size, features, grid_labels, embeddings) = self.backend, recipe.margin, clusters
        masks = masks_for(self.point, grid_labels, len(embeddings), size, margin)
        branches, attribute = shared(masks, recipe.reach)
        rows = 2 * len(branches) if recipe.difference == "two-sided" else 1 + len(branches)
        with clock.stage("modulate", len(branches), evaluations=(1 + rows) * backend.steps(recipe)):
            estimates = perturbed(backend, state, branches, recipe)
        with clock.stage("decode", len(branches)) as progress:
            whole = (size[0] + 2 * margin, size[1] + 2 * margin)
            maps = attribute(differences(backend, estimates, whole, recipe, progress))
        return Analysis(features, grid_labels, embeddings, inner(maps, margin))


class _Reading(NamedTuple):
    """An image as the user gave it and as the model takes it, and the seconds that reading took."""

    picture: Image.Image
    pixels: Tensor
    seconds: float


def segment(
    image: ImageLike,
    backend: str | Backend = "tiny",
    recipe: RecipeLike | None = None,
    *,
    seed: int = 0,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    progress: Progress | bool | None = None,
    **overrides: Any,
) -> Segmentation:
    """Segment one image: `Segmenter` and its call in one line; see there for the arguments.

    Returns:
        The segmentation, at the image's own resolution.

    Raises:
        GensegError: If the image, the recipe or the backend cannot be used; the message says what to do.
    """
    segmenter = Segmenter(
        backend, recipe, seed=seed, model=model, device=device, dtype=dtype, progress=progress, **overrides
    )
    return segmenter(image)
