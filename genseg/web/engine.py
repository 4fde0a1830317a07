"""The one model in memory, and a queue of bounded length for the runs that use it one after another."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from genseg.errors import GensegError
from genseg.progress import TimeLeft
from genseg.recipe import load_recipe
from genseg.web.request import SegmentRequest

if TYPE_CHECKING:
    from PIL import Image

    from genseg.interface import Backend
    from genseg.progress import Progress
    from genseg.segmentation import Segmentation

WAIT, LOAD = "wait", "load"  # the stages before those of a segmenter
IMPORTS = threading.Lock()  # model libraries import parts of themselves late, and not safely from two threads at once
WARMING = object()  # the queue's entry for a model that is loaded before anyone requests it


class QueueFullError(GensegError):
    """As many runs are waiting as may wait."""


class Engine:
    """Segments one image after another; a model stays loaded for the next request of its backend.

    Args:
        queue: Upper bound of waiting runs.
        max_pixels: Larger images are refused.
        models: A local checkpoint or hub id for each backend that is not to load its own.
        device: A torch device for all; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"auto"``; None for float32.
        keep_scores: Whether results have their score maps.
    """

    def __init__(
        self,
        queue: int = 8,
        max_pixels: int = 20_000_000,
        models: Mapping[str, str] | None = None,
        device: str | None = None,
        dtype: str | None = None,
        *,
        keep_scores: bool = True,
    ) -> None:
        self.max_pixels = max_pixels
        self._keep_scores = keep_scores
        self._max_waiting, self._models, self._device, self._dtype = queue, dict(models or {}), device, dtype
        self._queue: list[object] = []  # the running one first
        self._queue_moved = threading.Condition()
        self._loaded: tuple[SegmentRequest, Backend] | None = None
        self._estimates: dict[str, TimeLeft] = {}

    def estimate(self, request: SegmentRequest) -> TimeLeft:
        """The estimator of the time left for requests of this backend."""
        return self._estimates.setdefault(request.backend, TimeLeft())

    def complete(self, request: SegmentRequest) -> SegmentRequest:
        """The request with the model, device and dtype of this engine."""
        return replace(request, model=self._models.get(request.backend), device=self._device, dtype=self._dtype)

    def segment(self, image: Image.Image, request: SegmentRequest, on_progress: Progress) -> Segmentation:
        """Wait in the queue, load the model if it is not the one in memory, and segment.

        Args:
            image: The image.
            request: Backend, recipe and seed.
            on_progress: Progress callback; an exception that it raises ends the wait or the run.

        Returns:
            The segmentation.

        Raises:
            QueueFullError: If the queue is full.
            GensegError: If the image cannot be segmented so.
        """
        # Refuse a mistyped value before a model is loaded, although the backend's own recipe is not known yet.
        load_recipe(request.recipe or "paper", options=request.options)
        request, estimate = self.complete(request), self.estimate(request)

        def report(stage: str, done: int, total: int) -> None:
            estimate.report(stage, done, total)
            on_progress(stage, done, total)

        with self._queue_slot(on_progress):
            if not self._has(request):
                on_progress(LOAD, 0, 1)
            from genseg.segmenter import Segmenter

            try:
                backend = self._backend(request)
                recipe = backend.resolve(request.recipe, request.options, max_pixels=self.max_pixels)
                if recipe.n_clusters != "auto" and not recipe.connected:  # merged segments have no scores to keep
                    recipe = replace(recipe, keep_scores=self._keep_scores)
                return Segmenter(backend, recipe, seed=request.seed, progress=report)(image)
            finally:
                release()

    def warm(self, backend: str) -> None:
        """Load a model before it is requested."""
        with self._queue_slot(lambda *_: None, warming=True):
            self._backend(self.complete(SegmentRequest(backend)))

    def _backend(self, request: SegmentRequest) -> Backend:
        from genseg.registry import load_backend

        if self._loaded is None or not self._has(request):
            self._loaded = None  # before the next is loaded: two may not fit
            release()
            with IMPORTS:
                backend = load_backend(request.backend, model=request.model, device=request.device, dtype=request.dtype)
            self._loaded = request, backend
        return self._loaded[1]

    def _has(self, request: SegmentRequest) -> bool:
        return self._loaded is not None and self._loaded[0].backend == request.backend

    @contextmanager
    def _queue_slot(self, on_progress: Progress, warming: bool = False) -> Iterator[None]:
        """Wait for the front of the queue; leaving it, for whatever reason, lets the others move up."""
        slot = WARMING if warming else object()
        with self._queue_moved:
            if len(self._queue) > self._max_waiting:
                raise QueueFullError(f"{len(self._queue)} runs are waiting or running; try again in a while")
            self._queue.append(slot)
        try:
            while ahead := self._queue.index(slot):
                on_progress(*((LOAD, 0, 1) if self._queue[:ahead] == [WARMING] else (WAIT, 0, ahead)))
                with self._queue_moved:
                    self._queue_moved.wait(0.2)
            yield
        finally:
            with self._queue_moved:
                self._queue.remove(slot)
                self._queue_moved.notify_all()


def release() -> None:
    """Give memory back that nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
