"""Sana: linear attention over the few tokens of a 32-fold autoencoder, with cross-attention to Gemma's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.codecs import DeepCompressionCodec
from genseg_backends.engine.transformers import Spot, Stack, TransformerBackend, unpadded
from genseg_backends.families.released import Released


class Sana(TransformerBackend):
    """The networks of the Sana family (Xie et al., 2410.10629)."""

    network_class = "SanaTransformer2DModel"
    pipeline_class = "SanaPipeline"
    vae_class = "AutoencoderDC"
    codec_class = DeepCompressionCodec
    guidance_scale = 4.5
    levels = (0.26, 0.44)
    stacks: ClassVar = {
        "b": Stack(
            "transformer_blocks",
            {
                "output": Spot(""),
                "query": Spot("attn2.to_q"),
                "self-query": Spot("attn1.to_q"),
                "normed": Spot("attn1.to_q", "input"),
            },
            {"cross": Spot("attn2.to_out.0", "input"), "self": Spot("attn1.to_out.0", "input")},
        )
    }
    tap, point = ("b", "normed", (10, 20)), ("b", "cross", (11, 20))

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """Gemma's tokens of the prompt, without padding and without the instruction that pipelines may add."""
        embeds, mask, *_ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": unpadded(embeds, mask)}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The velocity ε − x_0."""
        scaled = timesteps * self.network.config["timestep_scale"]
        return network(x, timestep=scaled, **conditioning).sample


sana = Released(
    Sana,
    "sana",
    "Sana 1.6B at 1024 pixels",
    ModelCard(
        "Sana",
        "NVIDIA Open Model License and Gemma Terms of Use",
        "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers",
        parameters=1_604_462_752,
    ),
)
