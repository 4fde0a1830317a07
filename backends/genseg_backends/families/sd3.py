"""Stable Diffusion 3 and 3.5: rectified flows, whose image and text tokens attend to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.transformers import ATTENTION_OUT, Spot, Stack, TransformerBackend
from genseg_backends.families.released import Released


class SD3(TransformerBackend):
    """The networks of Stable Diffusion 3 (Esser et al., 2403.03206)."""

    network_class = "SD3Transformer2DModel"
    pipeline_class = "StableDiffusion3Pipeline"
    prompt_inputs = ("encoder_hidden_states", "pooled_projections")
    taesd = "madebyollin/taesd3"
    guidance_scale = 7.0
    levels = (0.515, 0.44)
    attention_layout = "image-text"
    stacks: ClassVar = {
        "b": Stack(
            "transformer_blocks",
            {"query": Spot("attn.to_q"), "normed": Spot("norm1"), "output": Spot("", item=1)},
            {"joint": ATTENTION_OUT, "self": Spot("attn2.to_out.0", "input")},
        )
    }
    tap, point = ("b", "query", (9, 24)), ("b", "joint", (9, 24))

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """Tokens of two CLIP encoders and T5, and the pooled ones of CLIP; zeros in place of a T5 that is not there."""
        embeds, _, pooled, _ = pipeline.encode_prompt(prompt, None, None, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": embeds, "pooled_projections": pooled}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The velocity ε − x_0."""
        return network(x, timestep=timesteps, **conditioning).sample


def _released(name: str, about: str, model: str, parameters: int) -> Released:
    card = ModelCard("SD3", "Stability AI Community License", model, parameters=parameters, access="gated")
    return Released(SD3, name, about, card)


sd3 = _released(
    "sd3", "Stable Diffusion 3 medium", "stabilityai/stable-diffusion-3-medium-diffusers", parameters=2_028_328_000
)
sd35_medium = _released(
    "sd35-medium", "Stable Diffusion 3.5 medium", "stabilityai/stable-diffusion-3.5-medium", parameters=2_243_171_520
)
sd35_large = _released(
    "sd35-large", "Stable Diffusion 3.5 large", "stabilityai/stable-diffusion-3.5-large", parameters=8_056_627_520
)
