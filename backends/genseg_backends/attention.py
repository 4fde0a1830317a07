"""Attention injection: queries and keys of the unmodified run for every branch (EmerDiff, section 3.3).

The unmodified sample is carried as row 0 of the batch. Attention probabilities are computed once, from row 0's
queries and keys, and applied to every row's values laid side by side; nothing is stored between steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor


@contextmanager
def shared_queries_and_keys(unet: UNet2DConditionModel) -> Iterator[None]:
    """Within the block every attention of ``unet`` uses row 0's queries and keys for the whole batch."""
    kept = unet.attn_processors
    unet.set_attn_processor(SharedQueryKey())
    try:
        yield
    finally:
        unet.set_attn_processor(kept)


class SharedQueryKey:
    """A diffusers attention processor for batches whose row 0 is the unmodified sample."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Attend; hidden_states [N, L, C], encoder_hidden_states [N, M, E] for cross-attention, same in all rows."""
        rows = len(hidden_states)
        query = _heads(attn.to_q(hidden_states[:1]), attn.heads)
        if encoder_hidden_states is not None:  # one prompt, shared queries: the same output for every row
            context = encoder_hidden_states[:1]
            key, value = _heads(attn.to_k(context), attn.heads), _heads(attn.to_v(context), attn.heads)
            return _out(attn, F.scaled_dot_product_attention(query, key, value)).expand(rows, -1, -1)
        key = _heads(attn.to_k(hidden_states[:1]), attn.heads)
        value = _heads(attn.to_v(hidden_states), attn.heads)  # [N, heads, L, d]
        wide = value.permute(1, 2, 0, 3).flatten(2)[None]  # [1, heads, L, N·d]
        mixed = F.scaled_dot_product_attention(query, key, wide)
        return _out(attn, mixed[0].unflatten(2, (rows, -1)).permute(2, 0, 1, 3))


def _heads(tokens: Tensor, heads: int) -> Tensor:
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def _out(attn: Any, mixed: Tensor) -> Tensor:
    """Join the heads [N, heads, L, d] and project, as diffusers' own processors end."""
    joined: Tensor = mixed.transpose(1, 2).flatten(2)
    for layer in attn.to_out:
        joined = layer(joined)
    return joined / attn.rescale_output_factor
