"""What methods of segmentation see and what they give, so that all are measured alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.errors import GensegError
from genseg.images import model_size, to_tensor
from genseg.recipe import Recipe
from genseg.segmenter import Analysis, Segmenter


@dataclass(frozen=True)
class Masks:
    """One method's segments of one image.

    Attributes:
        segments: int32 [H, W] in 0..K-1, at the scene's `size`.
        embeddings: float32 [K, C], one vector a segment; None of a method without features (`random`, `grid`, ...).
    """

    segments: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32] | None = None


@dataclass
class Scene:
    """One image as every method sees it; what the model finds is computed once, when first asked for.

    Attributes:
        image: RGB.
        size: (H, W) that segments must have: the evaluation's resolution.
        recipe: The resolved recipe; its K is every method's number of segments.
        seed: Fixes random draws.
        segmenter: The model with that recipe; None where only methods that see colours are run.
    """

    image: Image.Image
    size: tuple[int, int]
    recipe: Recipe
    seed: int = 0
    segmenter: Segmenter | None = None

    @property
    def model(self) -> Segmenter:
        """The segmenter.

        Raises:
            GensegError: If there is none.
        """
        if self.segmenter is None:
            raise GensegError("this method needs a model; name a backend")
        return self.segmenter

    @cached_property
    def analysis(self) -> Analysis:
        """Features, clusters and difference maps, at the model's resolution (margin cut off)."""
        backend, recipe = self.model.backend, self.model.recipe
        side = recipe.size or backend.image_size
        size = model_size(*self.image.size, side, backend.size_multiple, recipe.resize)
        return self.model.analyse(to_tensor(self.image, size))


Method: TypeAlias = Callable[[Scene], Masks]
"""A way to segment an image; `genseg.evaluation.baselines.METHODS` has them by name."""
