"""FLUX.2: as FLUX.1, with fewer blocks of their own for text and image, and projections fused in those they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.codecs import PackedCodec
from genseg_backends.engine.schedule import FlowSchedule
from genseg_backends.engine.transformers import ATTENTION_OUT, Spot, Stack, TransformerBackend, to_latents, to_tokens
from genseg_backends.families.released import Released


@dataclass(frozen=True)
class EmpiricalFlow(FlowSchedule):
    """A flow whose shift goes by the number of steps too.

    Attributes:
        tokens: Number of image tokens.
    """

    tokens: int = 4096

    def sampler(self, steps: int) -> Tensor:
        """Shifted times: float64 [steps]."""
        return FlowSchedule(math.exp(compute_empirical_mu(self.tokens, steps))).sampler(steps)


class Flux2(TransformerBackend):
    """The networks of FLUX.2 [klein], which take no guidance."""

    network_class = "Flux2Transformer2DModel"
    pipeline_class = "Flux2KleinPipeline"
    vae_class = "AutoencoderKLFlux2"
    codec_class = PackedCodec
    default_size = 64
    packing = 4
    stacks: ClassVar = {
        "d": Stack(
            "transformer_blocks",
            {
                "query": Spot("attn.to_q"),
                "normed": Spot("attn.to_q", "input"),
                "attention": Spot("attn.to_out.0"),
                "output": Spot("", item=1),
            },
            {"joint": ATTENTION_OUT},
        ),
        "s": Stack(
            "single_transformer_blocks",
            {"normed": Spot("attn.to_qkv_mlp_proj", "input"), "output": Spot("")},
            {"joint": Spot("attn.to_out", "input")},  # its first channels: the attention's, before those of the MLP
            text_first=True,
        ),
    }
    tap, point = ("d", "attention", (3, 5)), ("d", "joint", (4, 5))

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """Three layers of a language model side by side, padding and all."""
        embeds, _ = pipeline.encode_prompt(prompt)
        return {"encoder_hidden_states": embeds}

    def schedule_of(self, scheduler: Any) -> FlowSchedule:  # noqa: ARG002
        """The pipeline's own, whatever shift the scheduler names."""
        height, width = next(iter(self.taps.values())).grid
        return EmpiricalFlow(tokens=height * width)

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The velocity ε − x_0."""
        words = conditioning["encoder_hidden_states"].shape[1]
        rows, columns, first, text = (torch.arange(n, device=x.device) for n in (*x.shape[2:], 1, words))
        output = network(
            to_tokens(x, 1),
            timestep=timesteps / 1000,
            img_ids=torch.cartesian_prod(first, rows, columns, first),
            txt_ids=torch.cartesian_prod(first, first, first, text),
            **conditioning,
        ).sample
        return to_latents(output, x, 1)


flux2 = Released(
    Flux2,
    "flux2",
    "FLUX.2 [klein] 4B",
    ModelCard(
        "FLUX.2",
        "Apache-2.0",
        "black-forest-labs/FLUX.2-klein-4B",
        "e7b7dc27f91deacad38e78976d1f2b499d76a294",
        parameters=3_875_544_576,
    ),
)
