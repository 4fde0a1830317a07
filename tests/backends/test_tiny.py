import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import genseg
from genseg_backends import tiny as package


def test_it_is_shaped_like_stable_diffusion(tiny):
    """The paper's tap and point exist, on a 16×16 grid, and the deepest level's blocks have no attention."""
    assert tiny.image_size == 128
    assert tiny.taps["up1.0.query"].grid == tiny.points["up1.2.cross"].grid == (16, 16)
    assert not hasattr(tiny.network.up_blocks[0], "attentions")
    assert len(tiny.network.up_blocks[1].attentions) == 3


def test_its_codec_is_lossless(tiny):
    image = torch.rand(2, 3, 64, 96) * 2 - 1
    assert torch.equal(tiny.codec.decode(tiny.codec.encode(image)), image)


def test_weights_are_those_of_the_model_card_and_small():
    weights = package.FOLDER / package.WEIGHTS
    expected = (package.FOLDER / "SHA256").read_text().split()[0]
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == expected
    assert weights.stat().st_size <= 30e6
    with safe_open(weights, "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    config = json.loads((package.FOLDER / "unet" / "config.json").read_text())
    assert "_name_or_path" not in config


def test_a_model_trained_by_the_script_loads_in_its_place(tmp_path: Path):
    folder = tmp_path / "model"
    for part in ("unet", "scheduler"):
        shutil.copytree(package.FOLDER / part, folder / part)
    with pytest.raises(genseg.GensegError, match="prompt_embeds"):
        genseg.load_backend("tiny", model=str(folder))
    shutil.copy(package.FOLDER / "prompt_embeds.safetensors", folder)
    assert genseg.load_backend("tiny", model=str(folder)).taps


def test_it_estimates_noise(tiny, pixels):
    """The network is trained: its clean estimate is closer to the photo than the noisy input is, by far."""
    state = tiny.encode(pixels(128, 128), genseg.load_recipe("fast", replay_steps=1), seed=0)
    x, clean, t = state.latents[:1], state.latents[1:], state.timesteps.item()
    with torch.inference_mode():
        estimate, _ = tiny.schedule.estimates(x, tiny.evaluate(x, t), t)
    assert (estimate - clean).square().mean() < 0.1 * (x / tiny.schedule.scales(t)[0] - clean).square().mean()


@pytest.fixture
def tiny_copy(tmp_path, monkeypatch):
    """A copy of the bundled model's folder, loaded in its place."""
    folder = shutil.copytree(package.FOLDER, tmp_path / "tiny")
    monkeypatch.setattr(package, "FOLDER", folder)
    return folder


@pytest.mark.usefixtures("tiny_copy")
def test_a_whole_copy_of_the_bundled_weights_is_accepted(tiny):
    backend = genseg.load_backend("tiny", device="cpu")
    assert backend.name == "tiny"
    assert all(torch.equal(*pair) for pair in zip(backend.network.parameters(), tiny.network.parameters(), strict=True))


def test_damaged_bundled_weights_are_refused(tiny_copy):
    file = tiny_copy / package.WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(genseg.GensegError, match=r"bundled weights are damaged.*reinstall genseg"):
        genseg.load_backend("tiny", device="cpu")


def test_missing_bundled_weights_are_refused(tiny_copy):
    (tiny_copy / package.WEIGHTS).unlink()
    with pytest.raises(genseg.GensegError, match=r"bundled weights are missing.*reinstall genseg"):
        genseg.load_backend("tiny", device="cpu")


def test_its_codec_loses_nothing_in_bfloat16_either(pixels):
    backend = genseg.load_backend("tiny", device="cpu", dtype="bfloat16")
    image = pixels(64, 64)
    assert torch.equal(backend.decode(backend.encode(image, genseg.load_recipe("fast"), seed=0).latents[-1:]), image)
