"""Segment images with one loaded model, at the images' own resolution."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genseg.checks import checked_seed, several
from genseg.cost import StageTimer
from genseg.display.palette import palette
from genseg.feature_reader import FeatureReader
from genseg.images import ImageLike, inner, to_image
from genseg.interface import Backend
from genseg.pipeline import (
    Analysis,
    Clusters,
    Reading,
    encode,
    exact_convolutions,
    find_clusters,
    find_differences,
    find_labels,
    find_maps,
    refined_maps,
)
from genseg.progress import Progress
from genseg.recipe import RecipeLike, list_presets
from genseg.segmentation import Segmentation

SAMPLING = ("num_inference_steps", "t_m", "replay_steps")
"""Recipe keys that generated images depend on, and besides them only what is modulated."""

MODULATION = (
    *SAMPLING,
    *("point", "strength", "strength_unit", "difference", "decoder", "reach", "injection", "blur"),
)
"""Recipe keys that no label depends on without `modulate`."""


class Segmenter(FeatureReader):
    """Segments images with one backend and one recipe. The model is loaded once.

    Args:
        backend: A name from `genseg.list_backends`, or a loaded `Backend`.
        recipe: A preset's name, a YAML file, a mapping or a `Recipe`; None for the backend's own preset.
        seed: Fixes every random draw: same image, recipe, seed and device give the same labels.
        model: A local checkpoint or hub id in place of the backend's own.
        device: A torch device; None for CUDA if it is available, else the CPU.
        dtype: ``"float32"`` (the default), ``"float16"``, ``"bfloat16"``, or ``"auto"`` for half precision on
            CUDA and float32 elsewhere.
        progress: True for a progress bar, in terminals and notebooks, or a callback ``progress(stage, done, total)``.
        **overrides: Recipe keys, such as ``n_clusters=25``.

    Raises:
        GensegError: If the backend, recipe or a key is unknown, or weights are missing.
    """

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
        """Segment many images in order, one at a time. The next image is read while the model works.

        Args:
            images: Images as for a call; any iterable, read as results are taken.

        Yields:
            The segmentation of each image, at its own resolution.

        Raises:
            GensegError: If an image cannot be used, where earlier results have already been yielded; or if ``images``
                is one image.
        """
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="genseg-read") as reader:
            waiting: deque[Future[Reading]] = deque()
            for image in several(images, "images"):
                waiting.append(reader.submit(self._read, image))
                if len(waiting) > 1:
                    yield self._segmented(waiting.popleft().result())
            while waiting:
                yield self._segmented(waiting.popleft().result())

    @exact_convolutions()
    def reconstruction(self, image: ImageLike) -> tuple[Tensor, Tensor]:
        """The model's input and its unperturbed reconstruction.

        Args:
            image: As for a call.

        Returns:
            A pair of float32 [1, 3, H, W] on the CPU, without the recipe's margin: the input, in [-1, 1], and its
            reconstruction, which is not clamped to that range.

        Raises:
            GensegError: If the image cannot be used.
        """
        pixels, margin = self._read(image).pixels, self.recipe.margin
        state = encode(self.backend, pixels, self.recipe, self.seed)
        height, width = pixels.shape[2] + 2 * margin, pixels.shape[3] + 2 * margin
        no_offset = torch.zeros(1, *self.point.grid_for(height, width), device=self.backend.device)
        estimate = self.backend.regenerate(state, self.point, no_offset, self.recipe)
        return pixels, inner(self.backend.decode(estimate), margin).float().cpu()

    def run_with_cache(
        self, image: ImageLike, sites: str | Sequence[str] | None = None, **options: Any
    ) -> tuple[Segmentation, dict[str, Tensor]]:
        """Segment an image and read features of it, as TransformerLens's method of this name runs and reads.

        Args:
            image: As for a call.
            sites: As for `genseg.features`.
            **options: Further arguments of `features`, such as ``timesteps``.

        Returns:
            The segmentation, and what `features` returns.

        Raises:
            GensegError: If the image, the recipe or a site cannot be used.
        """
        cache = self.features(image, sites, **options)
        return self(image), cache

    @exact_convolutions()
    def generate(self, prompt: str = "", seed: int | None = None) -> Segmentation:
        """Generate an image and segment it. No inversion is needed, so the features are exact.

        Args:
            prompt: Text prompt; ``""`` for an unconditional image.
            seed: Fixes the image and every other random draw; None for the segmenter's seed.

        Returns:
            The segmentation, with the image, at the backend's own size.

        Raises:
            GensegError: If the model cannot generate images, or takes no prompt.
        """
        seed, recipe = self.seed if seed is None else checked_seed(seed), replace(self.recipe, margin=0)
        self._warn_of([key for key in self._without_effect if key not in SAMPLING])
        timer = StageTimer(self.backend, self.progress)
        with timer.stage("encode"):
            state = self.backend.generate(prompt, seed, recipe)
            no_offset = torch.zeros(1, *self.point.grid)
            (image,) = self.backend.decode(self.backend.regenerate(state, self.point, no_offset, recipe))
        clusters = find_clusters(self.backend, state, (image.shape[1], image.shape[2]), recipe, timer)
        analysis = find_maps(self.backend, clusters, recipe, timer)
        return replace(self._labeled(analysis, image[None], to_image(image), timer), recipe=recipe, seed=seed)

    def _segmented(self, reading: Reading) -> Segmentation:
        self._warn_of(self._without_effect)
        timer = StageTimer(self.backend, self.progress, {"read": reading.seconds})
        analysis = find_maps(self.backend, self.clusters(reading.pixels, timer), self.recipe, timer)
        return self._labeled(analysis, reading.pixels, reading.picture, timer)

    def _labeled(self, analysis: Analysis, pixels: Tensor, picture: Image.Image, timer: StageTimer) -> Segmentation:
        """Give each pixel of the picture to the cluster whose map is largest there (EmerDiff, section 3.4)."""
        with timer.stage("labels"):
            maps = refined_maps(analysis.differences, pixels, self.recipe)
            labels, confidence = find_labels(maps, (picture.height, picture.width), self.recipe)
        segmentation = Segmentation(
            labels=labels,
            grid_labels=analysis.grid_labels,
            embeddings=analysis.embeddings,
            colors=palette(len(analysis.embeddings)),
            image=np.asarray(picture),
            scores=maps.cpu().numpy() if self.recipe.keep_scores else None,
            cost=timer.cost(),
            recipe=self.recipe,
            backend=self.backend.name,
            seed=self.seed,
            confidence=confidence.astype(np.float16),
        )
        if self.recipe.n_clusters == "auto":
            return segmentation.merge("auto")
        return segmentation.components() if self.recipe.connected else segmentation

    @cached_property
    def _without_effect(self) -> list[str]:
        """Recipe keys that no label or score depends on under the others, with values that none of the presets has.

        These the caller has given, in whatever way.
        """
        keys = [] if self.recipe.modulate else [*MODULATION]
        if self.recipe.n_clusters == "auto" or self.recipe.connected:
            keys.append("keep_scores")
        for preset in (self.backend.preset, *list_presets()):
            if keys:
                own = self.backend.resolve(preset)
                keys = [key for key in keys if getattr(self.recipe, key) != getattr(own, key)]
        return keys

    def _warn_of(self, keys: Sequence[str]) -> None:
        """Say which of the caller's keys have no effect; Python says the same thing once."""
        if "keep_scores" in keys:
            cure = "a number of clusters" if self.recipe.n_clusters == "auto" else "connected=false"
            warnings.warn(f"merged and connected segments have no scores for keep_scores; give {cure}", stacklevel=2)
        if unused := ", ".join(key for key in keys if key != "keep_scores"):
            warnings.warn(f"without modulation, labels do not depend on {unused}; give modulate=true", stacklevel=2)

    def analyse(self, pixels: Tensor, timer: StageTimer | None = None) -> Analysis:
        """Run the method up to the difference maps, at the model's resolution.

        Args:
            pixels: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of the backend's `size_multiple`.
            timer: Times the stages and reports progress.

        Returns:
            Features, clusters and difference maps, without the recipe's margin.
        """
        timer = timer or StageTimer(self.backend)
        return self.modulated(self.clusters(pixels, timer), timer)

    def clusters(self, pixels: Tensor, timer: StageTimer | None = None) -> Clusters:
        """Run the first half of `analyse`: encode, read features and cluster them.

        Args:
            pixels: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of the backend's `size_multiple`.
            timer: Times the stages and reports progress.
        """
        timer = timer or StageTimer(self.backend)
        with timer.stage("encode"):
            state = encode(self.backend, pixels, self.recipe, self.seed)
        return find_clusters(self.backend, state, (pixels.shape[2], pixels.shape[3]), self.recipe, timer)

    def modulated(self, clusters: Clusters, timer: StageTimer | None = None) -> Analysis:
        """Run the second half of `analyse`: perturb each cluster and measure differences."""
        return find_differences(self.backend, clusters, self.recipe, timer)


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
    """Segment one image. Use a `Segmenter`, which takes the same arguments, to segment several.

    Returns:
        The segmentation, at the image's own resolution.

    Raises:
        GensegError: If the image, the recipe or the backend cannot be used; the message says what to do.
    """
    segmenter = Segmenter(
        backend, recipe, seed=seed, model=model, device=device, dtype=dtype, progress=progress, **overrides
    )
    return segmenter(image)
