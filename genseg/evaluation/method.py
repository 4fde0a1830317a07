"""Input and output of segmentation methods, so that all are measured alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from genseg.cluster import cluster
from genseg.cluster.channels import with_channels
from genseg.errors import GensegError
from genseg.interface import Encoder
from genseg.pipeline import Analysis, Clusters, read
from genseg.recipe import Recipe
from genseg.segmentation.tree import Tree
from genseg.segmenter import Segmenter


@dataclass(frozen=True)
class Masks:
    """One method's segments of one image.

    Attributes:
        segments: int32 [H, W] in 0..K-1, at the input's `size`; each number occurs, unless rules merge segments.
        embeddings: float32 [K, C], one vector per segment; None if the input has neither model nor encoder.
        tree: The merge tree of the segments' connected parts, as `Segmentation.tree`; None if the method has none.
    """

    segments: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32] | None = None
    tree: Tree | None = None


@dataclass
class MethodInput:
    """One image as every method sees it. Clusters and difference maps are computed on first use and shared.

    Attributes:
        image: The image, in RGB.
        size: (H, W) of the segments: the evaluation's resolution.
        recipe: The resolved recipe; its K is the number of segments of every method.
        seed: Fixes random draws.
        segmenter: The model with that recipe; None if all methods use colors only.
        with_tree: Whether masks get a merge tree, which takes some tenths of a second each.
        encoder: A vision encoder in place of a model, for features only. The recipe's margin and sites do not apply.
    """

    image: Image.Image
    size: tuple[int, int]
    recipe: Recipe
    seed: int = 0
    segmenter: Segmenter | None = None
    encoder: Encoder | None = None
    with_tree: bool = False

    @property
    def model(self) -> Segmenter:
        """The segmenter.

        Raises:
            GensegError: If there is no model.
        """
        if self.segmenter is not None:
            return self.segmenter
        if self.encoder is not None:
            raise GensegError(f"encoder {self.encoder.name!r} has no modulation point; name a backend for this method")
        raise GensegError("this method needs a model; name a backend")

    @property
    def has_features(self) -> bool:
        """Whether there is a model or an encoder, from which features are read."""
        return self.segmenter is not None or self.encoder is not None

    @cached_property
    def pixels(self) -> Tensor:
        """The image as the model or the encoder sees it: float32 [1, 3, H, W] in [-1, 1].

        Raises:
            GensegError: If there is neither.
        """
        source = self.model.backend if self.encoder is None else self.encoder
        return read(self.image, self.recipe, source.image_size, source.size_multiple).pixels

    @cached_property
    def clusters(self) -> Clusters:
        """Features and their clusters, of the model (without its margin) or the encoder.

        Raises:
            GensegError: If there is neither model nor encoder.
        """
        pixels = self.pixels
        if self.encoder is None:
            return self.model.clusters(pixels)
        features = with_channels(self.encoder.features(pixels), self.recipe.channels)
        return Clusters(None, (pixels.shape[2], pixels.shape[3]), features, *cluster(features, self.recipe))

    @cached_property
    def analysis(self) -> Analysis:
        """Features, clusters and difference maps, at the model's resolution, without its margin.

        Raises:
            GensegError: If there is no model.
        """
        return self.model.modulated(self.clusters)

    @property
    def n_clusters(self) -> int:
        """K, which is the number of clusters of the features if the recipe has ``"auto"``."""
        return len(self.clusters.embeddings) if self.recipe.n_clusters == "auto" else int(self.recipe.n_clusters)

    def resized_image(self) -> Image.Image:
        """Scale the image to `size`."""
        height, width = self.size
        return self.image.resize((width, height), Image.Resampling.LANCZOS)


Method: TypeAlias = Callable[[MethodInput], Masks]
"""A method that segments an image; `genseg.evaluation.baselines.METHODS` has them by name."""
