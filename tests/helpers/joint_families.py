"""Checkpoints for `families` of the transformers whose text and image tokens attend to each other."""

from typing import Any

import diffusers
import torch
import transformers
from family_parts import FLOW, clip_tokenizer, clip_with_projection, seeded, t5, t5_tokenizer, vae, vae_shape
from models import clip_text_model
from torch import nn
from transformers.convert_slow_tokenizer import bytes_to_unicode

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
CHAT = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"

QWEN = {
    "vocab_size": 260, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "bos_token_id": None, "eos_token_id": 256, "pad_token_id": 256,
}  # fmt: skip

DYNAMIC = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}


def gemma() -> tuple[transformers.Gemma2Model, transformers.GemmaTokenizer]:
    """The language model of Lumina-Image 2.0, and its tokenizer, which falls back to bytes."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary = {token: index for index, token in enumerate(special + BYTES)}
    config = transformers.Gemma2Config(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, query_pre_attn_scalar=8,
    )  # fmt: skip
    return seeded(lambda: transformers.Gemma2Model(config)), transformers.GemmaTokenizer(vocabulary, [])


def flow_vae() -> diffusers.AutoencoderKL:
    """The autoencoder of FLUX.1, Z-Image and Lumina-Image 2.0."""
    return vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)


def _lively(network: nn.Module) -> nn.Module:
    """Its padding tokens, which a new network has at zero, away from there."""
    for token in (network.x_pad_token, network.cap_pad_token):
        nn.init.normal_(token)
    return network


def sd3(**config: Any) -> Any:
    """Stable Diffusion 3 at 64 pixels."""
    shape = {
        "sample_size": 8, "num_layers": 3, "attention_head_dim": 8, "num_attention_heads": 4, "joint_attention_dim": 64,
        "caption_projection_dim": 32, "pooled_projection_dim": 64, "pos_embed_max_size": 16,
    }  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=seeded(lambda: diffusers.SD3Transformer2DModel(**shape | config)),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**FLOW),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_with_projection(), tokenizer=clip_tokenizer(),
        text_encoder_2=clip_with_projection(), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(64), tokenizer_3=t5_tokenizer(),
    )  # fmt: skip


def sd35() -> Any:
    """Stable Diffusion 3.5 medium at 64 pixels: with a second attention of the image's own and normalised queries."""
    return sd3(dual_attention_layers=(0, 1), qk_norm="rms_norm")


def qwen_tokenizer() -> transformers.Qwen2Tokenizer:
    """A token for every byte, and those of a chat."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(bytes_to_unicode().values()))}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary |= {token: 256 + index for index, token in enumerate(special)}
    return transformers.Qwen2Tokenizer(vocabulary, [], extra_special_tokens=special[1:], chat_template=CHAT)


def qwen3(layers: int) -> transformers.Qwen3ForCausalLM:
    """The language model of FLUX.2 [klein] and Z-Image."""
    config = transformers.Qwen3Config(num_hidden_layers=layers, **QWEN)
    return seeded(lambda: transformers.Qwen3ForCausalLM(config))


def qwen_vl() -> transformers.Qwen2_5_VLForConditionalGeneration:
    """The vision-language model of Qwen-Image."""
    config = transformers.Qwen2_5_VLConfig(
        text_config=QWEN | {"num_hidden_layers": 2, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}},
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
    )
    return seeded(lambda: transformers.Qwen2_5_VLForConditionalGeneration(config))


def flux(scheduler: dict[str, Any], **config: Any) -> Any:
    """FLUX.1."""
    shape = {
        "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 8, "num_attention_heads": 4,
        "joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 2, 2),
    }  # fmt: skip
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**scheduler),
        vae=flow_vae(),
        text_encoder=clip_text_model(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=seeded(lambda: diffusers.FluxTransformer2DModel(**shape | config)),
    )


def flux2() -> Any:
    """FLUX.2 [klein]."""
    network = {
        "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 8, "num_attention_heads": 4,
        "joint_attention_dim": 48, "axes_dims_rope": (2, 2, 2, 2), "guidance_embeds": False,
    }  # fmt: skip
    blocks = ("block_out_channels", "down_block_types", "up_block_types", "layers_per_block", "norm_num_groups")
    shape = {key: value for key, value in vae_shape().items() if key in blocks}
    autoencoder = seeded(lambda: diffusers.AutoencoderKLFlux2(**shape))
    generator = torch.Generator().manual_seed(0)
    autoencoder.bn.running_mean.copy_(torch.randn(128, generator=generator))
    autoencoder.bn.running_var.copy_(torch.rand(128, generator=generator) + 0.1)
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**DYNAMIC, shift=3.0, use_dynamic_shifting=True),
        vae=autoencoder,
        text_encoder=qwen3(27),
        tokenizer=qwen_tokenizer(),
        transformer=seeded(lambda: diffusers.Flux2Transformer2DModel(**network)),
        is_distilled=True,
    )


def qwen_image() -> Any:
    """Qwen-Image."""
    network = {
        "num_layers": 3, "attention_head_dim": 8, "num_attention_heads": 4, "joint_attention_dim": 16,
        "axes_dims_rope": (4, 2, 2),
    }  # fmt: skip
    shift = DYNAMIC | {"max_image_seq_len": 8192, "max_shift": 0.9, "shift_terminal": 0.02}
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**shift, use_dynamic_shifting=True),
        vae=seeded(lambda: diffusers.AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1)),
        text_encoder=qwen_vl(),
        tokenizer=qwen_tokenizer(),
        transformer=seeded(lambda: diffusers.QwenImageTransformer2DModel(**network)),
    )


def z_image() -> Any:
    """Z-Image."""
    network = {
        "dim": 32, "n_layers": 3, "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 4, "cap_feat_dim": 16,
        "axes_dims": [4, 2, 2],
    }  # fmt: skip
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**FLOW),
        vae=flow_vae(),
        text_encoder=qwen3(2),
        tokenizer=qwen_tokenizer(),
        transformer=seeded(lambda: _lively(diffusers.ZImageTransformer2DModel(**network))),
    )


def lumina2() -> Any:
    """Lumina-Image 2.0 at 64 pixels."""
    encoder, tokenizer = gemma()
    network = {
        "sample_size": 8, "hidden_size": 32, "num_layers": 3, "num_refiner_layers": 1, "num_attention_heads": 4,
        "num_kv_heads": 2, "multiple_of": 8, "axes_dim_rope": (4, 2, 2), "cap_feat_dim": 16,
    }  # fmt: skip
    return diffusers.Lumina2Pipeline(
        transformer=seeded(lambda: diffusers.Lumina2Transformer2DModel(**network)),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(1000, 6.0),
        vae=flow_vae(),
        text_encoder=encoder,
        tokenizer=tokenizer,
    )
