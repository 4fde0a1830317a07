"""Module sites: read or edit what one torch module puts out, inside a context manager.

Nothing stays behind: hooks are removed when the block is left, also by an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from genseg.errors import GensegError


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted ``path``.

    Raises:
        GensegError: If there is none; the message names the last part that exists.
    """
    module = root
    parts = path.split(".")
    for depth, part in enumerate(parts):
        child = dict(module.named_children()).get(part)
        if child is None:
            where = ".".join(parts[:depth]) or type(root).__name__
            raise GensegError(f"the model has no module {path}: {where} has no {part!r}; use a checkpoint that has it")
        module = child
    return module


@contextmanager
def edited(root: nn.Module, path: str, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the output of the module at ``path`` by ``edit(output)`` within the block.

    Raises:
        GensegError: When the block ends without an exception and the module never ran.
    """
    ran = False

    def hook(_module: nn.Module, _inputs: object, output: object) -> object:
        nonlocal ran
        ran = True
        if isinstance(output, tuple):
            return (edit(output[0]), *output[1:])
        assert isinstance(output, Tensor)
        return edit(output)

    handle = module_at(root, path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    if not ran:
        raise GensegError(f"the model never ran its module {path}; choose another tap or point")


@contextmanager
def recorded(root: nn.Module, path: str) -> Iterator[list[Tensor]]:
    """Collect the outputs of the module at ``path`` within the block, in order of its runs."""
    outputs: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        outputs.append(output)
        return output

    with edited(root, path, keep):
        yield outputs


def tokens_to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens [N, h·w, C] in row order to maps [N, C, h, w]."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
