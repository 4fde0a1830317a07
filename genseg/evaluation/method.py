"""What methods of segmentation see and what they give, so that all are measured alike."""

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
from genseg.errors import GensegError
from genseg.interface import Encoder
from genseg.pipeline import Analysis, Clusters, read
from genseg.recipe import Recipe
from genseg.segmenter import Segmenter


@dataclass(frozen=True)
class Masks:
    """One method's segments of one image.

    Attributes:
        segments: int32 [H, W] in 0..K-1, at the scene's `size`; each number is that of a pixel at least.
        embeddings: float32 [K, C], one vector a segment; None where the scene has neither model nor encoder.
    """

    segments: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32] | None = None


@dataclass
class MethodInput:
    """One image as every method sees it; what the model finds is computed once, when first asked for.

    Attributes:
        image: RGB.
        size: (H, W) that segments must have: the evaluation's resolution.
        recipe: The resolved recipe; its K is every method's number of segments.
        seed: Fixes random draws.
        segmenter: The model with that recipe; None where only methods that see colours are run.
        encoder: A vision encoder in place of a model: features alone. The recipe's margin and sites are not its own.
    """

    image: Image.Image
    size: tuple[int, int]
    recipe: Recipe
    seed: int = 0
    segmenter: Segmenter | None = None
    encoder: Encoder | None = None

    @property
    def model(self) -> Segmenter:
        """The segmenter.

        Raises:
            GensegError: If there is none.
        """
        if self.segmenter is not None:
            return self.segmenter
        if self.encoder is not None:
            raise GensegError(f"encoder {self.encoder.name!r} has no modulation point; name a backend for this method")
        raise GensegError("this method needs a model; name a backend")

    @property
    def has_features(self) -> bool:
        """Whether there is a model or an encoder to read features from."""
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
        """Features and their clusters, of the model (margin cut off) or the encoder.

        Raises:
            GensegError: If there is neither.
        """
        pixels = self.pixels
        if self.encoder is None:
            return self.model.clusters(pixels)
        features = self.encoder.features(pixels)
        return Clusters(None, (pixels.shape[2], pixels.shape[3]), features, *cluster(features, self.recipe))

    @cached_property
    def analysis(self) -> Analysis:
        """Features, clusters and difference maps, at the model's resolution (margin cut off).

        Raises:
            GensegError: If there is no model.
        """
        return self.model.modulated(self.clusters)

    @property
    def n_clusters(self) -> int:
        """K; where the recipe says ``"auto"``, as many as the features have clusters."""
        return len(self.clusters.embeddings) if self.recipe.n_clusters == "auto" else int(self.recipe.n_clusters)

    def colours(self) -> Image.Image:
        """The image at `size`."""
        height, width = self.size
        return self.image.resize((width, height), Image.Resampling.LANCZOS)


Method: TypeAlias = Callable[[MethodInput], Masks]
"""A way to segment an image; `genseg.evaluation.baselines.METHODS` has them by name."""
