"""Segments of the images of requests, by the settings that the service was started with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from genseg.errors import GensegError, is_out_of_memory, whole_number
from genseg.recipe import BOUNDS, load_recipe
from genseg.service.answers import RefusedError, StoppedError
from genseg.version import __version__
from genseg.web.engine import Engine
from genseg.web.limits import MAX_CLUSTERS, Limits
from genseg.web.request import SegmentRequest
from genseg.web.uploads import read_upload

if TYPE_CHECKING:
    from genseg.interface import Embedder
    from genseg.segmentation import Segmentation


@dataclass(frozen=True)
class Choice:
    """Settings of a request, in place of the service's.

    Attributes:
        n_segments: Merge into at most so many segments, or ``"auto"``.
        n_clusters: The recipe key, or ``"auto"``.
        classes: Names to give segments; none for segments without names.
    """

    n_segments: str | None = None
    n_clusters: str | None = None
    classes: tuple[str, ...] = ()


class ImageSegmenter:
    """Segments images one after another; the model stays loaded.

    Args:
        request: Backend, recipe, model, device and dtype.
        limits: Upper bounds of what requests may ask for.
        n_segments: As `Choice.n_segments`, where a request chooses nothing.
        embedder: Names segments; None for a service that does not.

    Attributes:
        limits: Upper bounds of what requests may ask for.
        closing: Set when the service ends: runs end at their next progress callback.
    """

    def __init__(
        self,
        request: SegmentRequest,
        limits: Limits | None = None,
        *,
        n_segments: str | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.closing = threading.Event()
        self._request, self._n_segments, self._embedder = request, n_segments, embedder
        models = {} if request.model is None else {request.backend: request.model}
        self._engine = Engine(
            self.limits.queue, self.limits.max_pixels, models, request.device, request.dtype, keep_scores=False
        )
        self._decoding = threading.Semaphore(2)  # an image in decoding takes several times its own memory
        self._naming = threading.Lock()

    def start(self) -> None:
        """Load the model.

        Raises:
            GensegError: If it cannot be loaded, or the recipe cannot be used.
        """
        load_recipe(self._request.recipe or "paper", options=self._request.options)
        self._engine.warm(self._request.backend)

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self._request.backend

    @property
    def names_segments(self) -> bool:
        """Whether there is an embedder."""
        return self._embedder is not None

    @property
    def version(self) -> str:
        """All that segments depend on, in a line: tools keep predictions of different versions apart."""
        files = [PurePath(file).name for file in (self._request.model, self._request.recipe) if file]
        words = ["genseg", __version__, self.backend, *files]
        merged = [] if self._n_segments is None else [f"n_segments={self._n_segments}"]
        return " ".join([*words, *self._request.options, *merged])

    def go_on(self, has_left: threading.Event) -> None:
        """Check that someone waits.

        Raises:
            StoppedError: If ``has_left`` or `closing` is set.
        """
        if has_left.is_set() or self.closing.is_set():
            raise StoppedError

    def __call__(
        self, content: bytes, name: str, has_left: threading.Event, choice: Choice | None = None
    ) -> Segmentation:
        """Segment the image of a file.

        Args:
            content: The file.
            name: Its name, for errors.
            has_left: Set when nobody waits for the result any more.
            choice: What the request chooses.

        Raises:
            GensegError: If the image or the choice cannot be used, or too many runs are waiting.
            StoppedError: If ``has_left`` or `closing` was set.
        """
        choice = choice or Choice()
        request = self._request
        if choice.n_clusters is not None:
            request = replace(request, options=(*request.options, f"n_clusters={_clusters(choice.n_clusters)}"))
        if choice.classes and self._embedder is None:
            raise RefusedError("segments get no names here; start genseg serve with --embedder, or leave classes out")
        n_segments = choice.n_segments or self._n_segments
        merge = None if n_segments is None else _merging(n_segments)

        with self._decoding:
            _, image = read_upload(content, name, self.limits.max_pixels)
        try:
            segmentation = self._engine.segment(image, request, lambda *_: self.go_on(has_left))
            if merge is not None:
                segmentation = merge(segmentation)
            return self._named(segmentation, choice.classes)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise RefusedError("the machine is out of memory; start genseg serve with a smaller size", 503) from error

    def _named(self, segmentation: Segmentation, classes: Sequence[str]) -> Segmentation:
        if not classes or self._embedder is None:
            return segmentation
        with self._naming:
            return segmentation.name(classes, self._embedder)


def _merging(n_segments: str) -> Callable[[Segmentation], Segmentation]:
    from genseg.segmentation.merging import merger

    return merger(n_segments, "n_segments")


def _clusters(n_clusters: str) -> str:
    """Check the number of clusters that a request chooses."""
    number, (least, _) = whole_number(n_clusters), BOUNDS["n_clusters"]
    if n_clusters != "auto" and not (number and least <= number <= MAX_CLUSTERS):
        raise GensegError(f"n_clusters must be auto, or a number from {least} to {MAX_CLUSTERS}")
    return n_clusters
