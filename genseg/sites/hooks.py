"""Module sites: read, edit or replay the inputs and outputs of torch modules, inside a context manager.

`read`, `offset` and `as_map` are what backends need: they go by the taps and points that a backend declares.

Nothing stays behind: hooks are removed when the block is left, also by an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.sites.declarations import FeatureTap, ModulationPoint


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
def edited(
    root: nn.Module, path: str, edit: Callable[[Tensor], Tensor], *, side: str = "output", item: int = 0
) -> Iterator[None]:
    """Replace the output or an input of the module at ``path`` by ``edit`` of it within the block.

    Args:
        root: The model.
        path: Dotted path of the module.
        edit: Is given the tensor and returns the one in its place.
        side: ``"output"`` or ``"input"``.
        item: Which one, of several tensors.

    Raises:
        GensegError: When the block ends without an exception and the module never ran.
    """
    ran = False

    def swapped(tensors: Any) -> Any:
        nonlocal ran
        if not isinstance(tensors, tuple):
            ran = True
            return edit(tensors)
        ran = ran or item < len(tensors)
        return tuple(edit(tensor) if index == item else tensor for index, tensor in enumerate(tensors))

    module = module_at(root, path)
    if side == "input":
        handle = module.register_forward_pre_hook(lambda _, inputs: swapped(inputs))
    else:
        handle = module.register_forward_hook(lambda _module, _inputs, output: swapped(output))
    try:
        yield
    finally:
        handle.remove()
    if not ran:
        raise GensegError(f"the model never ran its module {path}; choose another tap or point")


class _Reached(Exception):  # noqa: N818
    """Ends a forward pass at a site."""


@contextmanager
def recorded(
    root: nn.Module, path: str, *, stop: bool = False, side: str = "output", item: int = 0
) -> Iterator[list[Tensor]]:
    """Collect the outputs or inputs of the module at ``path`` within the block, in order of its runs; see `edited`.

    With ``stop`` the block ends at the module's first run: nothing after it is computed.
    """
    outputs: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        outputs.append(output)
        if stop:
            raise _Reached
        return output

    try:
        with edited(root, path, keep, side=side, item=item):
            yield outputs
    except _Reached:
        pass


Prefix: TypeAlias = "dict[nn.Module, Any]"
"""Outputs of one row of the modules that a pass ran up to and including a site; of nested modules, the outermost."""


@contextmanager
def prefix_recorded(root: nn.Module, path: str, *, side: str = "output") -> Iterator[Prefix]:
    """Collect, in one pass within the block, the outputs of the modules up to the one at ``path``.

    That one is included where its output is the site, and not where its input is. Modules whose output is not one row
    are left out, to run again: position embeddings, and what works on the tokens of all rows at once.
    """
    prefix: Prefix = {}
    site, reached, ran, again = module_at(root, path), False, set(), set()

    def reach(*_: object) -> None:
        nonlocal reached
        reached = True

    def keep(module: nn.Module, _inputs: object, output: Any) -> None:
        nonlocal reached
        if module in ran or reached:
            again.add(module)  # it runs more than once: one output cannot stand for it
            return
        ran.add(module)
        reached = module is site
        if _one_row(output):
            prefix[module] = _rows(output, 1)  # a copy, for the model may write into its own

    if side == "input":
        modules, handles = [*_beside(root, path)], [site.register_forward_pre_hook(reach)]
    else:
        modules, handles = [*_beside(root, path), site], []
    handles += [module.register_forward_hook(keep) for module in modules]
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
    with replaced({module: partial(_replayed, output, rows) for module, output in prefix.items()}):
        yield


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Within the block each of the modules runs the function given for it in place of its own ``forward``."""
    own: dict[nn.Module, Any] = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, forward in own.items():
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


def _replayed(output: Any, rows: int, *_: Any, **__: Any) -> Any:
    """A forward that has its result already."""
    return _rows(output, rows)


def _one_row(output: Any) -> bool:
    """Return whether an output consists of tensors of one row."""
    return all(map(_one_row, output)) if isinstance(output, tuple) else isinstance(output, Tensor) and len(output) == 1


