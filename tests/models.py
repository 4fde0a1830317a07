"""Tiny seeded models of the real classes, with random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SD_BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
}
"""The noise schedule of Stable Diffusion."""


def sd_unet(seed: int = 0, **config: Any) -> UNet2DConditionModel:
    """A U-Net with the levels, layers and attentions of SD 1.x; 128×128 pixels, its 16×16 block is 4×4.

    Queries and the output are scaled up: with fresh weights all attention is uniform, so that nothing would depend on
    Q and K, and the noise estimate is so small that hardly anything else would depend on it.
    """
    shape = {
        "sample_size": 16,
        "block_out_channels": (32, 64, 64, 64),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": 4,  # diffusers' historic name for the number of heads
        "cross_attention_dim": 32,
        "norm_num_groups": 8,
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**shape | config)
        for name, weight in unet.named_parameters():
            if name.endswith("to_q.weight"):
                weight *= 8
        unet.conv_out.weight *= 3
    return unet.eval().requires_grad_(False)


def sd_vae(seed: int = 0) -> AutoencoderKL:
    """An autoencoder of SD's shape, 8 pixels a latent, whose latents are scaled up to SD's: about as large as noise."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            block_out_channels=(8, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
            scaling_factor=0.18215,
        )
        vae.quant_conv.weight *= 10
    return vae.eval().requires_grad_(False)


def sd_parts(seed: int = 0, prediction_type: str = "epsilon") -> dict[str, Any]:
    """What `StableDiffusion` takes: unet, vae, scheduler and prompt_embeds [1, 77, 32]."""
    return {
        "unet": sd_unet(seed),
        "vae": sd_vae(seed),
        "scheduler": DDIMScheduler(**SD_BETAS, prediction_type=prediction_type, clip_sample=False),
        "prompt_embeds": torch.randn(1, 77, 32, generator=torch.Generator().manual_seed(seed)),
    }


def clip_text_model(seed: int = 0) -> CLIPTextModel:
    """A CLIP text encoder for a vocabulary of four tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=4,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                bos_token_id=2,
                eos_token_id=3,
                pad_token_id=3,
            )
        ).eval()


def write_sd_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint as the hub holds SD 1.4: its files, its scheduler's class, its names of old parameters."""
    sd_unet(seed).save_pretrained(folder / "unet")
    sd_vae(seed).save_pretrained(folder / "vae")
    _rename(
        folder / "vae" / "diffusion_pytorch_model.safetensors",
        {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."},
    )
    PNDMScheduler(**SD_BETAS, skip_prk_steps=True).save_pretrained(folder / "scheduler")
    clip_text_model(seed).save_pretrained(folder / "text_encoder")
    _rename(folder / "text_encoder" / "model.safetensors", {"": "text_model."})

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = "<|endoftext|>"
    vocabulary = {"a": 0, "a</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}
    (tokenizer / "vocab.json").write_text(json.dumps(vocabulary))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    (tokenizer / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings | special))

    classes = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "scheduler": PNDMScheduler,
        "text_encoder": CLIPTextModel,
        "tokenizer": CLIPTokenizer,
    }
    index = {part: [kind.__module__.split(".")[0], kind.__name__] for part, kind in classes.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}))
    return folder


def _rename(file: Path, names: dict[str, str]) -> None:
    """Replace parts of the parameters' names in a safetensors file."""
    renamed = {}
    for key, value in load_file(file).items():
        for new, old in names.items():
            key = key.replace(new, old, 1)
        renamed[key] = value
    save_file(renamed, file, metadata={"format": "pt"})
