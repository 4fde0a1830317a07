"""Small checkpoints of every family, with seeded random weights, written by the real pipelines in the hub's layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import transformers
from family_parts import clip_tokenizer, clip_with_projection, seeded, t5, t5_tokenizer, vae
from joint_families import DYNAMIC, flux, flux2, lumina2, qwen_image, sd3, sd35, z_image
from models import clip_text_model
from torch import nn


def pixart_alpha() -> Any:
    """PixArt-α at 64 pixels."""
    network = seeded(lambda: _pixart(sample_size=8))
    return _pixart_pipeline(diffusers.PixArtAlphaPipeline, network)


def pixart_sigma() -> Any:
    """PixArt-Σ at 64 pixels."""
    return _pixart_pipeline(diffusers.PixArtSigmaPipeline, seeded(lambda: _pixart(sample_size=8)))


def _pixart(sample_size: int) -> diffusers.PixArtTransformer2DModel:
    return diffusers.PixArtTransformer2DModel(
        num_attention_heads=4, attention_head_dim=8, num_layers=3, cross_attention_dim=32, sample_size=sample_size,
        caption_channels=32, interpolation_scale=1, use_additional_conditions=False,
    )  # fmt: skip


def _pixart_pipeline(kind: Any, network: nn.Module) -> Any:
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    return kind(t5_tokenizer(), t5(), vae(), network, scheduler)


def sdxl(**config: Any) -> Any:
    """SDXL at 64 pixels."""
    shape = {
        "sample_size": 8, "block_out_channels": (16, 32, 32), "layers_per_block": 2, "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (2, 4, 4), "transformer_layers_per_block": (1, 1, 2), "use_linear_projection": True,
        "cross_attention_dim": 64, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
    }  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025), text_encoder=clip_text_model(), text_encoder_2=clip_with_projection(),
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(),
        unet=seeded(lambda: diffusers.UNet2DConditionModel(**shape | config)),
        scheduler=diffusers.EulerDiscreteScheduler(1000, 0.00085, 0.012, "scaled_linear", steps_offset=1),
    )  # fmt: skip


def ssd(layers: tuple[int, int, int] = (1, 1, 2)) -> Any:
    """As the pruned models: blocks of unequal depth, and no attention in the middle."""
    return sdxl(
        mid_block_type=None, transformer_layers_per_block=[1, 1, 2],
        reverse_transformer_layers_per_block=[list(layers), [2, 1, 1], 1],
    )  # fmt: skip


def sana() -> Any:
    """Sana at 64 pixels."""
    gemma = transformers.Gemma2Config(
        vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return diffusers.SanaPipeline(
        tokenizer=transformers.GemmaTokenizer({"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "a": 4}, []),
        text_encoder=seeded(lambda: transformers.Gemma2Model(gemma)),
        vae=seeded(lambda: diffusers.AutoencoderDC(
            latent_channels=4, attention_head_dim=4, encoder_block_types=("ResBlock",) * 3,
            decoder_block_types=("ResBlock",) * 3, encoder_block_out_channels=(8, 16, 16),
            decoder_block_out_channels=(8, 16, 16), encoder_qkv_multiscales=((), (), ()),
            decoder_qkv_multiscales=((), (), ()), encoder_layers_per_block=(1, 1, 1),
            decoder_layers_per_block=(1, 1, 1), downsample_block_type="conv", upsample_block_type="interpolate",
            decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
        )),
        transformer=seeded(lambda: diffusers.SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_layers=3, num_attention_heads=4, attention_head_dim=8,
            num_cross_attention_heads=4, cross_attention_head_dim=8, cross_attention_dim=32, caption_channels=16,
            sample_size=16,
        )),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )  # fmt: skip


def hunyuan_dit() -> Any:
    """HunyuanDiT at 64 pixels."""
    network = seeded(lambda: diffusers.HunyuanDiT2DModel(
        sample_size=8, num_layers=4, patch_size=2, attention_head_dim=8, num_attention_heads=4, hidden_size=32,
        in_channels=4, cross_attention_dim=32, cross_attention_dim_t5=32, pooled_projection_dim=16, text_len=77,
        text_len_t5=256, activation_fn="gelu-approximate", use_style_cond_and_image_meta_size=False,
    ))  # fmt: skip
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5}
    bert = transformers.BertConfig(
        vocab_size=6, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    return diffusers.HunyuanDiTPipeline(
        vae=vae(scaling_factor=0.13025), text_encoder=seeded(lambda: transformers.BertModel(bert)),
        tokenizer=transformers.BertTokenizer(words, model_max_length=77), transformer=network,
        scheduler=diffusers.DDPMScheduler(1000, 0.00085, 0.018, "scaled_linear", prediction_type="v_prediction"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        text_encoder_2=t5(), tokenizer_2=t5_tokenizer(),
    )  # fmt: skip


def dit() -> Any:
    """DiT at 64 pixels."""
    network = seeded(lambda: diffusers.DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
        num_embeds_ada_norm=5,
    ))  # fmt: skip
    return diffusers.DiTPipeline(network, vae(), diffusers.DDIMScheduler(clip_sample=False))


def ddpm() -> Any:
    """An unconditional U-Net at 32 pixels."""
    unet = seeded(lambda: diffusers.UNet2DModel(
        sample_size=32, block_out_channels=(16, 32, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8,
    ))  # fmt: skip
    return diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler())


def deepfloyd_if() -> Any:
    """DeepFloyd IF at 32 pixels."""
    unet = seeded(lambda: diffusers.UNet2DConditionModel(
        sample_size=32, in_channels=3, out_channels=6, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), cross_attention_dim=32,
        encoder_hid_dim=32, attention_head_dim=8, addition_embed_type="text", addition_embed_type_num_heads=2,
        norm_num_groups=8, resnet_time_scale_shift="scale_shift", time_embedding_type="positional",
    ))  # fmt: skip
    return diffusers.IFPipeline(
        t5_tokenizer(), t5(), unet, diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        safety_checker=None, feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip


def vitmae() -> Any:
    """A masked autoencoder at 64 pixels, whose patches are normalised as those of the released models."""
    config = transformers.ViTMAEConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=64, patch_size=16,
        decoder_hidden_size=32, decoder_num_hidden_layers=2, decoder_num_attention_heads=4,
        decoder_intermediate_size=64, norm_pix_loss=True,
    )  # fmt: skip
    return seeded(lambda: transformers.ViTMAEForPreTraining(config))


PIPELINES: dict[str, Callable[[], Any]] = {
    "pixart-alpha": pixart_alpha,
    "pixart-sigma": pixart_sigma,
    "sd3": sd3,
    "sd35-medium": sd35,
    "sd35-large": lambda: sd3(qk_norm="rms_norm"),
    "sdxl": sdxl,
    "sdxl-turbo": sdxl,
    "ssd-1b": ssd,
    "vega": ssd,
    "sana": sana,
    "hunyuan-dit": hunyuan_dit,
    "dit": dit,
    "ddpm": ddpm,
    "deepfloyd-if": deepfloyd_if,
    "vitmae": vitmae,
    "flux-dev": lambda: flux(DYNAMIC | {"shift": 3.0, "use_dynamic_shifting": True}, guidance_embeds=True),
    "flux-schnell": lambda: flux({"shift": 1.0}),
    "flux2": flux2,
    "qwen-image": qwen_image,
    "z-image": z_image,
    "lumina2": lumina2,
}
"""Makers of a checkpoint of each backend."""


def write_checkpoint(folder: Path, name: str) -> Path:
    """Write the checkpoint of a backend as the hub holds it."""
    PIPELINES[name]().save_pretrained(folder)
    return folder
