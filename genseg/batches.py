"""Work in batches as large as memory allows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genseg.errors import GensegError


class Batches:
    """Runs rows in batches of at most ``size``; one that does not fit in memory is halved, and so are those after it.

    Finished batches are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def map(self, run: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """``run`` over batches of ``rows`` [N, ...], as equal in size as can be; the results, one after the other.

        Raises:
            MemoryError, RuntimeError: If a single row does not fit.
        """
        results = []
        while len(rows):
            batches = -(-len(rows) // self.size)
            count = -(-len(rows) // batches)
            if (result := self._tried(run, rows[:count])) is None:
                self.size = count // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                results.append(result)
                rows = rows[count:]
        return torch.cat(results)

    @staticmethod
    def _tried(run: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor | None:
        """The result, or None if it did not fit; returning drops the error and the tensors that its frames hold."""
        try:
            return run(rows)
        except (MemoryError, RuntimeError) as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
            return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is Python's, CUDA's (torch.OutOfMemoryError) or, a bare RuntimeError, torch's on the CPU."""
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device; half of all where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.virtual_memory().available)


def sentence_of(error: Exception) -> str:
    """What a failure comes to; one that neither the user nor a larger machine can mend is raised again."""
    if isinstance(error, GensegError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory; choose a smaller size, such as size=256"
    raise error
