"""Work in batches as large as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableMapping

import torch
from torch import Tensor

from genseg.errors import is_out_of_memory


class Batches:
    """Runs a function in batches of at most ``size`` elements; where one does not fit in memory, the size is halved.

    Results of finished batches are not computed again.

    Args:
        size: The most elements of a batch.
        halved: Sizes that were halved before, by what was run; kept by the caller, and written to.
        key: What is run, such as the kind of pass with the size of an image.
    """

    def __init__(self, size: int, halved: MutableMapping[Hashable, int] | None = None, key: Hashable = None) -> None:
        self._halved = {} if halved is None else halved
        self._key = key
        self.size = min(size, self._halved.get(key, size))

    def map(self, run: Callable[[Tensor], Tensor], elements: Tensor) -> Tensor:
        """Run over ``elements`` [N, ...] in batches as equal in size as possible, and concatenate the results.

        Raises:
            MemoryError, RuntimeError: If a single element does not fit.
        """
        results = []
        while len(elements):
            batches = -(-len(elements) // self.size)
            count = -(-len(elements) // batches)
            if (result := self._tried(run, elements[:count])) is None:
                self.size = self._halved[self._key] = count // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                results.append(result)
                elements = elements[count:]
        return torch.cat(results)

    @staticmethod
    def _tried(run: Callable[[Tensor], Tensor], elements: Tensor) -> Tensor | None:
        """The result, or None if it did not fit; returning drops the error and the tensors that its frames hold."""
        try:
            return run(elements)
        except (MemoryError, RuntimeError) as error:
            if len(elements) == 1 or not is_out_of_memory(error):
                raise
            return None


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device; half of all where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.virtual_memory().available)
