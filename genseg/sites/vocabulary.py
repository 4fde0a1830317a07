"""The vocabulary of sites: which modules of a network can be read as maps of the image, and what they are called.

One pass with `shapes_recorded` shows the shapes of all inputs and outputs of modules. `readable` finds those that are
maps of the image, by ``module:PATH``, and `named` gives the outputs of the common blocks their names, such as
``up1.0.query`` or ``b9.output``: the same words in every family.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from genseg.sites.declarations import FeatureTap
from genseg.sites.intermediates import MODULE

PROJECTIONS = {
    **dict.fromkeys(("to_q", "q_proj"), "query"),
    **dict.fromkeys(("to_k", "k_proj"), "key"),
    **dict.fromkeys(("to_v", "v_proj"), "value"),
    **dict.fromkeys(("to_out.0", "o_proj"), "attention"),
}
"""Modules of an attention, by what their outputs are called."""

PARTS = {
    "": "output",
    **dict.fromkeys(("norm1", "norm", "layernorm_before"), "normed"),
    **dict.fromkeys(("ff", "mlp", "feed_forward", "img_mlp"), "mlp"),
}
"""Modules of a transformer block, by what their outputs are called."""

ATTENTIONS = ("attn", "attention", "attn1", "attn2")
SECOND = {"attn1": "attn2", "attn2": "attn"}
"""Attentions that are called ``self-`` beside another one: cross-attention, or attention to text and image."""

U_NET = re.compile(
    r"(?:(?P<way>down|up)_blocks\.(?P<level>\d+)|(?P<mid>mid)_block)"
    r"(?:\.(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<layer>\d+))?"
    r"(?:\.transformer_blocks\.(?P<block>\d+))?(?:\.(?P<part>.+))?"
)


class ModuleTensor(NamedTuple):
    """A tensor that a module took or put out.

    Attributes:
        path: Dotted path of the module.
        side: ``"input"`` or ``"output"``.
        item: Which one, of several tensors.
        shape: Its shape.
    """

    path: str
    side: Literal["output", "input"]
    item: int
    shape: tuple[int, ...]


@contextmanager
def shapes_recorded(root: nn.Module) -> Iterator[list[ModuleTensor]]:
    """Collect the shapes of the inputs and outputs of all modules below ``root``, of the first run of each."""
    tensors: list[ModuleTensor] = []
    ran: set[str] = set()

    def keep(path: str, inputs: Any, output: Any) -> None:
        if path in ran:
            return
        ran.add(path)
        for side, group in (("output", output), ("input", inputs)):
            group = group if isinstance(group, tuple) else (group,)
            tensors.extend(
                ModuleTensor(path, side, item, tuple(tensor.shape))  # type: ignore[arg-type]
                for item, tensor in enumerate(group)
                if isinstance(tensor, Tensor) and tensor.is_floating_point()
            )

    handles = [
        module.register_forward_hook(lambda _, inputs, output, path=path: keep(path, inputs, output))
        for path, module in root.named_modules()
        if path
    ]
    try:
        yield tensors
    finally:
        for handle in handles:
            handle.remove()


def readable(
    tensors: Sequence[ModuleTensor], size: tuple[int, int], image_size: int, declared: Iterable[FeatureTap]
) -> dict[str, FeatureTap]:
    """Find the tensors that are maps of the image.

    Those are maps [1, C, h, w] and tokens [1, L, C] of which h·w are the image's, where the image has as many pixels a
    cell along both sides. Where text or class tokens stand before those of the image is found from the declared sites.

    Args:
        tensors: What `shapes_recorded` collected in a pass over one image.
        size: (H, W) of the image in pixels; unequal sides tell maps of the image from others of as many tokens.
        image_size: Side of the backend's own image size, for which grids are given.
        declared: Sites that the backend declares.

    Returns:
        Sites in the order in which modules end, by ``module:PATH``, ``module:PATH@input`` or, where several tensors of
        a module are maps, ``module:PATH@output1``.
    """
    sites: dict[str, FeatureTap] = {}
    shapes = {tensor[:3]: tensor.shape for tensor in tensors}
    known = {site: shapes.get((site.module, site.side, site.item), ()) for site in declared}
    for path, side, item, shape in tensors:
        place = _placed(path, shape, size, known)
        if place is None:
            continue
        channels, stride, first = place
        site = FeatureTap(path, channels, stride, (image_size // stride,) * 2, side, item, first)
        sites.setdefault(f"{MODULE}{path}" if side == "output" else f"{MODULE}{path}@{side}", site)
        sites[f"{MODULE}{path}@{side}{item}"] = site
    return sites


def _placed(
    path: str, shape: Sequence[int], size: tuple[int, int], declared: Mapping[FeatureTap, Sequence[int]]
) -> tuple[int, int, int] | None:
    """Channels, stride and first token of a tensor; None if it is no map of the image.

    Tokens as many as those of the declared site nearest in the network are laid out as these are.
    """
    if len(shape) not in (3, 4) or shape[0] != 1:
        return None
    if len(shape) == 4:
        channels, *grid = shape[1:]
        stride = size[0] // grid[0] if grid[0] else 0
        return (channels, stride, 0) if stride and [side / stride for side in size] == grid else None
    length, channels = shape[1:]
    stride = math.isqrt(size[0] * size[1] // length) if length else 0
    if stride and not any(side % stride for side in size) and _cells(size, stride) == length:
        return channels, stride, 0
    if not any(other[:2] == (1, length) for other in declared.values()):
        return None
    near = max(declared, key=lambda site: _common(path, site.module))
    if _common(path, near.module) and (len(declared[near]), *declared[near][:2]) == (3, 1, length):
        return channels, near.stride, near.first  # with text before the image, or padding behind it
    return None


def _cells(size: tuple[int, int], stride: int) -> int:
    return (size[0] // stride) * (size[1] // stride)


def _common(one: str, other: str) -> int:
    """Number of leading parts that two dotted paths share."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(one.count("."), other.count(".")) + 1)


