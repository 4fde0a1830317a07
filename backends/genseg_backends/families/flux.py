"""FLUX.1: rectified flows; text and image have blocks with weights of their own first, then blocks that they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.transformers import ATTENTION_OUT, Spot, Stack, TransformerBackend, to_latents, to_tokens
from genseg_backends.families.released import Released


class Flux(TransformerBackend):
    """The networks of FLUX.1, told the guidance that they were distilled with; [dev] alone listens to it."""

    network_class = "FluxTransformer2DModel"
    pipeline_class = "FluxPipeline"
    prompt_inputs = ("encoder_hidden_states", "pooled_projections")
    taesd = "madebyollin/taef1"
    guidance = 3.5
    packing = 4
    longest_prompt = 512  # tokens of T5
    stacks: ClassVar = {
        "d": Stack(
            "transformer_blocks",
            {
                "query": Spot("attn.to_q"),
                "normed": Spot("norm1"),
                "attention": Spot("attn.to_out.0"),
                "output": Spot("", item=1),
            },
            {"joint": ATTENTION_OUT},
        ),
        "s": Stack(
            "single_transformer_blocks",
            {"query": Spot("attn.to_q"), "normed": Spot("norm")},
            {"joint": Spot("proj_out", "input")},  # its first channels: the attention's, before those of the MLP
            text_first=True,
        ),
    }
    tap, point = ("s", "normed", (9, 38)), ("d", "joint", (17, 19))

    def patch(self) -> int:
        """Two: the network's configuration counts tokens as its pixels."""
        return 2

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """T5's tokens, padding and all, and the pooled ones of CLIP."""
        embeds, pooled, _ = pipeline.encode_prompt(prompt, max_sequence_length=cls.longest_prompt)
        return {"encoder_hidden_states": embeds, "pooled_projections": pooled}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The velocity ε − x_0."""
        sides = (1, x.shape[2] // 2, x.shape[3] // 2)
        places = torch.cartesian_prod(*(torch.arange(side, device=x.device) for side in sides))
        guided = self.network.config["guidance_embeds"]
        output = network(
            to_tokens(x),
            timestep=timesteps / 1000,
            guidance=x.new_full((len(x),), self.guidance) if guided else None,
            img_ids=places,
            txt_ids=places.new_zeros(conditioning["encoder_hidden_states"].shape[1], 3),
            **conditioning,
        ).sample
        return to_latents(output, x)


class FluxSchnell(Flux):
    """FLUX.1 [schnell], whose prompts have half as many tokens, padding included."""

    longest_prompt = 256


flux_dev = Released(
    Flux,
    "flux-dev",
    "FLUX.1 [dev]",
    ModelCard(
        "FLUX.1",
        "FLUX.1 [dev] Non-Commercial License",
        "black-forest-labs/FLUX.1-dev",
        "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
        parameters=11_901_408_320,
        access="gated",
    ),
)
flux_schnell = Released(
    FluxSchnell,
    "flux-schnell",
    "FLUX.1 [schnell], of few steps",
    ModelCard(
        "FLUX.1",
        "Apache-2.0",
        "black-forest-labs/FLUX.1-schnell",
        "741f7c3ce8b383c54771c7003378a50191e9efe9",
        parameters=11_891_178_560,
    ),
    recipe={"num_inference_steps": 4},
)
