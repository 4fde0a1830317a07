"""Qwen-Image: a rectified flow whose prompts are read by a vision-language model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.codecs import FrameCodec
from genseg_backends.engine.transformers import ATTENTION_OUT, Spot, Stack, TransformerBackend, to_latents, to_tokens
from genseg_backends.families.released import Released


class QwenImage(TransformerBackend):
    """The network of Qwen-Image (2508.02324)."""

    network_class = "QwenImageTransformer2DModel"
    pipeline_class = "QwenImagePipeline"
    vae_class = "AutoencoderKLQwenImage"
    codec_class = FrameCodec
    guidance_scale = 4.0
    levels = (0.3, 0.44)
    packing = 4
    stacks: ClassVar = {
        "b": Stack(
            "transformer_blocks",
            {"query": Spot("attn.to_q"), "normed": Spot("attn.to_q", "input"), "output": Spot("", item=1)},
            {"joint": ATTENTION_OUT},
        )
    }
    tap, point = ("b", "query", (25, 60)), ("b", "joint", (26, 60))

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """The tokens after those of the template's beginning; one prompt has no padding, so no mask."""
        embeds, _ = pipeline.encode_prompt(prompt)
        return {"encoder_hidden_states": embeds}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The velocity ε − x_0."""
        shapes = [[(1, x.shape[2] // 2, x.shape[3] // 2)]] * len(x)
        output = network(to_tokens(x), timestep=timesteps / 1000, img_shapes=shapes, **conditioning).sample
        return to_latents(output, x)


qwen_image = Released(
    QwenImage,
    "qwen-image",
    "Qwen-Image",
    ModelCard(
        "Qwen-Image",
        "Apache-2.0",
        "Qwen/Qwen-Image",
        "75e0b4be04f60ec59a75f475837eced720f823b6",
        parameters=20_430_401_088,
    ),
)
