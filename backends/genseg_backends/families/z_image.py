"""Z-Image: a rectified flow over one sequence of the image's tokens and then the prompt's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from genseg.interface import ModelCard
from genseg_backends.engine.transformers import Spot, Stack, TransformerBackend
from genseg_backends.families.released import Released


class ZImage(TransformerBackend):
    """The network of Z-Image. Both parts of its sequence are padded, behind the image's tokens too."""

    network_class = "ZImageTransformer2DModel"
    pipeline_class = "ZImagePipeline"
    prompt_inputs = ("cap_feats",)
    taesd = "madebyollin/taef1"
    levels = (0.3, 0.44)
    attention_layout, attention_padding = "image-text", 32
    stacks: ClassVar = {
        "b": Stack(
            "layers",
            {"query": Spot("attention.to_q"), "normed": Spot("attention.to_q", "input"), "output": Spot("")},
            {"joint": Spot("attention.to_out.0", "input")},
        )
    }
    tap, point = ("b", "normed", (15, 30)), ("b", "joint", (16, 30))

    def patch(self) -> int:
        """The one patch size of the released networks, of several that the class could have."""
        return int(self.network.config["all_patch_size"][0])

    def token_width(self) -> int:
        """Channels of the tokens."""
        return int(self.network.config["dim"])

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """A language model's tokens of the prompt, without padding."""
        (embeds,), _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        return {"cap_feats": embeds[None]}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The velocity ε − x_0, of a network that counts time from noise to image."""
        images, texts = list(x[:, :, None].unbind()), list(conditioning["cap_feats"].unbind())
        return -torch.stack(network(images, 1 - timesteps / 1000, texts).sample)[:, :, 0]


z_image = Released(
    ZImage,
    "z-image",
    "Z-Image Turbo, of few steps",
    ModelCard(
        "Z-Image",
        "Apache-2.0",
        "Tongyi-MAI/Z-Image-Turbo",
        "f332072aa78be7aecdf3ee76d5c247082da564a6",
        parameters=6_154_908_736,
    ),
    recipe={"num_inference_steps": 8},
)
