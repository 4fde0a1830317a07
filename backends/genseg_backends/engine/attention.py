"""Attention injection: queries and keys of the unmodified run for every branch (EmerDiff, section 3.3).

At each step the unmodified sample leads: its pass leaves the queries and keys of every attention behind, and the
branches' passes use them. What one step leaves, the next one overwrites. Two ways, by the kind of attention:

- Plain attention (`SharedQueryKey`, a processor): probabilities are the same for all branches of a batch, computed once
  and applied to the branches' values laid side by side.
- Any other, with text beside the image, rotary positions, normalized or fused projections or linear attention: its own
  processor runs, and its projections give the queries and keys of the unmodified sample (`SharedProjection`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.sites import replaced
from genseg_backends.engine.patches import unfused

PROBABILITIES = 2**25  # attention probabilities held at once, over all heads
PROJECTIONS = ("to_q", "to_k", "add_q_proj", "add_k_proj", "q_proj", "k_proj")
"""Names, in an attention, of the modules that queries and keys come from."""
FUSED = "to_qkv_mlp_proj"
"""And of the one that puts out queries, keys, values and more, side by side."""
PLAIN_PROCESSORS = (AttnProcessor, AttnProcessor2_0)


class SharedQueriesAndKeys:
    """The attentions of a network while branches share queries and keys.

    Args:
        network: The network; its own processors are put back when the block of `under_way` is left.

    Attributes:
        leads: Whether the pass under way is that of the unmodified sample, one row; else it is one of branches.
    """

    def __init__(self, network: nn.Module) -> None:
        self.leads = True
        self._network = network

    @contextmanager
    def under_way(self) -> Iterator[SharedQueriesAndKeys]:
        """Within the block, which holds whole passes, every attention of the network takes part.

        Raises:
            GensegError: If an attention made its queries and keys otherwise than by its projections.
        """
        with unfused(self._network):
            kinds = ("processor", "q_proj")  # by which attentions of diffusers and of transformers are known
            attentions: list[Any] = [m for m in self._network.modules() if any(hasattr(m, kind) for kind in kinds)]
            own = {attention: attention.processor for attention in attentions if _is_plain(attention)}
            projections = {attention: self._projections(attention) for attention in attentions if attention not in own}
            for attention in own:
                attention.set_processor(SharedQueryKey(self))
            try:
                with replaced({module: shared for each in projections.values() for module, shared in each.items()}):
                    yield self
            finally:
                for attention, processor in own.items():
                    attention.set_processor(processor)
            for attention, each in projections.items():
                if hasattr(attention, "processor") and not any(shared.recorded for shared in each.values()):
                    raise GensegError(
                        f"{type(attention.processor).__name__} makes queries and keys in a way "
                        "of its own, so branches cannot share them; set the model's default attention processors, or "
                        "use injection=false"
                    )

    def _projections(self, attention: Any) -> dict[nn.Module, SharedProjection]:
        """Replacements of the projections to queries and keys of an attention."""
        shared = {m: SharedProjection(self, m) for name, m in attention.named_children() if name in PROJECTIONS}
        if hasattr(attention, FUSED):
            fused = getattr(attention, FUSED)
            shared[fused] = SharedProjection(self, fused, 2 * attention.inner_dim)
        return shared


def _is_plain(attention: Any) -> bool:
    """Return whether an attention is softmax(QKᵀ/√d) V of projected tokens and nothing else."""
    if not isinstance(attention, Attention) or type(attention.processor) not in PLAIN_PROCESSORS:
        return False
    extras = (
        "group_norm",
        "spatial_norm",
        "norm_q",
        "norm_k",
        "added_kv_proj_dim",
        "norm_cross",
        "residual_connection",
    )
    return not any(getattr(attention, extra, None) for extra in extras)


class SharedProjection:
    """Replacement of the ``forward`` of a projection to queries or keys.

    Attributes:
        recorded: Queries and keys of the unmodified sample's last pass, of one row.
    """

    def __init__(self, injection: SharedQueriesAndKeys, module: nn.Module, columns: int | None = None) -> None:
        self.recorded: tuple[Tensor, ...] = ()
        self._injection, self._own, self._columns = injection, module.forward, columns

    def __call__(self, tokens: Tensor) -> Tensor:
        """Project; the first ``columns`` channels, or all of them, are the unmodified sample's."""
        if self._injection.leads:
            output: Tensor = self._own(tokens)
            self.recorded = (output[:1, ..., : self._columns],)
            return output
        (leading,) = self.recorded
        rows = leading.expand(len(tokens), *leading.shape[1:])
        if self._columns is None:
            return rows
        return torch.cat([rows, self._own(tokens)[..., self._columns :]], dim=-1)


class SharedQueryKey:
    """A diffusers attention processor, for one plain attention.

    Attributes:
        recorded: Of the unmodified sample's last pass, queries and keys [heads, L, d], or, in a cross-attention, the
            output before the projection [1, L, C].
    """

    def __init__(self, injection: SharedQueriesAndKeys) -> None:
        self.recorded: tuple[Tensor, ...] = ()
        self._injection = injection

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Attend; hidden_states [N, L, C], and for cross-attention encoder_hidden_states [N, M, E] of equal rows."""
        if self._injection.leads:
            self.recorded = _led(attn, hidden_states[:1], encoder_hidden_states)
        if encoder_hidden_states is not None:  # one prompt, shared queries: the same output for every row
            output = _projected(attn, self.recorded[0])
            return output.expand(len(hidden_states), -1, -1)
        query, key = self.recorded
        return _projected(attn, attend(query, key, attn.to_v(hidden_states), upcast=attn.upcast_attention))


def _led(attn: Any, tokens: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
    """Query and key of the unmodified sample, or the output of a cross-attention, which branches share."""
    if context is None:
        return _heads(attn.to_q(tokens), attn.heads), _heads(attn.to_k(tokens), attn.heads)
    query, key = _heads(attn.to_q(tokens), attn.heads), _heads(attn.to_k(context[:1]), attn.heads)
    return (attend(query, key, attn.to_v(context[:1]), upcast=attn.upcast_attention),)


def attend(query: Tensor, key: Tensor, values: Tensor, *, upcast: bool = False) -> Tensor:
    """softmax(QKᵀ/√d) V, the probabilities computed once for all rows.

    Args:
        query: [heads, L, d], the same for all rows.
        key: [heads, M, d], the same for all rows.
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
