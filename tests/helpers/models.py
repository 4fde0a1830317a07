"""Tiny seeded models of the real classes, with random weights, and checkpoints of them in the hub's layouts."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
)
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
    """A U-Net with the layers and attentions of SD 1.x and a level less; 64×64 pixels, its 16×16 block is 4×4.

    Queries and the output are scaled up: with fresh weights all attention is uniform, so that nothing would depend on
    Q and K, and the noise estimate is so small that hardly anything else would depend on it.
    """
    shape = {
        "sample_size": 8,
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
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
    """Arguments of `StableDiffusion`: unet, vae, scheduler and prompt_embeds [1, 77, 32]."""
    return {
        "unet": sd_unet(seed),
        "vae": sd_vae(seed),
        "scheduler": DDIMScheduler(**SD_BETAS, prediction_type=prediction_type, clip_sample=False),
        "prompt_embeds": torch.randn(1, 77, 32, generator=torch.Generator().manual_seed(seed)),
    }


def tiny_vae(seed: int = 0) -> AutoencoderTiny:
    """A tiny autoencoder of `sd_vae`'s latents, 8 pixels each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderTiny(
            encoder_block_out_channels=(8,) * 4,
            decoder_block_out_channels=(8,) * 4,
            num_encoder_blocks=(1,) * 4,
            num_decoder_blocks=(1,) * 4,
        )
    return vae.eval().requires_grad_(False)


def clip_text_model(seed: int = 0, **config: Any) -> CLIPTextModel:
    """A CLIP text encoder for a vocabulary of four tokens; its special tokens are wrong, as on the hub."""
    shape = {
        "vocab_size": 4,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPTextModel(CLIPTextConfig(**shape | config)).eval()


class Layout(NamedTuple):
    """Differences between the checkpoints of one family.

    Attributes:
        unet: Configuration of the U-Net, beside `sd_unet`'s.
        text: Configuration of the text encoder, beside `clip_text_model`'s.
        scheduler: The sampler that the checkpoint names.
        pad: What the tokenizer pads with.
        tokens: The empty prompt: the start token, the end token and padding.
    """

    unet: dict[str, Any]
    text: dict[str, Any]
    scheduler: Any
    pad: str
    tokens: list[int]


START, END, BANG = 2, 3, 0
SD2_UNET = {"use_linear_projection": True, "attention_head_dim": [2, 4, 4]}
SD2_TEXT = {"hidden_act": "gelu", "num_hidden_layers": 2, "projection_dim": 16}
CLIP, OPEN_CLIP = ("<|endoftext|>", [START] + 76 * [END]), ("!", [START, END] + 75 * [BANG])
PNDM = PNDMScheduler(**SD_BETAS, skip_prk_steps=True)
V_DDIM = DDIMScheduler(**SD_BETAS, clip_sample=False, prediction_type="v_prediction")
EULER = EulerDiscreteScheduler(1000, 0.00085, 0.012, "scaled_linear", timestep_spacing="trailing", steps_offset=1)
LCM = LCMScheduler(**SD_BETAS)
LAYOUTS = {
    "sd1": Layout({}, {}, PNDM, *CLIP),
    "sd2-768-v": Layout(SD2_UNET | {"sample_size": 12, "upcast_attention": True}, SD2_TEXT, V_DDIM, *OPEN_CLIP),
    "sd2-512": Layout(SD2_UNET, SD2_TEXT, EULER, *OPEN_CLIP),
    "lcm": Layout({"time_cond_proj_dim": 256}, {}, LCM, *CLIP),
}


def write_sd_checkpoint(folder: Path, seed: int = 0, layout: str = "sd1") -> Path:
    """Write a checkpoint as the hub holds it: its files, its scheduler's class, its names of old parameters."""
    made = LAYOUTS[layout]
    sd_unet(seed, **made.unet).save_pretrained(folder / "unet")
    sd_vae(seed).save_pretrained(folder / "vae")
    _rename(
        folder / "vae" / "diffusion_pytorch_model.safetensors",
        {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."},
    )
    made.scheduler.save_pretrained(folder / "scheduler")
    clip_text_model(seed, **made.text).save_pretrained(folder / "text_encoder")
    _rename(folder / "text_encoder" / "model.safetensors", {"": "text_model."})

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = made.pad
    vocabulary = {"!": BANG, "!</w>": 1, "<|startoftext|>": START, "<|endoftext|>": END}
    (tokenizer / "vocab.json").write_text(json.dumps(vocabulary))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    (tokenizer / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings | special))

    classes = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "scheduler": type(made.scheduler),
        "text_encoder": CLIPTextModel,
        "tokenizer": CLIPTokenizer,
    }
    index = {part: [kind.__module__.split(".")[0], kind.__name__] for part, kind in classes.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}))
    return folder


@functools.cache
@torch.no_grad()
def sd_parts_of(layout: str, seed: int = 0) -> dict[str, Any]:
    """The parts that `write_sd_checkpoint` writes, as `StableDiffusion` takes them; not to be changed."""
    made = LAYOUTS[layout]
    return {
        "unet": sd_unet(seed, **made.unet),
        "vae": sd_vae(seed),
        "scheduler": made.scheduler,
        "prompt_embeds": clip_text_model(seed, **made.text)(torch.tensor([made.tokens])).last_hidden_state,
    }


def assert_same_weights(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    """That two modules have the same parameters, by name and value."""
    weights, others = found.state_dict(), expected.state_dict()
    assert weights.keys() == others.keys()
    for name, weight in others.items():
        assert torch.equal(weights[name], weight), name


def write_hub_cache(cache: Path, name: str, folder: Path, commit: str = "1" * 40, branch: str = "main") -> None:
    """Put a copy of a checkpoint where the hub's client keeps what it has downloaded of a branch of ``name``."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / branch).write_text(commit)


def _rename(file: Path, names: dict[str, str]) -> None:
    """Replace parts of the parameters' names in a safetensors file."""
    renamed = {}
    for key, value in load_file(file).items():
        for new, old in names.items():
            key = key.replace(new, old, 1)
        renamed[key] = value
    save_file(renamed, file, metadata={"format": "pt"})
