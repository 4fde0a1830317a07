"""Fixtures that several test modules share."""

from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import genseg
from genseg_backends.stable_diffusion import StableDiffusion
from models import sd_parts as make_sd_parts
from models import write_sd_checkpoint


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A photo of 96×64 pixels (width × height)."""
    return Image.fromarray(skimage.data.astronaut()).crop((0, 0, 480, 320)).resize((96, 64), Image.Resampling.LANCZOS)


@pytest.fixture(scope="session")
def pixels(photo) -> Callable[[int, int], torch.Tensor]:
    """The photo as `Backend.encode` takes it, at a given height and width."""

    def at(height: int, width: int) -> torch.Tensor:
        scaled = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32)
        return torch.from_numpy(scaled / 127.5 - 1).permute(2, 0, 1)[None].contiguous()

    return at


@pytest.fixture(scope="session")
def sd_parts():
    """The parts of a small SD-shaped model with random weights."""
    return make_sd_parts()


@pytest.fixture(scope="session")
def sd(sd_parts):
    """A backend over `sd_parts`; its images are 128×128 pixels."""
    return StableDiffusion(**sd_parts)


@pytest.fixture(scope="session")
def sd_checkpoint(tmp_path_factory):
    """A checkpoint folder like SD 1.4's, of the same shape and weights as `sd_parts`. Copy it before changing it."""
    return write_sd_checkpoint(tmp_path_factory.mktemp("checkpoints") / "sd")


@pytest.fixture(scope="session")
def tiny():
    """The embedded backend."""
    return genseg.load_backend("tiny", device="cpu")


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """A photo of 512×512 pixels."""
    return Image.fromarray(skimage.data.astronaut())
