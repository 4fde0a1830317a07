"""Cost of a segmentation (time by stage, model evaluations, memory) and the timer that measures it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genseg.progress import Progress

if TYPE_CHECKING:  # `Segmentation.load` needs no torch
    from genseg.interface import Backend


@dataclass(frozen=True)
class Cost:
    """Cost of one segmentation.

    Attributes:
        evaluations: Batch elements sent through the generative network, each at one timestep.
        decodes: Images decoded to pixels.
        seconds: Wall time by stage.
        peak_memory: Peak memory in bytes: allocated on a GPU, or the process's largest resident size on the CPU.
    """

    evaluations: int = 0
    decodes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory: int = 0


class StageTimer:
    """Times the stages of a segmentation and counts its model evaluations.

    Args:
        backend: The model, whose meter counts evaluations and decodes.
        progress: Progress callback: ``(stage, done, total)``.
        seconds: Wall time of stages that ran earlier.
    """

    def __init__(
        self, backend: Backend, progress: Progress | None = None, seconds: Mapping[str, float] | None = None
    ) -> None:
        self._backend = backend
        self._progress = progress or (lambda *_: None)
        self._evaluations, self._decodes = backend.meter.evaluations, backend.meter.decodes
        self._seconds = dict(seconds or {})
        if backend.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(backend.device)

    @contextmanager
    def stage(self, name: str, total: int = 1, evaluations: int | None = None) -> Iterator[Callable[[int, int], None]]:
        """Time a stage.

        Args:
            name: Name of the stage, such as ``"decode"``.
            total: Number of its parts, for progress.
            evaluations: Number of model evaluations it takes, if known; then the backend's meter reports progress.

        Yields:
            A callback ``(done, total)`` that reports progress within the stage.
        """
        meter, start = self._backend.meter, time.perf_counter()
        if evaluations is not None:
            before = meter.evaluations
            meter.listener = lambda: self._progress(
                name, min(total * (meter.evaluations - before) // evaluations, total), total
            )
        self._progress(name, 0, total)
        try:
            yield lambda done, of: self._progress(name, done, of)
        finally:
            meter.listener = None
        if self._backend.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._backend.device)
        self._seconds[name] = time.perf_counter() - start
        self._progress(name, total, total)

    def cost(self) -> Cost:
        """Return the cost since the timer was created."""
        meter = self._backend.meter
        if self._backend.device.type == "cuda":
            import torch

            peak = torch.cuda.max_memory_allocated(self._backend.device)
        else:
            peak = _largest_resident_size()
        return Cost(meter.evaluations - self._evaluations, meter.decodes - self._decodes, self._seconds, peak)


def _largest_resident_size() -> int:
    """Peak memory of this process so far, in bytes; 0 on systems that do not report it (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
