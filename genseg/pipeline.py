"""The stages of the method as functions: read, encode, cluster, perturb, label (EmerDiff, figure 2).

`genseg.Segmenter` calls them in order. The recipe names the tap that features are read from and the point where offsets
are added; all but `find_labels` work at the model's resolution.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from genseg.cluster import cluster, masks_of
from genseg.cluster.channels import with_channels
from genseg.cost import StageTimer
from genseg.errors import GensegError
from genseg.images import ImageLike, inner, load_image, mirrored, model_size, to_tensor
from genseg.interface import Backend
from genseg.modulate import differences, labels_and_confidence, masks_for, normalized, pack_masks, perturbed
from genseg.parts import cleaned
from genseg.recipe import Recipe
from genseg.upsampling.upsample import refined


class Reading(NamedTuple):
    """An image at its own size, and scaled for the model.

    Attributes:
        picture: The image, upright and in RGB, at its own size.
        pixels: float32 [1, 3, H, W] in [-1, 1], at the model's size.
        seconds: Wall time of reading.
    """

    picture: Image.Image
    pixels: Tensor
    seconds: float


class Clusters(NamedTuple):
    """The low-resolution clusters of an image, before anything is perturbed.

    Attributes:
        state: The state that the backend's `encode` returned; None where there is no backend.
        size: (H, W) of the image as the model sees it, without its margin.
        features: float32 [C, h, w]: the tap's features, in the recipe's `channels`.
        grid_labels: int32 (h, w): the low-resolution clusters.
        embeddings: float32 (K, C): mean feature of each cluster.
    """

    state: Any
    size: tuple[int, int]
    features: Tensor
    grid_labels: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]


class Analysis(NamedTuple):
    """The maps of an image's clusters, at the model's resolution.

    Attributes:
        features: float32 [C, h, w]: the tap's features.
        grid_labels: int32 (h, w): the low-resolution clusters.
        embeddings: float32 (K, C): mean feature of each cluster.
        differences: float32 [K, H, W]: the difference maps, not yet normalised, on the backend's device; masks of the
            clusters, float32 [K, h, w], if the recipe does not `modulate`.
    """

    features: Tensor
    grid_labels: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]
    differences: Tensor


def read(image: ImageLike, recipe: Recipe, image_size: int, size_multiple: int) -> Reading:
    """Load an image and scale it for a model.

    Args:
        image: See `genseg.images.load_image`.
        recipe: Gives `size`, `resize` and `max_pixels`.
        image_size: The model's own size in pixels, used if the recipe has none.
        size_multiple: Both sides of the model's input are rounded to multiples of this, in pixels.

    Raises:
        GensegError: If the image cannot be used.
    """
    start = time.perf_counter()
    picture = load_image(image, recipe.max_pixels)
    size = model_size(*picture.size, recipe.size or image_size, size_multiple, recipe.resize)
    return Reading(picture, to_tensor(picture, size), time.perf_counter() - start)


def check_margin(backend: Backend, recipe: Recipe) -> None:
    """Refuse a recipe whose margin is not on the backend's grid, or larger than the model's input.

    Raises:
        GensegError: If it is so; the message says what to change.
    """
    if recipe.margin % backend.size_multiple:
        raise GensegError(f"margin must be a multiple of {backend.size_multiple}, not {recipe.margin}")
    if recipe.margin > (side := recipe.size or backend.image_size):
        raise GensegError(
            f"size={side} is smaller than the recipe's margin of {recipe.margin}; give a larger size or margin=0"
        )


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Within the block, NVIDIA cards compute float32 convolutions as they do matrix products: by default, exactly.

    torch's own default is TF32 for convolutions alone, whose ten bits change clusters. After
    ``torch.set_float32_matmul_precision("high")`` both are computed in TF32.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings: Any = getattr(cudnn, "conv", cudnn)
    if settings is cudnn:  # before torch 2.9
        key, value = "allow_tf32", matmul.allow_tf32
    else:
        key, value = "fp32_precision", "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    before = getattr(settings, key)
    setattr(settings, key, value)
    try:
        yield
    finally:
        setattr(settings, key, before)


@exact_convolutions()
def encode(backend: Backend, pixels: Tensor, recipe: Recipe, seed: int) -> Any:
    """Encode an image, mirrored into the recipe's margin.

    Args:
        backend: The model.
        pixels: float32 [1, 3, H, W] in [-1, 1].
        recipe: The resolved recipe.
        seed: Fixes the noise.

    Returns:
        The backend's state, for `find_clusters` and `find_differences`.
    """
    return backend.encode(mirrored(pixels, recipe.margin), recipe, seed)


@exact_convolutions()
def find_clusters(
    backend: Backend, state: Any, size: tuple[int, int], recipe: Recipe, timer: StageTimer | None = None
) -> Clusters:
    """Read the tap's features and cluster them (EmerDiff, section 3.2).

    Args:
        backend: The model.
        state: The result of `encode`.
        size: (H, W) of the image without its margin.
        recipe: The resolved recipe.
        timer: Times the stages and reports progress.
    """
    timer = timer or StageTimer(backend)
    tap = backend.find_tap(recipe.tap)
    with timer.stage("features", recipe.draws, evaluations=recipe.draws):
        features = inner(backend.features(state, tap, recipe), recipe.margin // tap.stride)
        features = with_channels(features, recipe.channels)
    with timer.stage("cluster"):
        return Clusters(state, size, features, *cluster(features, recipe))


def find_differences(backend: Backend, clusters: Clusters, recipe: Recipe, timer: StageTimer | None = None) -> Analysis:
    """Perturb each cluster and measure the difference of the regenerated images (EmerDiff, section 3.3).

    Args:
        backend: The model.
        clusters: The result of `find_clusters`.
        recipe: The resolved recipe.
        timer: Times the stages and reports progress.

    Raises:
        GensegError: If no cluster changes any pixel, or the differences are not finite.
    """
    state, size, features, grid_labels, embeddings = clusters
    point = backend.find_point(recipe.point)
    masks = masks_for(point, grid_labels, len(embeddings), size, recipe.margin)
    maps = difference_maps(backend, state, masks, recipe, timer)
    return Analysis(features, grid_labels, embeddings, inner(maps, recipe.margin))


def find_maps(backend: Backend, clusters: Clusters, recipe: Recipe, timer: StageTimer | None = None) -> Analysis:
    """Return the maps whose argmax are the labels: difference maps, or the clusters' masks without `modulate`.

    Takes the arguments of `find_differences`, and raises what it raises.
    """
    if recipe.modulate:
        return find_differences(backend, clusters, recipe, timer)
    _, _, features, grid_labels, embeddings = clusters
    return Analysis(features, grid_labels, embeddings, masks_of(grid_labels, len(embeddings)).to(backend.device))


@exact_convolutions()
def difference_maps(
    backend: Backend, state: Any, masks: Tensor, recipe: Recipe, timer: StageTimer | None = None
) -> Tensor:
    """Measure how much each pixel changes when each mask is perturbed.

    d_k(x, y) = ‖I⁻(x, y) − I⁺(x, y)‖₂ over RGB, where I^± are regenerated with ±λ added at the mask's positions
    of the modulation point, and blurred (section 3.4).

    Args:
        backend: The model.
        state: The result of ``backend.encode``.
        masks: float32 [K, h, w] in {0, 1} on the modulation point's grid.
        recipe: Gives `point`, `strength`, `difference`, `decoder`, `reach` and `blur`.
        timer: Times the stages and reports progress.

    Returns:
        float32 [K, H, W] at the model's resolution, on the backend's device.

    Raises:
        GensegError: If no mask changes any pixel, or the differences are not finite.
    """
    timer = timer or StageTimer(backend)
    branches, to_masks = pack_masks(masks, recipe.reach)
    batch_elements = 2 * len(branches) if recipe.difference == "two-sided" else 1 + len(branches)
    # One more evaluation a step for the unmodified image, whose queries and keys the branches share.
    with timer.stage("modulate", len(branches), evaluations=(1 + batch_elements) * backend.steps(recipe)):
        estimates = perturbed(backend, state, branches, recipe)
    stride = backend.find_point(recipe.point).stride
    size = (masks.shape[1] * stride, masks.shape[2] * stride)
    with timer.stage("decode", len(branches)) as progress:
        return to_masks(differences(backend, estimates, size, recipe, progress))


def refined_maps(maps: Tensor, pixels: Tensor, recipe: Recipe) -> Tensor:
    """Normalize difference maps [K, H, W] of an image [1, 3, H, W], and refine them, as the recipe says."""
    return refined(normalized(maps, recipe.normalise), pixels, recipe.refine)


def find_labels(
    maps: Tensor, size: tuple[int, int], recipe: Recipe
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Assign each pixel to the cluster whose perturbation changes it most (section 3.4), and merge small parts.

    Args:
        maps: float32 [K, H', W'], the result of `refined_maps`.
        size: (H, W) of the result.
        recipe: Gives `min_area`.

    Returns:
        A pair: labels, int32 [H, W], and confidence, float32 [H, W] in [0, 1], as
        `genseg.modulate.labels_and_confidence` has them; 0 where a small part was merged.
    """
    labels, confidence = (result.cpu().numpy() for result in labels_and_confidence(maps, *size))
    if not recipe.min_area:
        return labels, confidence
    without_small_parts = cleaned(labels, math.ceil(recipe.min_area * labels.size))
    return without_small_parts, np.where(without_small_parts == labels, confidence, np.float32(0))
