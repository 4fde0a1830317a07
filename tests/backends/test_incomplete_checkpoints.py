"""Checkpoints as people have them: in one variant alone, without a part, damaged, on a hub that cannot be reached."""

import functools
import gc
import json
import shutil
import time
import weakref

import huggingface_hub
import pytest
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from families import write_checkpoint
from models import write_hub_cache
from transformers import PreTrainedModel

import genseg
from genseg_backends.loading import placement


@pytest.fixture(scope="module")
def checkpoints(folders, tmp_path_factory):
    """Checkpoints by backend. Copy one before changing it."""
    return {"sd15": folders["sd1"], "sd3": write_checkpoint(tmp_path_factory.mktemp("sd3"), "sd3")}


@pytest.fixture(scope="module")
def prompt_of(checkpoints):
    """The shape of the prompt of a whole checkpoint, by backend."""
    return functools.cache(lambda name: load(name, checkpoints[name]).conditioning["encoder_hidden_states"].shape)


@pytest.fixture(autouse=True)
def _no_prompts(monkeypatch, tmp_path):
    """An empty cache of prompts, so that text encoders are needed."""
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "prompts"))


@pytest.fixture
def copied(checkpoints, tmp_path):
    return lambda name: shutil.copytree(checkpoints[name], tmp_path / name)


def load(name, model, **options):
    return genseg.load_backend(name, model=str(model), device="cpu", **options)


def rename_to_variant(folder, variant):
    for file in (*folder.rglob("model*.safetensors*"), *folder.rglob("diffusion_pytorch_model*.safetensors*")):
        file.rename(file.with_name(file.name.replace("model", f"model.{variant}", 1)))


# In one variant alone


@pytest.mark.parametrize(("name", "variant"), [("sd15", "fp16"), ("sd3", "bf16")])
def test_a_folder_in_one_variant_alone_is_read(copied, name, variant):
    folder = copied(name)
    rename_to_variant(folder, variant)
    assert load(name, folder).taps


def test_a_cache_in_one_variant_alone_is_read_offline(copied, offline):
    folder = copied("sd15")
    rename_to_variant(folder, "fp16")
    write_hub_cache(offline, "org/name", folder)
    assert load("sd15", "org/name").taps


# Without a part


@pytest.mark.parametrize("entry", [[None, None], None], ids=["empty entry", "no entry"])
def test_sd3_may_be_without_t5(copied, entry):
    folder = copied("sd3")
    index = json.loads((folder / "model_index.json").read_text())
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / part)
        index.pop(part)
        index |= {part: entry} if entry else {}
    (folder / "model_index.json").write_text(json.dumps(index))
    embeds = load("sd3", folder).conditioning["encoder_hidden_states"]
    assert embeds[0, -1].abs().max() == 0 < embeds[0, 0].abs().max()


@pytest.mark.parametrize("limit", [None, 10**12], ids=["no limit", "an absurd limit"])
@pytest.mark.parametrize(("name", "tokenizer"), [("sd15", "tokenizer"), ("sd3", "tokenizer_2")])
def test_a_tokenizer_makes_no_more_tokens_than_its_text_encoder_takes(copied, prompt_of, name, tokenizer, limit):
    folder = copied(name)
    config = folder / tokenizer / "tokenizer_config.json"
    if limit is None:
        config.unlink()
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": limit}))
    assert load(name, folder).conditioning["encoder_hidden_states"].shape == prompt_of(name)


def test_a_folder_of_stable_diffusion_1_5_is_no_sdxl_and_the_other_way_round(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", lambda *_, **__: pytest.fail("read the weights"))
    with pytest.raises(genseg.GensegError, match=r"is not one of SDXL's; use the backend of its family, such as sd15"):
        load("sdxl", checkpoints["sd15"])
    with pytest.raises(genseg.GensegError, match=r"needs more inputs .*\(inpainting, SDXL or class labels\)"):
        load("sd15", write_checkpoint(tmp_path, "sdxl"))


# Damaged


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_weight_file_that_is_cut_off_is_called_that(copied, part):
    folder = copied("sd15")
    (file,) = (folder / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(genseg.GensegError, match=rf"the {part} of .* is damaged or cut off .*; get the file again"):
        load("sd15", folder)


def test_a_damaged_blob_in_the_cache_is_not_called_missing(copied, offline):
    folder = copied("sd15")
    (folder / "unet" / "config.json").write_text("{")
    write_hub_cache(offline, "org/name", folder)
    with pytest.raises(genseg.GensegError, match=r"the unet of org/name is damaged .*; delete it from .*hub"):
        load("sd15", "org/name")


# No network


def test_a_hub_whose_name_is_not_known_is_named_within_seconds(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.getproxies", dict)
    start = time.monotonic()
    with pytest.raises(
        genseg.GensegError, match=r"has not been downloaded, and hub.invalid cannot be resolved .*go online"
    ):
        genseg.load_backend("sd15", device="cpu")
    assert time.monotonic() - start < 10
    write_hub_cache(tmp_path, "org/name", checkpoints["sd15"])
    assert load("sd15", "org/name").taps  # and what is there is used
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


# Text encoders


@pytest.mark.parametrize(("name", "kind"), [("sd15", UNet2DConditionModel), ("sd3", SD3Transformer2DModel)])
def test_text_encoders_are_gone_before_the_network_is_read(checkpoints, monkeypatch, name, kind):
    encoders, own, own_network = [], PreTrainedModel.from_pretrained.__func__, kind.from_pretrained.__func__

    def read(cls, *arguments, **options):
        part, info = own(cls, *arguments, **options)
        encoders.append(weakref.ref(part))
        return part, info

    def read_network(cls, *arguments, **options):
        gc.collect()
        assert encoders
        assert not any(encoder() for encoder in encoders)
        return own_network(cls, *arguments, **options)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(read))
    monkeypatch.setattr(kind, "from_pretrained", classmethod(read_network))
    assert load(name, checkpoints[name]).taps


def test_text_encoders_that_do_not_fit_are_refused_before_they_are_read(checkpoints, monkeypatch):
    free = iter([2**40, 2**10])  # for the network and then for them
    monkeypatch.setattr(placement, "free_memory", lambda _: next(free))
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", lambda *_, **__: pytest.fail("read the weights"))
    with pytest.raises(genseg.GensegError, match=r"the text encoders of .* take .* GiB in float32.*or a smaller model"):
        load("sd3", checkpoints["sd3"])
