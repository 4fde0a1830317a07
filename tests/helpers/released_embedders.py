"""State dicts of TCL and CLIPpy in small, with the names that their projects' modules give."""

from collections.abc import Iterable

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def drawn(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights of these shapes, so large that each matters; norms' about 1."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.3 if len(shape) < 2 else 0.15)
        + (1 if "norm" in name.lower() or ".ln" in name else 0) * name.endswith("weight")
        for name, shape in shapes.items()
    }


def layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def resblocks(prefix: str, numbers: Iterable[int], width: int) -> Shapes:
    """Blocks of OpenAI's CLIP."""
    found: Shapes = {}
    for number in numbers:
        at = f"{prefix}.transformer.resblocks.{number}"
        found |= {f"{at}.attn.in_proj_weight": (3 * width, width), f"{at}.attn.in_proj_bias": (3 * width,)}
        found |= layer(f"{at}.attn.out_proj", width, width)
        found |= layer(f"{at}.ln_1", width) | layer(f"{at}.ln_2", width)
        found |= layer(f"{at}.mlp.c_fc", 4 * width, width) | layer(f"{at}.mlp.c_proj", width, 4 * width)
    return found


def tcl(width: int = 64, dim: int = 24, vocabulary: int = 4, layers: int = 3, patch: int = 8) -> dict[str, Tensor]:
    """TCL's: CLIP's encoders at first and what it trained, with 4 × 4 positions, and 12 of texts."""
    visual = "clip_image_encoder.clip_visual"
    shapes: Shapes = {
        f"{visual}.class_embedding": (width,), f"{visual}.positional_embedding": (17, width),
        f"{visual}.conv1.weight": (width, 3, patch, patch), **layer(f"{visual}.ln_pre", width),
        **resblocks(visual, range(layers), width),
        **layer("clip_image_encoder.clip_proj.ln", width), "clip_image_encoder.clip_proj.proj": (width, dim),
        "clip_text_encoder.positional_embedding": (12, width), "clip_text_encoder.text_projection": (width, dim),
        "clip_text_encoder.token_embedding.weight": (vocabulary, width), **layer("clip_text_encoder.ln_final", width),
        **resblocks("clip_text_encoder", range(2), width),
        **resblocks("masker.image_encoder.backbone", [layers - 1], width),
        **layer("masker.image_encoder.decoder.image_proj.ln", width),
        "masker.image_encoder.decoder.image_proj.proj": (width, dim),
        "masker.sim2mask.w": (), "masker.sim2mask.b": (), "tcli_loss.logit_scale": (), "tclf_loss.logit_scale": (),
    }  # fmt: skip
    for stage in range(2):
        for conv in ("conv", "conv2"):
            at = f"masker.image_encoder.decoder.decoder.net.{stage}.{conv}"
            shapes |= layer(f"{at}.norm", width) | layer(f"{at}.conv", width, width, 3, 3) | {f"{at}.gate.gate": ()}
    return drawn(shapes)


def clippy(width: int = 64, vocabulary: int = 5, layers: int = 2, patch: int = 8) -> dict[str, Tensor]:
    """CLIPpy's: timm's ViT with 4 × 4 positions and sentence-transformers' T5, as open_clip saves them."""
    trunk, t5 = "visual.trunk", "text.0.auto_model"
    shapes: Shapes = {
        "logit_scale": (), f"{trunk}.cls_token": (1, 1, width), f"{trunk}.pos_embed": (1, 17, width),
        **layer(f"{trunk}.patch_embed.proj", width, 3, patch, patch), **layer(f"{trunk}.norm", width),
        f"{t5}.shared.weight": (vocabulary, 32), f"{t5}.encoder.embed_tokens.weight": (vocabulary, 32),
        f"{t5}.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 2),
        f"{t5}.encoder.final_layer_norm.weight": (32,), "text.2.linear.weight": (width, 32),
    }  # fmt: skip
    for number in range(layers):
        at = f"{trunk}.blocks.{number}"
        shapes |= layer(f"{at}.norm1", width) | layer(f"{at}.norm2", width)
        shapes |= layer(f"{at}.attn.qkv", 3 * width, width) | layer(f"{at}.attn.proj", width, width)
        shapes |= layer(f"{at}.mlp.fc1", 4 * width, width) | layer(f"{at}.mlp.fc2", width, 4 * width)
        at = f"{t5}.encoder.block.{number}.layer"
        shapes |= {f"{at}.0.SelfAttention.{letter}.weight": (16, 32) for letter in "qkv"}
        shapes |= {f"{at}.0.SelfAttention.o.weight": (32, 16), f"{at}.0.layer_norm.weight": (32,)}
        shapes |= {f"{at}.1.DenseReluDense.wi.weight": (48, 32), f"{at}.1.DenseReluDense.wo.weight": (32, 48)}
        shapes |= {f"{at}.1.layer_norm.weight": (32,)}
    weights = drawn(shapes)
    weights[f"{t5}.encoder.embed_tokens.weight"] = weights[f"{t5}.shared.weight"]  # tied, and saved twice
    return weights
