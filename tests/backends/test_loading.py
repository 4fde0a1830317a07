"""Loading: what is said where a checkpoint cannot be had, does not fit, or is of another family."""

import json
import shutil

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from families import write_checkpoint
from models import write_hub_cache

import genseg
from genseg_backends.loading import placement


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints by backend. Copy one before changing it."""
    root = tmp_path_factory.mktemp("families")
    return {name: write_checkpoint(root / name, name) for name in ("sd3", "pixart-sigma", "ddpm", "vitmae")}


def load(name, model, **options):
    return genseg.load_backend(name, model=str(model), device="cpu", **options)


# The hub


@pytest.mark.parametrize("name", ["sd3", "sd15", "vitmae"])
def test_offline_a_checkpoint_that_was_never_downloaded_is_asked_for_nowhere(tmp_path, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(genseg.GensegError, match=r"org/name: it has not been downloaded; go online once"):
        genseg.load_backend(name, model="org/name", device="cpu", offline=True)


def test_offline_a_checkpoint_that_was_downloaded_is_used(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    write_hub_cache(tmp_path, "org/name", folders["sd3"])
    assert genseg.load_backend("sd3", model="org/name", device="cpu", offline=True).name == "sd3"


# What is there


def test_a_checkpoint_of_another_family_is_refused_naming_both_classes(folders):
    with pytest.raises(genseg.GensegError, match=r"SD3Transformer2DModel \(looked for PixArtTransformer2DModel\)"):
        load("pixart-sigma", folders["sd3"])


def test_a_model_that_is_no_masked_autoencoder_is_refused(folders):
    with pytest.raises(genseg.GensegError, match="has no usable"):
        load("vitmae", folders["sd3"])


def test_weights_that_are_quantized_in_a_way_that_cannot_be_used_say_so(folders, tmp_path):
    folder = shutil.copytree(folders["pixart-sigma"], tmp_path / "quantized")
    config = json.loads((folder / "transformer/config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "transformer/config.json").write_text(json.dumps(config))
    with pytest.raises(
        genseg.GensegError, match=r"quantized by bitsandbytes, which does not work here \(.*\); install"
    ):
        load("pixart-sigma", folder)
    (tmp_path / "network.gguf").write_bytes(b"GGUF")
    with pytest.raises(genseg.GensegError, match=r"network.gguf is a GGUF file; read its network by diffusers"):
        load("pixart-sigma", tmp_path / "network.gguf")


def test_a_folder_without_a_part_is_refused_naming_it(folders, tmp_path):
    folder = shutil.copytree(folders["sd3"], tmp_path / "sd3")
    shutil.rmtree(folder / "vae")
    with pytest.raises(genseg.GensegError, match="has no usable vae"):
        load("sd3", folder)


@pytest.mark.parametrize(("name", "kind"), [("sd3", SD3Transformer2DModel), ("sd15", UNet2DConditionModel)])
def test_a_network_that_does_not_fit_is_refused_before_its_weights_are_read(
    folders, sd_checkpoint, monkeypatch, name, kind
):
    monkeypatch.setattr(placement, "free_memory", lambda _: 2**10)
    monkeypatch.setattr(kind, "from_pretrained", lambda *_, **__: pytest.fail("read the weights"))
    words = rf"{kind.__name__} takes .* GiB in float32.*use dtype='bfloat16'"
    with pytest.raises(genseg.GensegError, match=words):
        load(name, sd_checkpoint if name == "sd15" else folders["sd3"])


def test_network_and_scheduler_may_lie_beside_each_other(folders, tmp_path):
    for part in ("unet", "scheduler"):
        for file in (folders["ddpm"] / part).iterdir():
            (tmp_path / file.name).symlink_to(file)
    flat, usual = load("ddpm", tmp_path), load("ddpm", folders["ddpm"])
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([100])
    assert torch.equal(flat.predict(x, t), usual.predict(x, t))
    assert torch.equal(flat.schedule.alpha_bar, usual.schedule.alpha_bar)


def test_without_a_network_anywhere_the_usual_folder_is_named(folders):
    with pytest.raises(genseg.GensegError, match="has no usable unet"):
        load("ddpm", folders["sd3"])
