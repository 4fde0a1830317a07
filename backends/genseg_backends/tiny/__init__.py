"""The bundled model: a small SD-shaped diffusion model over space-to-depth pixels, trained for genseg."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import ModelCard
from genseg_backends.families.stable_diffusion import StableDiffusion
from genseg_backends.loading.checkpoints import load_part
from genseg_backends.loading.placement import device_of, dtype_of, in_dtype
from genseg_backends.loading.schedulers import load_scheduler

FOLDER = Path(__file__).parent
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


class SpaceToDepth:
    """A lossless codec: squares of ``stride`` × ``stride`` pixels folded into channels, and unfolded again."""

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, 3·stride², H/stride, W/stride]."""
        return F.pixel_unshuffle(image, self.stride)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`."""
        return F.pixel_shuffle(latents, self.stride)


def tiny(model: str | None = None, device: str | None = None, dtype: str | None = None) -> StableDiffusion:
    """The small model that ships with genseg: 128×128 photos, no download (Apache-2.0)."""
    folder = Path(model) if model else FOLDER
    if model is None:
        _verify(folder)
    where = device_of(device)
    unet = load_part(UNet2DConditionModel, str(folder), "unet", torch.float32)
    unet.to(where, memory_format=torch.channels_last)
    stride = round((unet.config["in_channels"] / 3) ** 0.5)
    return StableDiffusion(
        unet=in_dtype(unet, dtype_of(dtype, where)),
        reader=unet,  # in float32 always: k-means would make other clusters of features that are rounded
        vae=SpaceToDepth(stride),
        scheduler=load_scheduler(str(folder)),
        prompt_embeds=_null_prompt(folder),
        name="tiny",
        recipe=RECIPE,
        preset="plus",
    )


tiny.card = ModelCard("Stable Diffusion", "Apache-2.0", parameters=12_164_592, calibration="calibrated")  # type: ignore[attr-defined]


def _null_prompt(folder: Path) -> Tensor:
    """The learned tokens that stand for no class."""
    file = folder / "prompt_embeds.safetensors"
    try:
        return load_file(file)["null"]
    except (OSError, SafetensorError, KeyError) as error:
        raise GensegError(f"{file} is missing or damaged; give a checkpoint made by examples/train_tiny.py") from error


RECIPE: dict[str, Any] = {
    "n_clusters": 15,
    "n_init": 10,
    "size": 160,
    "margin": 16,
    "tap": "up1.2.output",
    "t_f": 201,
    "point": "up1.1.cross",
    "t_m": 181,
    "strength": 25.0,
    "decoder": "full",  # which costs nothing here
    # Finer cells, and no modulation, which gains nothing over the upsampler (docs/evaluation.md).
    "plus": {"n_clusters": "auto", "size": 256, "position": 0.45, "draws": 4, "modulate": False},
}
"""The calibration, found by benchmarks/calibrate_tiny.py (docs/tiny.md)."""


def _verify(folder: Path) -> None:
    """Refuse weights other than those of the model card: a clone without them, or a damaged file."""
    try:
        expected = (folder / "SHA256").read_text().split()[0]
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    except OSError as error:
        raise GensegError(
            f"the bundled weights are missing ({error.strerror}: {folder / WEIGHTS}); reinstall genseg"
        ) from error
    if digest != expected:
        raise GensegError(f"the bundled weights are damaged ({folder / WEIGHTS}); reinstall genseg")