def named(
    modules: Mapping[str, FeatureTap], declared: Mapping[str, FeatureTap], stacks: Mapping[str, str]
) -> dict[str, FeatureTap]:
    """Name the outputs of the common blocks, beside the sites that the backend declares.

    Args:
        modules: What `readable` found.
        declared: Sites by name, which keep their names.
        stacks: What blocks are called, by the path of their list: ``{"transformer_blocks": "b"}``.

    Returns:
        Sites by name in the order in which modules end; declared ones of modules that did not run come last.
    """
    paths = {site.module for site in modules.values()}
    order = {path: index for index, path in enumerate(dict.fromkeys(site.module for site in modules.values()))}
    sites = dict(declared)
    for name, site in modules.items():
        if "@" not in name and (word := site_name(site.module, paths, stacks)):
            sites.setdefault(word, site)
    return dict(sorted(sites.items(), key=lambda entry: order.get(entry[1].module, len(order))))


def site_name(path: str, paths: Container[str], stacks: Mapping[str, str]) -> str | None:
    """The name of a module's output in the vocabulary, or None if it has none.

    Args:
        path: Dotted path of the module.
        paths: Those of all modules.
        stacks: What blocks are called, by the path of their list.
    """
    for stack, word in stacks.items():
        if match := re.fullmatch(rf"{re.escape(stack)}\.(\d+)(?:\.(.+))?", path):
            kind = _kind(path, match[2] or "", paths)
            return f"{word}{match[1]}.{kind}" if kind else None
    match = U_NET.fullmatch(path)
    if match is None:
        return None
    where, part = match["mid"] or f"{match['way']}{match['level']}", match["part"] or ""
    if match["layer"] is None:
        return None if part or match["block"] else f"{where}.output"
    if match["kind"] in ("downsamplers", "upsamplers"):
        return None if part else f"{where}.{match['kind'].removesuffix('rs')}"
    where = f"{where}.{match['layer']}"
    if match["kind"] == "resnets":
        return None if part else f"{where}.resnet"
    if match["block"] is not None:
        kind, transformer = _kind(path, part, paths), path.partition(".transformer_blocks.")[0]
        alone = part and f"{transformer}.transformer_blocks.1" not in paths
        return kind and f"{where}.{kind}" if alone else kind and f"{where}.b{match['block']}.{kind}"
    is_transformer = f"{path}.transformer_blocks.0" in paths
    if not part:
        return f"{where}.output" if is_transformer else f"{where}.attention"
    return None if is_transformer or part == "to_out.0" or part not in PROJECTIONS else f"{where}.{PROJECTIONS[part]}"


def _kind(path: str, part: str, paths: Container[str]) -> str | None:
    """Name the output of a part of a transformer block."""
    if part in PARTS:
        return PARTS[part]
    attention, _, projection = part.partition(".")
    if attention not in ATTENTIONS or projection not in PROJECTIONS:
        return None
    block = path.removesuffix(part)
    beside = f"{block}{SECOND.get(attention, '')}.to_q" in paths
    return f"{'self-' if beside else ''}{PROJECTIONS[projection]}"
