"""Checkpoints as other projects published them: read without running code, each tensor taken once."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genseg.errors import GensegError
from genseg_backends.loading.hub import first_line


class Published:
    """The tensors of a checkpoint, by the names its project gave them.

    Args:
        model: A ``.safetensors`` file of the state dict, or the published pickle, of which torch reads tensors and
            plain containers only (``weights_only=True``), so that no code of it is run.
        within: The key of the state dict in the pickle.
        prefix: What all names begin with that is left off.

    Raises:
        GensegError: If there is no such file, or it holds something else.
    """

    def __init__(self, model: str, within: str, prefix: str = "") -> None:
        self.path = Path(model).expanduser()
        if not self.path.is_file():
            raise GensegError(f"there is no file {model}; give the published checkpoint")
        self._tensors = {name.removeprefix(prefix): value for name, value in self._read(within).items()}

    def _read(self, within: str) -> dict[str, Tensor]:
        try:
            if self.path.suffix == ".safetensors":
                return load_file(self.path)
            contents: Any = torch.load(self.path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise GensegError(
                f"{self.path} is damaged or holds more than tensors, which is not read because pickles can run code; "
                f"save the state dict in its {within!r} as .safetensors, where you trust it"
            ) from error
        except (SafetensorError, RuntimeError, EOFError, OSError) as error:
            raise GensegError(f"{self.path} is damaged ({first_line(error)}); get it again") from error
        tensors = contents.get(within, contents) if isinstance(contents, dict) else {}
        return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}

    def has(self, prefix: str) -> bool:
        """Return whether any name begins with ``prefix``."""
        return any(name.startswith(prefix) for name in self._tensors)

    def numbers(self, prefix: str) -> list[int]:
        """The numbers that follow ``prefix`` in names, in order, each once."""
        matches = (re.match(re.escape(prefix) + r"\.(\d+)\.", name) for name in self._tensors)
        return sorted({int(match[1]) for match in matches if match})

    def look(self, name: str) -> Tensor:
        """A tensor, which is still to be taken.

        Raises:
            GensegError: If there is none of that name.
        """
        if name not in self._tensors:
            raise GensegError(f"{self.path} lacks {name}; get the file again, or use the checkpoint of this embedder")
        return self._tensors[name]

    def take(self, name: str) -> Tensor:
        """A tensor, which is then gone.

        Raises:
            GensegError: If there is none of that name.
        """
        self.look(name)
        return self._tensors.pop(name)

    def pair(self, there: str, here: str) -> dict[str, Tensor]:
        """Weight and bias of a layer, called ``here`` instead."""
        return {f"{here}.{kind}": self.take(f"{there}.{kind}") for kind in ("weight", "bias")}

    def thirds(self, there: str, here: list[str], *, joint: str = ".") -> dict[str, Tensor]:
        """Weight and bias of a layer for queries, keys and values, as three layers."""
        return {
            f"{name}.{kind}": part
            for kind in ("weight", "bias")
            for name, part in zip(here, self.take(f"{there}{joint}{kind}").chunk(3), strict=True)
        }

    def leave(self, *prefixes: str) -> None:
        """Take what begins so for known, and for of no use here."""
        self._tensors = {name: value for name, value in self._tensors.items() if not name.startswith(prefixes)}

    def done(self) -> None:
        """Refuse a file of which something is left.

        Raises:
            GensegError: If so.
        """
        if self._tensors:
            raise GensegError(f"{self.path} holds {min(self._tensors)}, which this embedder has not; use another file")


def filled(module: Any, weights: dict[str, Tensor], path: Path) -> Any:
    """A module with weights by its own names, for all of its parameters, in float32 and ready to run.

    Raises:
        GensegError: If shapes differ, or one is missing.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise GensegError(f"{path} does not fit ({' '.join(str(error).split())}); use another file") from error
    return module.eval().requires_grad_(False)
