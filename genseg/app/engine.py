"""The one model in memory, and who may use it: one run at a time, the others in a line of bounded length."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from genseg.app.request import Run
from genseg.errors import GensegError
from genseg.progress import Estimate
from genseg.recipe import load_recipe

if TYPE_CHECKING:
    from PIL import Image

    from genseg.interface import Backend
    from genseg.progress import Progress
    from genseg.segmentation import Segmentation

WAIT, LOAD = "wait", "load"  # the stages before those of a segmenter
IMPORTS = threading.Lock()  # model libraries import parts of themselves late, and not safely from two threads at once
WARMING = object()  # the place in line of a model that is loaded before it is asked for


class Engine:
    """Runs what is asked for, one after another; a model stays loaded for the run after it.

    Args:
        queue: How many runs may wait.
        max_pixels: Larger images are refused.
        models: A local checkpoint or hub id for each backend that is not to load its own.
        device: A torch device for all; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``; None for float32.
    """

    def __init__(
        self,
        queue: int = 8,
        max_pixels: int = 20_000_000,
        models: Mapping[str, str] | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.max_pixels = max_pixels
        self._queue, self._models, self._device, self._dtype = queue, dict(models or {}), device, dtype
        self._line: list[object] = []  # the running one first
        self._moved = threading.Condition()
        self._loaded: tuple[Run, Backend] | None = None
        self._estimates: dict[str, Estimate] = {}

    def estimate(self, run: Run) -> Estimate:
        """What tells the time left of a run."""
        return self._estimates.setdefault(run.backend, Estimate())

    def complete(self, run: Run) -> Run:
        """A run with the model, device and dtype that this engine uses."""
        return replace(run, model=self._models.get(run.backend), device=self._device, dtype=self._dtype)

    def segment(self, image: Image.Image, run: Run, told: Progress) -> Segmentation:
        """Wait for the turn, load the model if it is not the one in memory, and segment.

        Args:
            image: What to segment.
            run: How.
            told: Called with the stage and how far it is; what it raises ends the wait or the run.

        Returns:
            The segmentation with its difference maps.

        Raises:
            GensegError: If the line is full, or the run cannot be done.
        """
        # Refuse a mistyped value before a model is loaded; what it calibrates is not known yet.
        load_recipe(run.recipe or "paper", options=run.options)
        run, estimate = self.complete(run), self.estimate(run)

        def heard(stage: str, done: int, total: int) -> None:
            estimate.told(stage, done, total)
            told(stage, done, total)

        with self._turn(told):
            from genseg.segmenter import Segmenter

            told(LOAD, 0, 1)
            try:
                backend = self._backend(run)
                recipe = load_recipe(
                    run.recipe or backend.preset,
                    calibration=backend.recipe,
                    options=run.options,
                    keep_scores=True,
                    max_pixels=self.max_pixels,
                )
                return Segmenter(backend, recipe, seed=run.seed, progress=heard)(image)
            finally:
                release()

    def warm(self, backend: str) -> None:
        """Load a model before it is asked for."""
        with self._turn(lambda *_: None, warming=True):
            self._backend(self.complete(Run(backend)))

    def _backend(self, run: Run) -> Backend:
        from genseg.registry import load_backend

        if self._loaded is None or self._loaded[0].backend != run.backend:
            self._loaded = None  # before the next is loaded: two may not fit
            release()
            with IMPORTS:
                self._loaded = (
                    run,
                    load_backend(run.backend, model=run.model, device=run.device, dtype=run.dtype),
                )
        return self._loaded[1]

    @contextmanager
    def _turn(self, told: Progress, warming: bool = False) -> Iterator[None]:
        """Wait in line; whoever leaves it, however, lets the others move up."""
        ticket = WARMING if warming else object()
        with self._moved:
            if len(self._line) > self._queue:
                raise GensegError(f"{len(self._line)} runs are waiting or running; try again in a while")
            self._line.append(ticket)
        try:
            while ahead := self._line.index(ticket):
                told(*((LOAD, 0, 1) if self._line[:ahead] == [WARMING] else (WAIT, 0, ahead)))
                with self._moved:
                    self._moved.wait(0.2)
            yield
        finally:
            with self._moved:
                self._line.remove(ticket)
                self._moved.notify_all()


def release() -> None:
    """Give memory back that nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
