"""Attention maps: what the attentions of a network are given, seen as they call torch, and probabilities from it.

Every processor of diffusers and transformers that computes softmax(QKᵀ/√d) V ends in torch's
``scaled_dot_product_attention``. Queries and keys are taken there, after norms and rotary positions, so that no
architecture is written twice. Linear attention, and kernels that are not torch's, cannot be read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genseg.interface import AttentionSite, FeatureTap
from genseg.sites import module_at
from genseg.sites.vocabulary import site_name

ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
"""Positional arguments of torch's ``scaled_dot_product_attention``."""


class Call(NamedTuple):
    """Queries and keys of one attention.

    Attributes:
        query: [N, heads, L, d].
        key: [N, heads, M, d].
        mask: As torch takes it, for [N, heads, L, M]; None for none.
        scale: Factor of QKᵀ.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    scale: float


class _Done(Exception):  # noqa: N818
    """Ends a forward pass when all attentions have been seen."""


class _Recorder(TorchFunctionMode):
    """Takes down the queries and keys of the attention that runs."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.running: str | None = None
        self.calls: dict[str, Call] = {}
        self._wanted = wanted

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention and self.running is not None:
            arguments = dict(zip(ARGUMENTS, args, strict=False)) | (kwargs or {})
            query, key = arguments["query"], arguments["key"]
            if key.shape[1] != query.shape[1]:
                key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
            scale = arguments.get("scale") or query.shape[-1] ** -0.5
            self.calls[self.running] = Call(query.clone(), key.clone(), arguments.get("attn_mask"), scale)
            if len(self.calls) == self._wanted:
                raise _Done
        return function(*args, **(kwargs or {}))


@contextmanager
def attention_recorded(root: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Call]]:
    """Collect what the attentions at ``paths`` are given, within the block, which ends when all have been seen."""
    wanted = list(dict.fromkeys(paths))
    recorder = _Recorder(len(wanted))

    def run(path: str | None, *_: object) -> None:
        recorder.running = path

    with ExitStack() as hooks:
        for path in wanted:
            module = module_at(root, path)
            hooks.callback(module.register_forward_pre_hook(partial(run, path)).remove)
            hooks.callback(module.register_forward_hook(partial(run, None)).remove)
        try:
            with recorder:
                yield recorder.calls
        except _Done:
            pass


def attentions_of(network: nn.Module) -> list[str]:
    """Paths of the attentions of a network of diffusers or transformers."""
    kinds = ("processor", "q_proj")  # by which they are known
    return [path for path, module in network.named_modules() if path and any(hasattr(module, kind) for kind in kinds)]


def attention_sites(
    calls: Mapping[str, Call],
    modules: Mapping[str, FeatureTap],
    size: tuple[int, int],
    tokens: int,
    stacks: Mapping[str, str],
    layout: Literal["text-image", "image-text"] = "text-image",
    padding: int = 1,
) -> dict[str, AttentionSite]:
    """Name the attentions whose queries are the image's.

    Args:
        calls: What `attention_recorded` collected in a pass over one image.
        modules: Sites of the network's modules, by which the strides of its attentions are known.
        size: (H, W) of that image in pixels.
        tokens: Number of the prompt's tokens; 0 where there is no prompt.
        stacks: As for `genseg.sites.vocabulary.site_name`.
        layout: As in `AttentionSite`.
        padding: As in `AttentionSite`.

    Returns:
        Sites by name, in the order in which they ran: ``up1.0.self``, ``up1.0.cross``, and of attention to both
        ``b9.joint.text`` and ``b9.joint.image``.
    """
    sites: dict[str, AttentionSite] = {}
    paths = {site.module for site in modules.values()}
    for path, call in calls.items():
        stride = next((site.stride for site in modules.values() if site.module.startswith(f"{path}.")), None)
        name = site_name(f"{path}.to_q", paths, stacks)
        if name is None or stride is None:
            continue  # attention among the prompt's tokens
        block, cells, keys = name.rpartition(".")[0], math.prod(size) // stride**2, call.key.shape[2]
        site = partial(AttentionSite, path, stride=stride, layout=layout, padding=padding)
        if keys == tokens:
            sites[f"{block}.cross"] = site("text")
        elif keys == cells or not tokens:
            sites[f"{block}.self"] = site("image")
        else:
            sites[f"{block}.joint.text"], sites[f"{block}.joint.image"] = site("text"), site("image")
    return sites


def attention_maps(
    call: Call, site: AttentionSite, grid: tuple[int, int], tokens: int, words: tuple[Call, int] | None, heads: bool
) -> Tensor:
    """softmax(QKᵀ/√d) of the image's queries and the keys that a site means.

    Args:
        call: What the attention was given.
        site: Which keys are meant.
        grid: (h, w) of the image's tokens.
        tokens: Number of the prompt's tokens.
        words: What the attention was given under another prompt, and the number of its tokens; these are then added to
            the keys, and are the ones that are meant.
        heads: Whether heads are kept apart.

    Returns:
        float32 [N, M, h, w], M keys, or [N, heads, M, h, w].
    """
    cells, length = grid[0] * grid[1], call.query.shape[2]
    first = site.image_start(length, cells)
    query, key = call.query[:, :, first : first + cells].float() * call.scale, call.key.float()
    columns, bias = site.columns(key.shape[2], cells, tokens), _bias(call.mask, length)
    if words is not None:
        other, count = words
        added = other.key[:, :, site.columns(other.key.shape[2], cells, count)].float()
        columns, key = slice(key.shape[2], key.shape[2] + count), torch.cat([key, added], dim=2)
        bias = None if bias is None else F.pad(bias, (0, count))
    by_head: list[Tensor] = []
    for head in range(query.shape[1]):  # one at a time: there may be as many probabilities as the image has positions²
        scores = query[:, head] @ key[:, head].transpose(1, 2)
        if bias is not None:
            scores = scores + bias[:, min(head, bias.shape[1] - 1), first : first + cells]
        maps = scores.softmax(dim=2)[:, :, columns].transpose(1, 2).unflatten(2, grid)
        by_head = [*by_head, maps] if heads or not by_head else [by_head[0] + maps]
    return torch.stack(by_head, dim=1) if heads else by_head[0] / query.shape[1]


def _bias(mask: Tensor | None, length: int) -> Tensor | None:
    """Turn a mask, as torch takes it, into a bias of the scores: float32 [1 or N, 1 or heads, L, M]."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
    mask = mask.float().reshape((1,) * (4 - mask.ndim) + mask.shape)
    return mask.expand(*mask.shape[:2], length, -1)
