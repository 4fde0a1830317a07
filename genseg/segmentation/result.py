"""Result of a segmentation: labels, where they came from, and how to use them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.checks import check_share
from genseg.cost import Cost
from genseg.errors import GensegError
from genseg.parts import cleaned
from genseg.recipe import Recipe
from genseg.segmentation import storage
from genseg.segmentation.coco import coco_of
from genseg.segmentation.cues import contrast_and_colors
from genseg.segmentation.hierarchy import LEVELS, hierarchy_of
from genseg.segmentation.masks import Mask, masks_of
from genseg.segmentation.merging import connected, merged
from genseg.segmentation.pictures import Pictures
from genseg.segmentation.tree import NATURAL, Tree, tree_of

if TYPE_CHECKING:
    from genseg.interface import Embedder


@dataclass(frozen=True, repr=False)
class Segmentation(Pictures):
    """One image's segments.

    Every operation returns a new segmentation, so that they chain: ``seg.clean(0.002).merge(8)``.

    Attributes:
        labels: int32 (H, W) at the input image's own resolution, every pixel in 0..K-1.
        grid_labels: int32 (h, w): the low-resolution clusters.
        embeddings: float32 (K, C): mean tap feature of each cluster.
        colors: uint8 (K, 3): the color of each label.
        image: uint8 (H, W, 3): the input, upright and in RGB.
        scores: float32 (K, H', W') maps at the model's resolution, as the argmax took them: difference maps, or masks
            of clusters if the recipe does not `modulate`. None unless `keep_scores` asked for them, and after merges.
        cost: What it took.
        recipe: The resolved recipe; with `backend` and `seed`, what it takes to get the same result again.
        backend: Name of the backend.
        seed: The seed.
        names: What each label is called, once `name` has been asked; empty for a label that no pixel has.
        confidence: float16 (H, W) in [0, 1]: how far the pixel's largest score is ahead of its second largest,
            as a part of the largest; a lower bound once segments are merged. None in files from before there was one.
    """

    labels: npt.NDArray[np.int32]
    grid_labels: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]
    colors: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32] | None
    cost: Cost
    recipe: Recipe
    backend: str
    seed: int
    names: tuple[str, ...] | None = None
    confidence: npt.NDArray[np.float16] | None = None

    def __repr__(self) -> str:
        """Size, number of segments and where they came from, in a line."""
        height, width = self.labels.shape
        return f"Segmentation({width}×{height}, {self.n_segments} segments, backend={self.backend!r}, seed={self.seed})"

    @property
    def n_segments(self) -> int:
        """Number of labels that at least one pixel has."""
        return int(np.count_nonzero(self.areas))

    @property
    def areas(self) -> npt.NDArray[np.int64]:
        """int64 (K,): the number of pixels of each label."""
        return np.bincount(self.labels.ravel(), minlength=len(self.colors))

    def masks(self) -> list[Mask]:
        """The segments as masks, the largest first; each takes as much memory as a gray image."""
        return sorted(self.each_mask(), key=lambda mask: -mask.area)

    def each_mask(self, only: int | None = None) -> Iterator[Mask]:
        """Yield the masks one at a time, in the order of labels, or that of the label ``only``."""
        confidence = None if self.confidence is None else self.mask_confidence
        return masks_of(self.labels, self.areas, confidence, self.names, only)

    def mask(self, label: int) -> Mask:
        """The mask of a label.

        Raises:
            GensegError: If no pixel has the label.
        """
        for mask in self.each_mask(only=label):
            return mask
        raise GensegError(f"no pixel has the label {label}; there are {np.unique(self.labels).tolist()}")

    def at(self, x: int, y: int) -> Mask:
        """The mask under the pixel in column ``x`` and row ``y``, both from 0.

        Raises:
            GensegError: If the image has no such pixel, or one is no whole number.
        """
        height, width = self.labels.shape
        if not (isinstance(x, Integral) and isinstance(y, Integral)):
            raise GensegError(f"x and y count whole pixels, and cannot be {x!r} and {y!r}; round them down")
        if not (0 <= x < width and 0 <= y < height):
            raise GensegError(f"the image has {width}×{height} pixels, and none at x={x}, y={y}")
        return self.mask(int(self.labels[y, x]))

    def components(self) -> Segmentation:
        """Make each connected part a segment, in reading order, with the embedding and the name of its segment.

        The new segmentation has no difference maps.
        """
        return connected(self)

    def clean(self, min_area: float) -> Segmentation:
        """Merge small connected parts into the neighbor with the longest common border.

        Args:
            min_area: The share of the image, in [0, 1], below which a part is small.

        Returns:
            A new segmentation with the same labels, of which some may have lost their pixels.

        Raises:
            GensegError: If ``min_area`` is not in [0, 1].
        """
        check_share("min_area", min_area)
        labels = cleaned(self.labels, math.ceil(min_area * self.labels.size))
        confidence = self.confidence
        if confidence is not None:
            confidence = np.where(labels == self.labels, confidence, np.float16(0))
        return replace(self, labels=labels, confidence=confidence)

    def name(
        self,
        classes: str | Sequence[str],
        embedder: str | Embedder = "maskclip",
        templates: Sequence[str] | None = None,
    ) -> Segmentation:
        """Name each segment by the class whose text is nearest to its pixels (EmerDiff, section 4.4).

        Args:
            classes: Names, or one text such as ``"sky,building,tree"``; synonyms as ``"car|automobile"``.
            embedder: A name from `genseg.list_embedders`, or a loaded `Embedder`, which is quicker for many images.
            templates: Prompts with ``{}`` where the name goes; None for `genseg.naming.TEMPLATES`.

        Raises:
            GensegError: For an unknown embedder, missing weights, or classes or templates that cannot be used.
        """
        from genseg.naming import name_masks

        named = name_masks(self.labels, Image.fromarray(self.image), classes, embedder, templates)
        missing = len(self.colors) - len(named.names)  # the last labels may have no pixel
        return replace(self, names=named.names + ("",) * missing)

    @property
    def classes(self) -> tuple[str, ...]:
        """Distinct names, in the order of the first label of each.

        Raises:
            GensegError: If the segments have no names.
        """
        if self.names is None:
            raise GensegError("the segments have no names; call name(classes) first")
        return tuple(name for name in dict.fromkeys(self.names) if name)

    @property
    def class_labels(self) -> npt.NDArray[np.int32]:
        """int32 (H, W): which of `classes` each pixel's segment is called; segments of one name are one class here.

        Raises:
            GensegError: If the segments have no names.
        """
        classes = self.classes
        assert self.names is not None
        return np.array([classes.index(name) if name else -1 for name in self.names], dtype=np.int32)[self.labels]

    @property
    def mask_confidence(self) -> npt.NDArray[np.float32]:
        """float32 (K,): the mean confidence of each label's pixels; 0 for a label that no pixel has.

        Raises:
            GensegError: If there is no confidence.
        """
        sums = np.bincount(self.labels.ravel(), self._known_confidence().ravel(), minlength=len(self.colors))
        return (sums / np.maximum(self.areas, 1)).astype(np.float32)

    def confident_labels(self, threshold: float) -> npt.NDArray[np.int32]:
        """int32 (H, W): the labels, -1 for "ignore" where the confidence is below ``threshold``, in [0, 1].

        Raises:
            GensegError: If there is no confidence, or ``threshold`` is not in [0, 1].
        """
        check_share("threshold", threshold)
        return np.where(self._known_confidence() < threshold, np.int32(-1), self.labels)

    def _known_confidence(self) -> npt.NDArray[np.float16]:
        if self.confidence is None:
            raise GensegError("these segments were saved without confidence; segment the image again")
        return self.confidence

    @cached_property
    def tree(self) -> Tree:
        """The merge tree of the connected parts, in the order of `components`; no model call."""
        parts = self.components()
        return tree_of(parts.labels, parts.embeddings, *contrast_and_colors(self.image))

    def merge(self, n_segments: int | Literal["auto"]) -> Segmentation:
        """Coarser segments from the merge tree of connected parts; no model call.

        Only parts that touch are merged, so that each segment is connected, and merges are nested. A merged segment
        has the color and the name of its largest part.

        Args:
            n_segments: How many segments there are to be, from 1 to the number of connected parts; ``"auto"`` for a
                natural number, which `cut` finds by itself.

        Returns:
            A new segmentation with labels 0..n_segments-1, in reading order.

        Raises:
            GensegError: If ``n_segments`` is not such a number.
        """
        if n_segments == "auto":
            return self.cut()
        if not (isinstance(n_segments, int | np.integer) and 1 <= n_segments <= self.tree.n_regions):
            raise GensegError(
                f"merge needs a number from 1 to {self.tree.n_regions}, the connected parts there are, or 'auto', not "
                f"{n_segments!r}; for more, segment with a larger n_clusters"
            )
        return merged(self, self.tree.groups(n_segments))

    def cut(self, height: float = NATURAL) -> Segmentation:
        """Make all merges of the tree up to a height, in [0, 1]: 0 for the connected parts, 1 for the whole image.

        Raises:
            GensegError: If ``height`` is not in [0, 1].
        """
        check_share("height", height)
        return self.merge(self.tree.number_at(height))

    def hierarchy(self, levels: Mapping[str, float] = LEVELS) -> list[Mask]:
        """Overlapping masks at several levels of the tree, the largest first: wholes, their parts, and subparts.

        They are the segments of `cut` at each level's height, each listed once, at the coarsest level that has it.
        Segment with a number, such as ``n_clusters=25``: ``"auto"`` has merged the parts already.

        Args:
            levels: The height of each level by its name, in [0, 1], the coarsest first.

        Returns:
            Masks with `level`, `parent` and `children`; their label is their node in `tree`.

        Raises:
            GensegError: If the heights are others.
        """
        return hierarchy_of(self, levels)

    def to_coco(self, file_name: str = "") -> dict[str, Any]:
        """The masks as COCO's JSON has them, each as uncompressed run lengths, which are exact.

        Args:
            file_name: The image's name.

        Returns:
            ``images``, ``annotations``, with ids 1 + label and the confidence as ``score``, and ``categories``: the
            names of the segments, or ``"segment"``.
        """
        source = f"segments by genseg, backend {self.backend}, seed {self.seed}"
        return coco_of(self.each_mask(), self.labels.shape, self.classes if self.names else (), file_name, source)

    def save(self, path: str | Path) -> Path:
        """Write the segmentation; the suffix says how.

        ``.png``: the label map, indexed, each label its palette color; in 16-bit gray where there are more than 256
        labels. ``.json``: the masks as COCO has them (`to_coco`). ``.npz``: everything, for `load`.

        Raises:
            GensegError: For another suffix, or an unwritable file.
        """
        return storage.write(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Segmentation:
        """Read what `save` wrote as ``.npz``.

        Raises:
            GensegError: If the file is missing, damaged, or of another kind.
        """
        return Segmentation(**storage.read(Path(path)))
