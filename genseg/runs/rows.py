"""Result of an image in a run: a row of a Parquet file."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_masks

from genseg.cost import Cost
from genseg.errors import ImageError
from genseg.images import load_image
from genseg.images.files import open_image
from genseg.recipe import Recipe
from genseg.runs.sources import ImageSource
from genseg.segmentation import Segmentation

DONE, FAILED = "done", "failed"
DAMAGED = "damaged"  # never written: what was read cannot be a row of a run
LEVELS = 15  # of confidence above 0, so that its map is a PNG of 4 bits a pixel


@dataclass(frozen=True)
class StoredMask:
    """One segment of an image.

    Attributes:
        label: Its number in the label map.
        area: In pixels.
        confidence: Mean over its pixels, in [0, 1].
        rle: COCO's compressed run lengths, of the image's size, as text.
        embedding: float32 (C,): mean tap feature of its cluster.
    """

    label: int
    area: int
    confidence: float
    rle: str
    embedding: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One image of a run.

    Attributes:
        key: Names the image within the run.
        source: Where it lies.
        status: ``"done"`` or ``"failed"``; ``"damaged"`` if what was read cannot be true of an image.
        error: What went wrong; empty if nothing did.
        size: (H, W) of the image.
        masks: Its segments, each with at least one pixel, by ascending label.
        cost: What it took; all seconds are one stage, ``"image"``.
        recipe_hash: That of the run.
        labels_png: The label map as a gray PNG, of 8 bits, or of 16 where there are more than 256 labels.
        confidence_png: Confidence in steps of 1/15 as a PNG; None where it was not kept.
        image: The image as an encoded file; None where it was not kept.
        classes: int32: the class of each label, -1 for none; None where none was asked for.
    """

    key: str
    source: ImageSource
    status: str = DONE
    error: str = ""
    size: tuple[int, int] = (0, 0)
    masks: tuple[StoredMask, ...] = ()
    cost: Cost = field(default_factory=Cost)
    recipe_hash: str = ""
    labels_png: bytes | None = None
    confidence_png: bytes | None = None
    image: bytes | None = None
    classes: npt.NDArray[np.int32] | None = None

    @classmethod
    def of(
        cls,
        segmentation: Segmentation,
        key: str,
        source: ImageSource,
        recipe_hash: str,
        *,
        image: bytes | None = None,
        pixel_confidence: bool = True,
    ) -> Row:
        """Make the row of a segmented image.

        Args:
            segmentation: Its segments, with confidence.
            key: Names the image within the run.
            source: Where it lies.
            recipe_hash: That of the run.
            image: The image as an encoded file, if it is to be kept.
            pixel_confidence: Whether to keep the map of confidence, and not only its means over masks.
        """
        areas, means = np.bincount(segmentation.labels.ravel()), segmentation.mask_confidence
        masks = tuple(
            StoredMask(k, int(areas[k]), float(means[k]), rle_of(segmentation.labels == k), segmentation.embeddings[k])
            for k in np.flatnonzero(areas).tolist()
        )
        assert segmentation.confidence is not None
        levels = np.round(segmentation.confidence.astype(np.float32) * LEVELS).astype(np.uint8)
        return cls(
            key=key,
            source=source,
            size=(segmentation.labels.shape[0], segmentation.labels.shape[1]),
            masks=masks,
            cost=replace(segmentation.cost, seconds={"image": sum(segmentation.cost.seconds.values())}),
            recipe_hash=recipe_hash,
            labels_png=png_of(segmentation.labels.astype(np.uint8 if len(areas) <= 256 else np.uint16)),
            confidence_png=_levels_png(levels) if pixel_confidence else None,
            image=image,
        )

    @cached_property
    def labels(self) -> npt.NDArray[np.int32]:
        """int32 (H, W): the label map.

        Raises:
            GensegError: If it is damaged, of another size than the image, or has other labels than the masks.
        """
        labels = self._map(self.labels_png, "label map").astype(np.int32)
        if self.masks and not set(np.unique(labels).tolist()) <= {mask.label for mask in self.masks}:
            raise ImageError(f"the label map of {self.key} has labels without masks; run the image again")
        return labels

    @cached_property
    def confidence(self) -> npt.NDArray[np.float32]:
        """float32 (H, W) in [0, 1]; where only means were kept, each pixel has its mask's.

        Raises:
            GensegError: If it is damaged, or of another size than the image.
        """
        if self.confidence_png is not None:
            levels = self._map(self.confidence_png, "confidence")
            confidence: npt.NDArray[np.float32] = np.minimum(levels, LEVELS).astype(np.float32) / np.float32(LEVELS)
            return confidence
        means = np.zeros(max(mask.label for mask in self.masks) + 1, dtype=np.float32)
        for mask in self.masks:
            means[mask.label] = mask.confidence
        return means[self.labels]

    @property
    def class_labels(self) -> npt.NDArray[np.int32]:
        """int32 (H, W): the class of each pixel's segment, -1 for none.

        Raises:
            GensegError: As `labels`, or if there are labels without a class.
        """
        assert self.classes is not None
        if self.labels.max() >= len(self.classes):
            raise ImageError(f"not all masks of {self.key} were given classes; give them again")
        return self.classes[self.labels]

    def _map(self, png: bytes | None, what: str) -> npt.NDArray[Any]:
        name, (height, width) = f"the {what} of {self.key}", self.size
        if png is None:
            raise ImageError(f"{name} is missing; run the image again")
        values = np.asarray(open_image(png, height * width, name))
        if values.shape != self.size:
            raise ImageError(f"{name} is of another size than the image; run the image again")
        return values

    def picture(self) -> Image.Image:
        """The image, upright and in RGB: the one that was kept, else read from where it lies.

        Raises:
            GensegError: If it cannot be read, or has another size than when it was segmented.
        """
        most = max(Recipe.max_pixels, self.size[0] * self.size[1])
        picture = load_image(self.source.read() if self.image is None else self.image, most, self.key)
        if any(self.size) and picture.size != self.size[::-1]:
            raise ImageError(f"{self.key} has another size than when it was segmented; bring back the image of the run")
        return picture


def rle_of(mask: npt.NDArray[np.bool_]) -> str:
    """A mask (H, W) as COCO's compressed run lengths."""
    counts: bytes = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return counts.decode("ascii")


def png_of(array: npt.NDArray[Any]) -> bytes:
    """An array (H, W[, 3]) of 8 bits, or (H, W) of 16, as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def _levels_png(levels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(levels, mode="P")
    picture.putpalette([round(level * 255 / LEVELS) for level in range(LEVELS + 1) for _ in "rgb"])
    picture.save(buffer, format="PNG", bits=4)
    return buffer.getvalue()
