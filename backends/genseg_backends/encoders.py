"""Vision encoders of transformers: patch features of the last layer, for clusters to be compared with ours.

They generate nothing, so they are `genseg.interface.Encoder`s and no backends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genseg.interface import Encoder, ModelCard
from genseg.sites import tokens_to_map
from genseg_backends.loading.checkpoints import load_part
from genseg_backends.loading.hub import extra, local_path, missing, the_hub
from genseg_backends.loading.placement import device_of, dtype_of


class Pixels(NamedTuple):
    """Mean and standard deviation, by channel in [0, 1], that standardize a model's input."""

    mean: Sequence[float]
    deviation: Sequence[float]


IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = Pixels((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALVES = Pixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class VisionEncoder(Encoder):
    """A vision transformer of transformers over an in-memory network.

    Args:
        network: Gives ``last_hidden_state`` [1, tokens, C], of which the last h·w are the patches', in row order.
        name: The name under which results are reported.
        pixels: Standardization of its input.
        card: What is known of the model.
        **inputs: Arguments of the network's ``forward`` besides pixels.
    """

    def __init__(self, network: Any, name: str, pixels: Pixels, card: ModelCard | None = None, **inputs: Any) -> None:
        self.network, self.name, self.card = network.eval(), name, card
        self.image_size, self.size_multiple = network.config.image_size, network.config.patch_size
        self._pixels, self._inputs = pixels, inputs

    @torch.inference_mode()
    def features(self, image: Tensor) -> Tensor:
        """The patches' tokens in the last hidden state, without class and register tokens: float32 [C, h, w]."""
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in self._pixels)
        pixels = ((image.cpu() + 1) / 2 - mean) / deviation
        height, width = (side // self.size_multiple for side in image.shape[2:])
        tokens = self._tokens(pixels.to(self.network.device, self.network.dtype), height * width)
        return tokens_to_map(tokens[:, -height * width :], (height, width))[0].float()

    def _tokens(self, pixels: Tensor, patches: int) -> Tensor:  # noqa: ARG002
        return self.network(pixels, **self._inputs).last_hidden_state


class MAEEncoder(VisionEncoder):
    """The encoder of a masked autoencoder, with no patch masked and none moved."""

    def __init__(self, network: Any, *args: Any, **inputs: Any) -> None:
        super().__init__(network, *args, **inputs)
        network.config.mask_ratio = 0.0

    def _tokens(self, pixels: Tensor, patches: int) -> Tensor:
        order = torch.arange(patches, device=pixels.device, dtype=torch.float32)[None]
        return self.network(pixels, noise=order, **self._inputs).last_hidden_state


class ReleasedEncoder:
    """An encoder factory for one released checkpoint, and for others of its family by ``model=``.

    Args:
        name: The encoder's name.
        about: The model in one line.
        card: What is known of it before it is loaded.
        network: Its class in transformers.
        pixels: Standardization of its input if the checkpoint has no ``preprocessor_config.json``.
        settings: Arguments of the network's constructor besides its configuration.
        inputs: Arguments of the network's ``forward`` besides pixels.
        kind: The encoder's class.
    """

    def __init__(
        self,
        name: str,
        about: str,
        card: ModelCard,
        network: str,
        pixels: Pixels = IMAGENET,
        settings: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        kind: type[VisionEncoder] = VisionEncoder,
    ) -> None:
        self.__doc__ = f"{about} ({card.licence})."
        self.name, self.card, self.network, self.pixels = name, card, network, pixels
        self._settings, self._kind, self._inputs = settings or {}, kind, inputs or {}

    def __call__(
        self,
        model: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        *,
        revision: str | None = None,
        offline: bool = False,
    ) -> VisionEncoder:
        """Load the checkpoint, or ``model``, a folder or hub id; safetensors only.

        Raises:
            GensegError: If transformers is not installed, or the checkpoint is missing or of another architecture.
        """
        model, where = model or self.card.model, device_of(device)
        network = getattr(extra("transformers"), self.network)
        with the_hub(model, offline=offline):
            loaded = load_part(network, model, "", dtype_of(dtype, where), revision, **self._settings)
            pixels = pixels_of(model, revision) or self.pixels
        return self._kind(loaded.to(where), self.name, pixels, self.card, **self._inputs)


def pixels_of(model: str, revision: str | None = None) -> Pixels | None:
    """Statistics by which the processor of a checkpoint standardizes; None if it has none.

    The weights have been loaded before, so that what is wrong with the place has been said.
    """
    mixin = extra("transformers.image_processing_base").ImageProcessingMixin
    try:
        config, _ = mixin.get_image_processor_dict(str(local_path(model, revision) or model), revision=revision)
    except OSError as error:
        if isinstance(error.__cause__ or error.__context__, ValueError):  # it is no JSON
            raise missing(model, "preprocessor_config.json", revision, error) from error
        return None
    return Pixels(config["image_mean"], config["image_std"]) if "image_mean" in config else None


ANY_SIZE = {"interpolate_pos_encoding": True}  # without it these take images of one size alone

dino = ReleasedEncoder(
    "dino", "DINO, ViT-B/8: self-distillation",
    ModelCard("DINO", "Apache-2.0", "facebook/dino-vitb8"), "ViTModel",
    settings={"add_pooling_layer": False}, inputs=ANY_SIZE,
)  # fmt: skip
dinov2 = ReleasedEncoder(
    "dinov2", "DINOv2, ViT-B/14: self-distillation on more images",
    ModelCard("DINOv2", "Apache-2.0", "facebook/dinov2-base"), "Dinov2Model",
)  # fmt: skip
dinov2_registers = ReleasedEncoder(
    "dinov2-registers", "DINOv2, ViT-B/14, with register tokens",
    ModelCard("DINOv2", "Apache-2.0", "facebook/dinov2-with-registers-base"), "Dinov2WithRegistersModel",
)  # fmt: skip
dinov3 = ReleasedEncoder(
    "dinov3", "DINOv3, ViT-B/16, gated on the hub",
    ModelCard("DINOv3", "DINOv3 License", "facebook/dinov3-vitb16-pretrain-lvd1689m"), "DINOv3ViTModel",
)  # fmt: skip
clip = ReleasedEncoder(
    "clip", "CLIP's image tower, ViT-B/16",
    ModelCard("CLIP", "MIT", "openai/clip-vit-base-patch16"), "CLIPVisionModel", OPENAI, inputs=ANY_SIZE,
)  # fmt: skip
siglip = ReleasedEncoder(
    "siglip", "SigLIP's image tower, ViT-B/16 at 224 pixels",
    ModelCard("SigLIP", "Apache-2.0", "google/siglip-base-patch16-224"), "SiglipVisionModel", HALVES, inputs=ANY_SIZE,
)  # fmt: skip
siglip2 = ReleasedEncoder(
    "siglip2", "SigLIP 2's image tower, ViT-B/16 at 224 pixels",
    ModelCard("SigLIP", "Apache-2.0", "google/siglip2-base-patch16-224"), "SiglipVisionModel", HALVES, inputs=ANY_SIZE,
)  # fmt: skip
mae = ReleasedEncoder(
    "mae", "MAE's encoder, ViT-L/16: a masked autoencoder without its decoder",
    ModelCard("MAE", "Apache-2.0", "facebook/vit-mae-large"), "ViTMAEModel", inputs=ANY_SIZE, kind=MAEEncoder,
)  # fmt: skip
