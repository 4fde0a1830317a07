"""DiT: the class-conditional transformer, under its null class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from genseg.errors import GensegError, whole_number
from genseg.interface import ModelCard
from genseg_backends.engine.latent import Sites
from genseg_backends.engine.transformers import Spot, Stack, TransformerBackend
from genseg_backends.families.released import Released


class DiT(TransformerBackend):
    """The networks of DiT (Peebles and Xie, 2212.09748)."""

    network_class = "DiTTransformer2DModel"
    guidance_scale = 4.0
    levels = (0.42, 0.44)
    stacks: ClassVar = {
        "b": Stack(
            "transformer_blocks",
            {"output": Spot(""), "query": Spot("attn1.to_q"), "normed": Spot("norm1")},
            {"self": Spot("attn1.to_out.0", "input")},
        )
    }
    tap, point = ("b", "normed", (12, 28)), ("b", "self", (14, 28))

    def declare(self) -> Sites:
        """Sites as of any transformer; the null class is a number that the network's configuration tells."""
        self.conditioning = self.described("")
        return super().declare()

    def derived(self) -> dict[str, Any]:
        """Sites as for any family, on square images: the network takes no others."""
        return super().derived() | {"resize": "square"}

    def described(self, prompt: str) -> Mapping[str, Tensor]:
        """The class that a prompt names by its number.

        Raises:
            GensegError: If it is no such number.
        """
        classes = self.network.config["num_embeds_ada_norm"]
        if not prompt:
            return {"class_labels": torch.tensor([classes], device=self.device)}
        number = whole_number(prompt)
        if number is None or number >= classes:
            raise GensegError(f"{self.name} takes the number of a class, from 0 to {classes - 1}, as its prompt")
        return {"class_labels": torch.tensor([number], device=self.device)}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The noise estimate, without the learned variance."""
        return network(x, timestep=timesteps, **conditioning).sample[:, : x.shape[1]]


dit = Released(
    DiT,
    "dit",
    "DiT-XL/2, class-conditional on ImageNet, at 256 pixels",
    ModelCard("DiT", "CC-BY-NC-4.0", "facebook/DiT-XL-2-256", parameters=749_826_464),
)
