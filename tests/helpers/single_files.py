"""Single-file checkpoints as Stable Diffusion was released: the parameters' original names, all in one file."""

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from models import LAYOUTS, clip_text_model, sd_unet, sd_vae
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
}


def write_single_file(file: Path, seed: int = 0, layout: str = "sd1") -> Path:
    """Write the checkpoint that `write_sd_checkpoint` writes as a folder, with what else such files hold."""
    made = LAYOUTS[layout]
    weights = unet_weights(sd_unet(seed, **made.unet)) | vae_weights(sd_vae(seed))
    text = clip_text_model(seed, **made.text)
    weights |= open_clip_weights(text) if made.text else clip_weights(text)
    weights |= {"betas": torch.ones(1000), "alphas_cumprod": torch.ones(1000), "model_ema.decay": torch.tensor(0.9999)}
    save(weights, file, "v" if layout.endswith("-v") else "epsilon")
    return file


def save(weights: dict[str, Tensor], file: Path, prediction: str | None = "epsilon", **metadata: str) -> None:
    """Write tensors, and what they predict as the specification of such files has it; None where it is not said."""
    said = {} if prediction is None else {"modelspec.prediction_type": prediction}
    tensors = {name: weight.detach().contiguous() for name, weight in weights.items()}
    save_file(tensors, file, said | {f"modelspec.{name}": value for name, value in metadata.items()})


def unet_weights(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The U-Net under its original names."""
    per_level = unet.config["layers_per_block"] + 1
    attends = ["CrossAttn" in kind for kind in unet.config["up_block_types"]]
    return {f"model.diffusion_model.{_unet_name(n, per_level, attends)}": w for n, w in unet.state_dict().items()}


def _unet_name(name: str, per_level: int, attends: list[bool]) -> str:
    """Levels are numbered through: each has its layers and then, down or up, what changes the resolution."""
    for new, old in UNET_ENDS.items():
        if name.startswith(f"{new}."):
            return name.replace(new, old, 1)
    if name.startswith("mid_block"):
        kind, number, rest = re.match(r"mid_block\.(\w+)\.(\d)\.(.*)", name).groups()
        return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * int(number)}.{_resnet(rest)}"
    way, level, kind, number, rest = re.match(r"(\w+)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name).groups()
    first, layer = int(level) * per_level, int(number)
    if way == "down":
        block = f"input_blocks.{first + layer + 1}"
        changes = f"input_blocks.{first + per_level}.0.op"
    else:
        block = f"output_blocks.{first + layer}"
        changes = f"output_blocks.{first + per_level - 1}.{1 + attends[int(level)]}.conv"  # after the attention, if any
    if kind.endswith("samplers"):
        return f"{changes}.{rest.removeprefix('conv.')}"
    return f"{block}.1.{rest}" if kind == "attentions" else f"{block}.0.{_resnet(rest)}"


def _resnet(name: str) -> str:
    part, _, rest = name.partition(".")
    return f"{RESNET[part]}.{rest}"


def vae_weights(vae: AutoencoderKL) -> dict[str, Tensor]:
    """The autoencoder under its original names; its attention's projections are 1×1 convolutions."""
    last = len(vae.config["block_out_channels"]) - 1
    weights = {}
    for name, weight in vae.state_dict().items():
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0" in name:
            way, rest = name.split(".mid_block.attentions.0.")
            part, kind = rest.rsplit(".", 1)
            name = f"{way}.mid.attn_1.{VAE_ATTENTION[part]}.{kind}"
            weight = weight[:, :, None, None] if weight.ndim == 2 else weight
        weights[f"first_stage_model.{name}"] = weight
    return weights


def clip_weights(text: CLIPTextModel) -> dict[str, Tensor]:
    """The text encoder of 1.x, as transformers named it then."""
    prefix = "cond_stage_model.transformer.text_model."
    weights = {prefix + name.removeprefix("text_model."): weight for name, weight in text.state_dict().items()}
    return weights | {f"{prefix}embeddings.position_ids": torch.arange(77)[None]}


def open_clip_weights(text: CLIPTextModel) -> dict[str, Tensor]:
    """The text encoder of 2.x: OpenCLIP's names, queries, keys and values in one, and a last layer that is not used."""
    named = {name.removeprefix("text_model."): weight for name, weight in text.state_dict().items()}
    last = text.config.num_hidden_layers
    named |= {
        name.replace(f"layers.{last - 1}", f"layers.{last}"): torch.full_like(weight, torch.nan)
        for name, weight in named.items()
        if f"layers.{last - 1}." in name
    }
    weights = {"logit_scale": torch.tensor(1.0), "text_projection": torch.eye(text.config.hidden_size)}
    for own, weight in named.items():
        if "k_proj" in own or "v_proj" in own:
            continue
        name = own
        for new, old in OPEN_CLIP.items():
            name = name.replace(new, old)
        if "q_proj" in name:
            weight = torch.cat([named[own.replace("q_proj", f"{kind}_proj")] for kind in "qkv"])
            name = name.replace("q_proj.", "in_proj_")
        weights[name] = weight
    return {f"cond_stage_model.model.{name}": weight for name, weight in weights.items()}
