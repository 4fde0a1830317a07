"""Training data of students: crops of a run's images with classes and weights, streamed from its shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.errors import GensegError
from genseg.runs.rows import DAMAGED, FAILED, Row
from genseg.runs.run import Run, Skipped

BUFFER = 256  # rows among which the next is drawn; encoded, as they are on disk
SMALLEST = 0.5  # of a crop's side, as a part of the image's shorter side
SPARE = 8  # images that may be unreadable before any is read

T = TypeVar("T")


class TrainingCrop(NamedTuple):
    """A crop of an image, as a student sees it.

    Attributes:
        pixels: uint8 (S, S, 3).
        classes: int64 (S, S), -1 for none.
        weights: float32 (S, S) in [0, 1]: weight of each pixel in the loss; 0 for one to ignore.
    """

    pixels: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]


class Samples:
    """Training and validation crops of a run's images.

    The split depends on their keys alone. Memory does not grow with the run. An image that can no longer be read takes
    its turn with pixels that all are ignored, so that the order and crops of the others stay the same.

    Attributes:
        skipped: The images that could not be read so far.

    Args:
        run: With images and pixel or mask confidence.
        classes: Name of a set of classes that the run's masks were given.
        image_size: S, in pixels.
        min_confidence: Pixels below it are ignored.
        confidence_weighting: Whether to weight the loss of a pixel by its confidence.
        val_fraction: Validation fraction.
        seed: Fixes the order and the crops.
    """

    def __init__(
        self,
        run: Run,
        classes: str,
        *,
        image_size: int,
        min_confidence: float = 0.0,
        confidence_weighting: bool = True,
        val_fraction: float = 0.05,
        seed: int = 0,
    ) -> None:
        self._run, self._classes = run, classes
        self._side, self._min_confidence, self._weighted = image_size, min_confidence, confidence_weighting
        self._val_fraction, self._seed = val_fraction, seed
        self.n_training = self.n_validation = 0
        self.skipped, self._unreadable, self._read = Skipped(), set[str](), 0
        for row in run.rows(["key"]):
            if self._held_out(row.key):
                self.n_validation += 1
            else:
                self.n_training += 1

    def training(self, start: int = 0) -> Iterator[TrainingCrop]:
        """Yield random crops without end, each epoch in an order of its own.

        Args:
            start: Number of samples to skip; the others do not depend on it.

        Raises:
            GensegError: If images turn out unreadable, `SPARE` more of them than samples were made.
        """
        epoch, skip = divmod(start, self.n_training)
        position = start
        while True:
            first = position
            rows = (row for row in self._shuffled(epoch) if not self._held_out(row.key))
            for row in islice(rows, skip, None):
                yield self._sample(row, np.random.default_rng([self._seed, 1, position]))
                position += 1
            if position == first and not skip:
                raise GensegError("no image of the run can be read any more; restore its shards")
            epoch, skip = epoch + 1, 0

    def validation(self) -> Iterator[TrainingCrop]:
        """Yield the center squares of the validation images."""
        for row in self._rows(self._run.shards):
            if self._held_out(row.key):
                yield self._sample(row, None)

    def _shuffled(self, epoch: int) -> Iterator[Row]:
        draws = np.random.default_rng([self._seed, 0, epoch])
        shards = self._run.shards
        return shuffled(self._rows([shards[i] for i in draws.permutation(len(shards))]), draws, BUFFER)

    def _rows(self, shards: list[str]) -> Iterator[Row]:
        # Run lengths and embeddings are most of a row and not needed, unless confidence was kept by mask alone.
        columns = ["key", "uri", "offset", "length", "height", "width", "labels_png", "confidence_png", "image"]
        first = next(self._run.rows(["confidence_png"]), None)
        columns += ["masks"] if first is None or first.confidence_png is None else []
        rows = self._run.rows(columns, classes=self._classes, failed=True, shards=shards)
        return (row for row in rows if row.status != FAILED)

    def _held_out(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") < self._val_fraction * 2**64

    def _picture(self, row: Row) -> Image.Image | None:
        """Return the image; None if it or its labels cannot be read."""
        try:
            if row.status == DAMAGED:
                raise GensegError(f"{row.key}: {row.error}")
            _ = row.class_labels, row.confidence
            picture = row.picture()
        except GensegError as error:
            if row.key not in self._unreadable:
                self._unreadable.add(row.key)
                self.skipped.add(str(error))
            if self.skipped.count > SPARE + self._read:
                raise GensegError(
                    f"more images of the run cannot be read than can; the first: {self.skipped.reason}"
                ) from error
            return None
        self._read += 1
        return picture

    def _sample(self, row: Row, draws: np.random.Generator | None) -> TrainingCrop:
        """Return a random crop, flipped or not, or the center square if there are no draws."""
        height, width = row.size
        side, x, y, flip = min(height, width), 0.5, 0.5, False
        if draws is not None:
            scale, x, y = draws.uniform((SMALLEST, 0, 0), 1)
            side, flip = max(round(scale * side), 1), bool(draws.integers(2))
        left, top = round(x * (width - side)), round(y * (height - side))
        box, size = (left, top, left + side, top + side), (self._side, self._side)
        if (picture := self._picture(row)) is None:
            square = np.zeros(size, dtype=np.uint8)
            return TrainingCrop(np.dstack([square] * 3), square.astype(np.int64) - 1, square.astype(np.float32))
        pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box))
        classes = np.asarray(Image.fromarray(row.class_labels).resize(size, Image.Resampling.NEAREST, box))
        confidence = np.asarray(Image.fromarray(row.confidence).resize(size, Image.Resampling.NEAREST, box))
        known = (classes >= 0) & (confidence >= self._min_confidence)
        weights = np.where(known, confidence if self._weighted else np.float32(1), np.float32(0))
        if flip:
            pixels, classes, weights = pixels[:, ::-1], classes[:, ::-1], weights[:, ::-1]
        return TrainingCrop(pixels, classes.astype(np.int64), weights)


def shuffled(things: Iterable[T], draws: np.random.Generator, buffer: int) -> Iterator[T]:
    """Shuffle within a window: each item is drawn from the next ``buffer``."""
    things = iter(things)
    window = list(islice(things, buffer))
    for thing in things:
        place = draws.integers(len(window))
        yield window[place]
        window[place] = thing
    yield from (window[i] for i in draws.permutation(len(window)))
