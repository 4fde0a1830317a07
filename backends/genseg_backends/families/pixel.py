"""Diffusion over pixels: U-Nets without an autoencoder, so that decoding costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers import UNet2DModel
from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import FeatureTap, ModelCard, ModulationPoint
from genseg_backends.engine.latent import LatentBackend, Sites
from genseg_backends.families.released import Released
from genseg_backends.loading.checkpoints import load_config


class PixelUNet(LatentBackend):
    """Base of the families whose U-Net denoises pixels."""

    part = "unet"
    vae_class = ""
    levels = (0.34, 0.44)

    def declare(self) -> Sites:
        """Taps and points of the middle and of every upward block's layers, the first upward attention's first.

        ``up1.0.attention`` is an attention's output as tap and the input of its output projection as point;
        ``up1.0.resnet`` a residual layer's output, and the input of its second convolution.
        """
        config = self.network.config
        levels, size = len(config["block_out_channels"]), config["sample_size"]
        self.width, self.image_size, self.size_multiple = config["block_out_channels"][0], size, 2 ** (levels - 1)
        taps: dict[str, FeatureTap] = {}
        points: dict[str, ModulationPoint] = {}
        blocks = [("mid", "mid_block", self.network.mid_block, levels - 1)]
        for index, block in enumerate(self.network.up_blocks):
            blocks.append((f"up{index}", f"up_blocks.{index}", block, levels - 1 - index))
        for name, path, block, level in blocks:
            site = (2**level, (size >> level, size >> level))
            for number, layer in enumerate(getattr(block, "attentions", [])):
                if layer is not None:
                    inner, where = layer.to_out[0], f"{path}.attentions.{number}"
                    taps[f"{name}.{number}.attention"] = FeatureTap(where, inner.out_features, *site)
                    points[f"{name}.{number}.attention"] = ModulationPoint(
                        f"{where}.to_out.0", inner.in_features, *site, side="input"
                    )
            for number, layer in enumerate(block.resnets):
                where = f"{path}.resnets.{number}"
                taps[f"{name}.{number}.resnet"] = FeatureTap(where, layer.out_channels, *site)
                points[f"{name}.{number}.resnet"] = ModulationPoint(
                    f"{where}.conv2", layer.conv2.in_channels, *site, side="input"
                )
        upward = [name for name in taps if name.startswith("up")]
        first = next((name for name in upward if name.endswith("attention")), upward[0])
        return {first: taps.pop(first), **taps}, {first: points.pop(first), **points}


class DDPM(PixelUNet):
    """Unconditional models of the DDPM pipeline (Ho et al., 2006.11239): any `UNet2DModel` of RGB images."""

    network_class = "UNet2DModel"

    @classmethod
    def folders(cls, model: str, revision: str | None) -> tuple[str, str]:
        """The usual folders, or the root for both, as in the first released checkpoints."""
        try:
            load_config(UNet2DModel, model, cls.part, revision)
        except GensegError as error:
            try:
                load_config(UNet2DModel, model, "", revision)
            except GensegError:
                raise error from error.__cause__
            return "", ""
        return super().folders(model, revision)

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The U-Net's output, without a learned variance."""
        return network(x, timesteps, **conditioning).sample[:, : x.shape[1]]


class DeepFloydIF(PixelUNet):
    """The first stage of DeepFloyd IF, at 64 pixels."""

    network_class = "UNet2DConditionModel"
    pipeline_class = "IFPipeline"
    guidance_scale = 7.0

    @classmethod
    def describe(cls, pipeline: Any, prompt: str) -> dict[str, Tensor]:
        """T5's tokens of the prompt."""
        embeds, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": embeds}

    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """The noise estimate, without the learned variance."""
        return network(x, timesteps, **conditioning).sample[:, : x.shape[1]]


ddpm = Released(
    DDPM,
    "ddpm",
    "DDPM on faces at 256 pixels, or any other unconditional U-Net over pixels",
    ModelCard("pixel diffusion", "Apache-2.0", "google/ddpm-celebahq-256", parameters=113_673_219, access="pickles"),
)
deepfloyd_if = Released(
    DeepFloydIF,
    "deepfloyd-if",
    "DeepFloyd IF, first stage, at 64 pixels",
    ModelCard(
        "pixel diffusion", "DeepFloyd IF License", "DeepFloyd/IF-I-XL-v1.0", parameters=4_304_695_110, access="gated"
    ),
)
