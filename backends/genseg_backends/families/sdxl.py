"""SDXL and its distilled and pruned kin: a U-Net with two text encoders that is told sizes, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import ModelCard
from genseg_backends.engine.diffusion import rows_of
from genseg_backends.engine.unets import UNetBackend
from genseg_backends.families.released import Released


class StableDiffusionXL(UNetBackend):
    """The networks of SDXL (Podell et al., 2307.01952)."""

    pipeline_class = "StableDiffusionXLPipeline"
    prompt_inputs = ("encoder_hidden_states", "text_embeds")
    taesd = "madebyollin/taesdxl"
    guidance_scale = 5.0
    levels = (0.18, 0.44)

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> None:
        """Refuse a U-Net that does not take sizes and a pooled prompt.

        Raises:
            GensegError: If it is one.
        """
        if config.get("addition_embed_type") != "text_time":
            raise GensegError("this U-Net is not one of SDXL's; use the backend of its family, such as sd15 or sd21")

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """Tokens of two CLIP encoders, and the second one's pooled token; encoded also where the prompt is empty."""
        embeds, _, pooled, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": embeds, "text_embeds": pooled}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The U-Net's output for an original, uncropped image."""
        size = [side * self.codec.stride for side in x.shape[2:]]
        sizes = rows_of([*size, 0, 0, *size], x)
        added = {"text_embeds": conditioning.pop("text_embeds"), "time_ids": sizes}
        return super().call(network, x, timesteps, added_cond_kwargs=added, **conditioning)


class SDXLTurbo(StableDiffusionXL):
    """SDXL-Turbo, which was distilled without classifier-free guidance (Sauer et al., 2311.17042)."""

    guidance_scale = 1.0


def _released(
    name: str,
    about: str,
    model: str,
    licence: str,
    parameters: int | None,
    kind: type[StableDiffusionXL] = StableDiffusionXL,
    recipe: Mapping[str, Any] | None = None,
) -> Released:
    card = ModelCard("SDXL", licence, model, parameters=parameters)
    return Released(kind, name, about, card, recipe)


OPENRAIL = "CreativeML OpenRAIL++-M"
sdxl = _released("sdxl", "SDXL 1.0 at 1024 pixels", "stabilityai/stable-diffusion-xl-base-1.0", OPENRAIL, 2_567_463_684)
sdxl_turbo = _released(
    "sdxl-turbo",
    "SDXL-Turbo: distilled to few steps at 512 pixels",
    "stabilityai/sdxl-turbo",
    "Stability AI Non-Commercial Community License",
    2_567_463_684,
    SDXLTurbo,
    {"num_inference_steps": 4},
)
ssd_1b = _released("ssd-1b", "SSD-1B: SDXL with fewer blocks", "segmind/SSD-1B", "Apache-2.0", 1_331_334_404)
vega = _released(
    "vega", "Segmind-Vega: SDXL with still fewer blocks", "segmind/Segmind-Vega", "Apache-2.0", 745_225_604
)
