"""Fixtures that several test modules share.

Torch and the model libraries are imported inside them: pytest-xdist's own process reads this file and runs no test.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import genseg

if TYPE_CHECKING:
    import torch

pytest_plugins = ["pytester"]  # runs the test files of plug-ins


def pytest_collection_finish() -> None:
    """Leave what imports have made out of all further collections of garbage, of which each would look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory) -> Iterator[None]:
    """A cache of its own, of encoded prompts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def photo(astronaut) -> Image.Image:
    """A photo of 96×64 pixels (width × height)."""
    return astronaut.crop((0, 0, 480, 320)).resize((96, 64), Image.Resampling.LANCZOS)


@pytest.fixture(scope="session")
def pixels(photo) -> Callable[[int, int], torch.Tensor]:
    """The photo as `Backend.encode` takes it, at a given height and width."""
    import torch

    def at(height: int, width: int) -> torch.Tensor:
        scaled = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32)
        return torch.from_numpy(scaled / 127.5 - 1).permute(2, 0, 1)[None].contiguous()

    return at


@pytest.fixture(scope="session")
def sd_parts():
    """The parts of a small SD-shaped model with random weights."""
    from models import sd_parts

    return sd_parts()


@pytest.fixture(scope="session")
def sd(sd_parts):
    """A backend over `sd_parts`; its images are 64×64 pixels."""
    from genseg_backends.families.stable_diffusion import StableDiffusion

    return StableDiffusion(**sd_parts)


@pytest.fixture(scope="session")
def sd_checkpoint(tmp_path_factory):
    """A checkpoint folder like SD 1.4's, of the same shape and weights as `sd_parts`. Copy it before changing it."""
    from models import write_sd_checkpoint

    return write_sd_checkpoint(tmp_path_factory.mktemp("checkpoints") / "sd")


@pytest.fixture(scope="session")
def tiny():
    """The embedded backend."""
    return genseg.load_backend("tiny", device="cpu")


@pytest.fixture
def quick_tiny(tiny, monkeypatch) -> None:
    """Give tests the bundled backend with a quicker recipe, its weights read once."""
    monkeypatch.setattr("genseg.upsampling.splatting.STEPS", 2)
    from genseg_backends import tiny as package

    quick = {"n_clusters": 9, "size": 64, "margin": 0, "draws": 1, "n_init": 1, "replay_steps": 1, "plus": {}}
    monkeypatch.setattr(package, "RECIPE", package.RECIPE | quick)
    monkeypatch.setattr(package, "load_part", lambda *_: tiny.reader)


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """A photo of 512×512 pixels."""
    import skimage.data

    return Image.fromarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def photo_folder(photo, tmp_path_factory):
    """Two photos of 96×64 and 64×64 pixels, what an earlier run wrote, and what is no image."""
    folder = tmp_path_factory.mktemp("photos")
    photo.save(folder / "b.png")
    photo.crop((0, 0, 64, 64)).save(folder / "a.JPG")
    for other in ("notes.txt", ".hidden.png", "b.overlay.png", "b.labels.png"):
        (folder / other).write_text("no image")
    return folder


@pytest.fixture(scope="session")
def segmented_folder(photo_folder, tmp_path_factory):
    """One run over the folder, and where its files are."""
    from commands import QUICK, run

    out = tmp_path_factory.mktemp("done") / "new" / "out"
    result = run("segment", photo_folder, *QUICK, "-k", "4", "--seed", "3", "-o", out, "--save", "npz,overlay,labels")
    assert result.exit_code == 0, result.stderr
    return result, out
