"""Text encoders run once for a checkpoint, and not at all where the prompt is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import pixart_sigma
from models import write_sd_checkpoint
from safetensors.torch import save_file

import genseg
from genseg import Backend, GensegError
from genseg_backends.engine import pretrained


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PixArt checkpoint, whose text encoder is a T5, and an empty cache."""
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "cache"))
    pixart_sigma().save_pretrained(tmp_path / "pixart")
    return tmp_path / "pixart"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints whose text encoders were loaded, in order."""
    loaded: list[str] = []
    load = pretrained.load_text
    monkeypatch.setattr(
        pretrained, "load_text", lambda kind, model, *more: loaded.append(model) or load(kind, model, *more)
    )
    return loaded


def load(checkpoint: Path, **options: str) -> Backend:
    return genseg.load_backend("pixart-sigma", model=str(checkpoint), device="cpu", **options)


def test_the_second_load_runs_no_text_encoder_and_a_changed_one_runs_again(checkpoint, encoded):
    first, second = load(checkpoint), load(checkpoint)
    assert len(encoded) == 1
    assert second.conditioning.keys() == first.conditioning.keys()
    assert all(torch.equal(value, first.conditioning[name]) for name, value in second.conditioning.items())
    load(checkpoint, dtype="bfloat16")
    assert len(encoded) == 2
    (checkpoint / "text_encoder/model.safetensors").touch()
    load(checkpoint)
    assert len(encoded) == 3


def test_a_damaged_or_unwritable_cache_is_none(checkpoint, encoded, tmp_path, monkeypatch):
    load(checkpoint)
    (file,) = (tmp_path / "cache/prompts").iterdir()
    file.write_bytes(b"damaged")
    load(checkpoint)
    load(checkpoint)
    assert len(encoded) == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "file"))
    load(checkpoint)
    assert len(encoded) == 3


def test_a_prompt_that_is_given_needs_no_text_encoder(checkpoint, encoded, tmp_path):
    given = {"encoder_hidden_states": torch.ones(1, 3, 32)}
    save_file(given, tmp_path / "ones.safetensors")
    backend = load(checkpoint, prompt_embeds=str(tmp_path / "ones.safetensors"))
    assert encoded == []
    assert torch.equal(backend.conditioning["encoder_hidden_states"], given["encoder_hidden_states"])
    save_file({"text": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(GensegError, match=r"holds text; save what the backend's described\(prompt\) returns"):
        load(checkpoint, prompt_embeds=str(tmp_path / "other.safetensors"))
    with pytest.raises(GensegError, match="give a safetensors file"):
        load(checkpoint, prompt_embeds=str(tmp_path / "none.safetensors"))


def test_stable_diffusion_takes_what_it_described(tmp_path):
    write_sd_checkpoint(tmp_path / "sd")
    described = genseg.load_backend("sd15", model=str(tmp_path / "sd"), device="cpu").described("a street")
    save_file({name: value.clone() for name, value in described.items()}, tmp_path / "street.safetensors")
    file = str(tmp_path / "street.safetensors")
    backend = genseg.load_backend("sd15", model=str(tmp_path / "sd"), device="cpu", prompt_embeds=file)
    assert torch.equal(backend.conditioning["encoder_hidden_states"], described["encoder_hidden_states"])
