"""Lumina-Image 2.0: a rectified flow over one sequence of the prompt's tokens and then the image's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.transformers import ATTENTION_OUT, Spot, Stack, TransformerBackend, unpadded
from genseg_backends.families.released import Released


class Lumina2(TransformerBackend):
    """The network of Lumina-Image 2.0 (2503.21758). It normalizes attention outputs: a large offset saturates."""

    network_class = "Lumina2Transformer2DModel"
    pipeline_class = "Lumina2Pipeline"
    taesd = "madebyollin/taef1"
    guidance_scale = 4.0
    levels = (0.3, 0.44)
    stacks: ClassVar = {
        "b": Stack(
            "layers",
            {"query": Spot("attn.to_q"), "normed": Spot("norm1"), "output": Spot("")},
            {"joint": ATTENTION_OUT},
            text_first=True,
        )
    }
    tap, point = ("b", "normed", (13, 26)), ("b", "joint", (14, 26))

    def token_width(self) -> int:
        """Channels of the tokens."""
        return int(self.network.config["hidden_size"])

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """Gemma's tokens of the system prompt and the prompt, without padding."""
        embeds, mask, *_ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": unpadded(embeds, mask)}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The velocity ε − x_0, of a network that counts time from noise to image."""
        every = torch.ones(conditioning["encoder_hidden_states"].shape[:2], dtype=torch.int64, device=x.device)
        return -network(x, timestep=1 - timesteps / 1000, encoder_attention_mask=every, **conditioning).sample


lumina2 = Released(
    Lumina2,
    "lumina2",
    "Lumina-Image 2.0",
    ModelCard(
        "Lumina2",
        "Apache-2.0",
        "Alpha-VLLM/Lumina-Image-2.0",
        "26d0f62a411a7d084b898a3b74f58a59a53d096f",
        parameters=2_609_769_152,
    ),
)
