"""Attention injection: queries and keys of the unmodified run for every branch (EmerDiff, section 3.3).

At each step the unmodified sample leads: its pass leaves the queries and keys of every attention behind, and the
branches' passes use them. Attention probabilities are then the same for all branches of a batch: they are computed once
and applied to the branches' values laid side by side. What one step leaves, the next one overwrites.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

PROBABILITIES = 2**25  # attention probabilities held at once, over all heads


class SharedQueriesAndKeys:
    """The attention processors of a U-Net while branches share queries and keys.

    Args:
        unet: The U-Net; its own processors are put back when the block of `under_way` is left.

    Attributes:
        leads: Whether the pass under way is that of the unmodified sample, one row; else it is one of branches.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.leads = True
        self._unet = unet
        self._processors = {name: SharedQueryKey(self) for name in unet.attn_processors}

    @contextmanager
    def under_way(self) -> Iterator[SharedQueriesAndKeys]:
        """Within the block every attention of the U-Net is a `SharedQueryKey`."""
        own = self._unet.attn_processors
        self._unet.set_attn_processor(dict(self._processors))
        try:
            yield self
        finally:
            self._unet.set_attn_processor(own)
            for processor in self._processors.values():
                processor.kept = ()


class SharedQueryKey:
    """A diffusers attention processor, for one attention.

    Attributes:
        kept: What the unmodified sample's last pass left: queries and keys [heads, L, d], or, of a cross-attention, its
            output [1, L, C].
    """

    def __init__(self, injection: SharedQueriesAndKeys) -> None:
        self.kept: tuple[Tensor, ...] = ()
        self._injection = injection

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Attend; hidden_states [N, L, C], and for cross-attention encoder_hidden_states [N, M, E] of equal rows."""
        if self._injection.leads:
            self.kept = _led(attn, hidden_states[:1], encoder_hidden_states)
        if encoder_hidden_states is not None:  # one prompt, shared queries: the same output for every row
            return self.kept[0].expand(len(hidden_states), -1, -1)
        query, key = self.kept
        return _projected(attn, attend(query, key, attn.to_v(hidden_states), upcast=attn.upcast_attention))


def _led(attn: Any, tokens: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
    """What branches need of the unmodified sample: query and key, or all of a cross-attention's output."""
    if context is None:
        return _heads(attn.to_q(tokens), attn.heads), _heads(attn.to_k(tokens), attn.heads)
    query, key = _heads(attn.to_q(tokens), attn.heads), _heads(attn.to_k(context[:1]), attn.heads)
    return (_projected(attn, attend(query, key, attn.to_v(context[:1]), upcast=attn.upcast_attention)),)


def attend(query: Tensor, key: Tensor, values: Tensor, *, upcast: bool = False) -> Tensor:
    """softmax(QKᵀ/√d) V, the probabilities computed once for all rows.

    Args:
        query: [heads, L, d], the same for all rows.
        key: [heads, M, d], likewise.
        values: [N, M, heads·c].
        upcast: Whether scores are computed in float32.

    Returns:
        [N, L, heads·c].
    """
    rows, heads = len(values), len(query)
    wide = values.unflatten(2, (heads, -1)).permute(2, 1, 0, 3).flatten(2)  # [heads, M, N·c]
    query = query * query.shape[2] ** -0.5
    if upcast:
        query, key = query.float(), key.float()
    most = max(PROBABILITIES // (heads * key.shape[1]), 1)
    parts = [(part @ key.transpose(1, 2)).softmax(dim=2).to(wide.dtype) @ wide for part in query.split(most, dim=1)]
    return torch.cat(parts, dim=1).unflatten(2, (rows, -1)).permute(2, 1, 0, 3).flatten(2)


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """One row's tokens [1, L, heads·d] as [heads, L, d]."""
    return tokens[0].unflatten(1, (heads, -1)).transpose(0, 1)


def _projected(attn: Any, mixed: Tensor) -> Tensor:
    """The output projection, as diffusers' own processors end."""
    for layer in attn.to_out:
        mixed = layer(mixed)
    return mixed / attn.rescale_output_factor