def _rows(output: Any, rows: int) -> Any:
    """One row, a tensor or a tuple of them, as ``rows`` equal rows in memory of their own."""
    if isinstance(output, tuple):
        return tuple(_rows(part, rows) for part in output)
    return torch.cat([output] * rows)


@contextmanager
def read(root: nn.Module, tap: FeatureTap) -> Iterator[list[Tensor]]:
    """Collect a tap's tensors within the block, which ends at the tap; `as_map` makes maps of them."""
    with recorded(root, tap.module, stop=True, side=tap.side, item=tap.item) as tensors:
        yield tensors


@contextmanager
def read_all(root: nn.Module, taps: Sequence[FeatureTap]) -> Iterator[list[Tensor]]:
    """Collect the tensors of several taps within the block, in the order of ``taps``; it ends when all have been seen.

    Raises:
        GensegError: When the block ends without an exception and the module of a tap never ran.
    """
    tensors: list[Tensor] = []
    seen: dict[int, Tensor] = {}

    def keep(index: int, tensor: Tensor) -> Tensor:
        # A copy: what runs between this tap and the last one may write into the tensor.
        seen.setdefault(index, tensor.clone() if len(seen) < len(taps) - 1 else tensor)
        if len(seen) == len(taps):
            raise _Reached
        return tensor

    try:
        with ExitStack() as hooks:
            for index, tap in enumerate(taps):
                hooks.enter_context(edited(root, tap.module, partial(keep, index), side=tap.side, item=tap.item))
            yield tensors
    except _Reached:
        tensors.extend(seen[index] for index in range(len(taps)))


@contextmanager
def offset(root: nn.Module, point: ModulationPoint, offsets: Tensor, unit: str = "absolute") -> Iterator[None]:
    """Within the block an offset is added at a modulation point, another one in each row.

    Args:
        root: The model, whose pass within the block has N rows, or one that stands for N equal rows.
        point: Where.
        offsets: float32 [N, h, w] on the point's grid, added to all of its channels.
        unit: The recipe's `strength_unit`: ``"rms"`` for multiples of the first row's root mean square at the point.
    """

    def add(tensor: Tensor) -> Tensor:
        seen = as_map(tensor[:1], point, (offsets.shape[1], offsets.shape[2]))
        scale = seen.float().square().mean().sqrt() if unit == "rms" else 1.0
        added = (scale * offsets[:, None]).to(tensor.dtype)
        if tensor.ndim == 4:
            return tensor + added
        tokens = added.flatten(2).transpose(1, 2)
        after, beyond = tensor.shape[1] - point.first - tokens.shape[1], tensor.shape[2] - seen.shape[1]
        if after or point.first or beyond:
            tokens = F.pad(tokens.expand(-1, -1, seen.shape[1]), (0, beyond, point.first, after))
        return tensor + tokens

    with edited(root, point.module, add, side=point.side, item=point.item):
        yield


def as_map(tensor: Tensor, site: FeatureTap, grid: tuple[int, int]) -> Tensor:
    """A module's input or output as map [N, C, h, w], whether it works on maps or on tokens.

    Raises:
        GensegError: If it is not on the grid, or lacks channels: the backend declares the site wrongly.
    """
    if tensor.ndim == 4:
        seen = tensor[:, : site.channels]
    else:
        tokens = tensor[:, site.first : site.first + grid[0] * grid[1], : site.channels]
        seen = tokens_to_map(tokens, grid) if tokens.shape[1] == grid[0] * grid[1] else tokens[..., None]
    if seen.shape[1:] != (site.channels, *grid):
        first = f" behind {site.first} other tokens" if site.first else ""
        alone = tensor.ndim == 3 and tensor.shape[1] == grid[0] * grid[1] and site.first
        raise GensegError(
            f"{site.module} was declared with {site.channels} channels on the grid {grid}{first}, and is "
            f"{list(tensor.shape)}{': the image alone, so that first is 0' if alone else ''}"
        )
    return seen


def tokens_to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens [N, h·w, C] in row order to maps [N, C, h, w]."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
