"""PixArt-α and PixArt-Σ: transformers over image tokens alone, with cross-attention to T5's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.transformers import Spot, Stack, TransformerBackend, unpadded
from genseg_backends.families.released import Released


class PixArt(TransformerBackend):
    """The networks of the PixArt family (Chen et al., 2310.00426 and 2403.04692)."""

    network_class = "PixArtTransformer2DModel"
    pipeline_class = "PixArtSigmaPipeline"
    guidance_scale = 4.5
    levels = (0.26, 0.44)
    stacks: ClassVar = {
        "b": Stack(
            "transformer_blocks",
            {
                "query": Spot("attn2.to_q"),
                "self-query": Spot("attn1.to_q"),
                "normed": Spot("attn1.to_q", "input"),
                "output": Spot(""),
            },
            {"cross": Spot("attn2.to_out.0", "input"), "self": Spot("attn1.to_out.0", "input")},
        )
    }
    tap, point = ("b", "query", (13, 28)), ("b", "self", (14, 28))

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """T5's tokens of the prompt, without padding."""
        embeds, mask, *_ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": unpadded(embeds, mask)}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The noise estimate, without the learned variance; α at 1024 pixels is told size and aspect ratio."""
        size: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
        if self.network.config["sample_size"] == 128:
            height, width = (side * self.codec.stride for side in x.shape[2:])
            size = {
                "resolution": torch.tensor([height, width]).to(x).expand(len(x), 2),
                "aspect_ratio": torch.tensor([height / width]).to(x).expand(len(x), 1),
            }
        output = network(x, timestep=timesteps, added_cond_kwargs=size, **conditioning).sample
        return output[:, : x.shape[1]]


class PixArtAlpha(PixArt):
    """PixArt-α, whose pipeline cleans and cuts prompts otherwise."""

    pipeline_class = "PixArtAlphaPipeline"


pixart_alpha = Released(
    PixArtAlpha,
    "pixart-alpha",
    "PixArt-α at 512 pixels",
    ModelCard("PixArt", "CreativeML OpenRAIL++-M", "PixArt-alpha/PixArt-XL-2-512x512", parameters=610_856_096),
)
pixart_sigma = Released(
    PixArt,
    "pixart-sigma",
    "PixArt-Σ at 1024 pixels",
    ModelCard("PixArt", "CreativeML OpenRAIL++-M", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", parameters=610_856_096),
)
