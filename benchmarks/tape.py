"""Recordings of the published procedure's unmodified run, and the attentions that use them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor


@dataclass
class Tape:
    """Queries and keys of the unmodified run.

    Attributes:
        replaying: Whether attentions use what was kept; if not, they keep what they compute.
        timestep: Of the running pass.
        kept: (timestep, attention) -> queries and keys, split into heads.
    """

    replaying: bool = False
    timestep: int = -1
    kept: dict[tuple[int, str], tuple[Tensor, Tensor]] = field(default_factory=dict)


class TapedAttention:
    """A diffusers attention processor that keeps queries and keys, or uses those kept in place of what it computes."""

    def __init__(self, name: str, tape: Tape) -> None:
        self.name, self.tape = name, tape

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Attend; hidden_states [1, L, C], encoder_hidden_states [1, M, E] for cross-attention."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        key_in_tape = (self.tape.timestep, self.name)
        queries, keys = (_heads(x, attn.heads) for x in (attn.to_q(hidden_states), attn.to_k(context)))
        if self.tape.replaying:
            queries, keys = self.tape.kept[key_in_tape]
        else:
            self.tape.kept[key_in_tape] = queries, keys
        mixed = F.scaled_dot_product_attention(queries, keys, _heads(attn.to_v(context), attn.heads))
        output: Tensor = mixed.transpose(1, 2).flatten(2)
        for layer in attn.to_out:
            output = layer(output)
        return output / attn.rescale_output_factor


def _heads(tokens: Tensor, heads: int) -> Tensor:
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)
