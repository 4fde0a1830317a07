"""Module sites: read, edit or replay what torch modules put out, inside a context manager.

Nothing stays behind: hooks are removed when the block is left, also by an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

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


class _Reached(Exception):  # noqa: N818
    """Ends a forward pass at a site."""


@contextmanager
def recorded(root: nn.Module, path: str, *, stop: bool = False) -> Iterator[list[Tensor]]:
    """Collect the outputs of the module at ``path`` within the block, in order of its runs.

    With ``stop`` the block ends at the module's first run: what the model would compute after it is not computed.
    """
    outputs: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        outputs.append(output)
        if stop:
            raise _Reached
        return output

    try:
        with edited(root, path, keep):
            yield outputs
    except _Reached:
        pass


Prefix: TypeAlias = "dict[nn.Module, Any]"
"""What each module put out that a pass ran up to and including a site; of nested modules, the outermost."""


@contextmanager
def prefix_recorded(root: nn.Module, path: str) -> Iterator[Prefix]:
    """Collect, in one pass within the block, what the modules up to and including the one at ``path`` put out."""
    prefix: Prefix = {}
    site, reached, again = module_at(root, path), False, set()

    def keep(module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal reached
        if module in prefix or reached:
            again.add(module)  # it runs more than once: one output cannot stand for it
        else:
            prefix[module] = output
            reached = module is site

    handles = [module.register_forward_hook(keep) for module in (*_beside(root, path), site)]
    try:
        yield prefix
    finally:
        for handle in handles:
            handle.remove()
        for module in again:
            prefix.pop(module, None)


@contextmanager
def prefix_replayed(prefix: Prefix, rows: int) -> Iterator[None]:
    """Within the block the modules of ``prefix``, recorded on one row, give that for ``rows`` rows without running."""
    kept = {module: vars(module).get("forward") for module in prefix}
    try:
        for module, output in prefix.items():
            module.forward = partial(_given, _repeated(output, rows))
        yield
    finally:
        for module, forward in kept.items():
            if forward is None:
                vars(module).pop("forward", None)
            else:
                module.forward = forward


def _beside(root: nn.Module, path: str) -> Iterator[nn.Module]:
    """The outermost modules beside ``path``, from the root down: those of which a pass may have run all of one."""
    parts = path.split(".")
    for depth, part in enumerate(parts):
        parent = module_at(root, ".".join(parts[:depth])) if depth else root
        for name, child in parent.named_children():
            if name != part:
                yield from child if isinstance(child, nn.ModuleList) else (child,)


def _given(output: Any, *_: Any, **__: Any) -> Any:
    """A forward that has its result already."""
    return output


def _repeated(output: Any, rows: int) -> Any:
    """One row, in tensors and tuples of them, as ``rows`` equal rows that share memory."""
    if isinstance(output, Tensor):
        return output.expand(rows, *output.shape[1:]) if len(output) == 1 else output
    return tuple(_repeated(part, rows) for part in output) if isinstance(output, tuple) else output


def tokens_to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens [N, h·w, C] in row order to maps [N, C, h, w]."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
