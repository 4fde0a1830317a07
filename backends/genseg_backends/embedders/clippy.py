"""CLIPpy (Ranasinghe et al., 2210.09996): DINO's image encoder and Sentence-T5, trained with the maximum of patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.interface import Embedder, ModelCard
from genseg_backends.embedders.common import CLIP_PIXELS, as_grid, tokens_of
from genseg_backends.embedders.published import Published, filled
from genseg_backends.loading.checkpoints import load_tokenizer
from genseg_backends.loading.hub import extra, the_hub
from genseg_backends.loading.placement import device_of, dtype_of

HEAD = 64
"""Width of an attention head, in both encoders."""
TRUNK, T5 = "visual.trunk", "text.0.auto_model"
LONGEST = 256
"""Tokens of a text that Sentence-T5 reads."""


class CLIPpy(Embedder):
    """The model of the authors' own replication, whose training took the largest value of all patches for the image.

    Args:
        vision: A `ViTModel` without pooling.
        text: A `T5EncoderModel`.
        projection: What Sentence-T5 has behind the mean of its tokens.
        tokenizer: Sentence-T5's.
    """

    image_size = 448  # twice the model's own, for a grid twice as fine

    def __init__(self, vision: Any, text: Any, projection: nn.Linear, tokenizer: Any) -> None:
        super().__init__("clippy")
        self.vision, self.text, self.projection, self.tokenizer = vision, text, projection, tokenizer
        self.size_multiple = vision.config.patch_size

    @torch.inference_mode()
    def pixels(self, image: Tensor) -> Tensor:
        """The image encoder's patches, behind its last norm."""
        inputs = CLIP_PIXELS(image).to(self.vision.device, self.vision.dtype)
        hidden = self.vision(inputs, interpolate_pos_encoding=True).last_hidden_state
        return as_grid(hidden[0, 1:], image, self.size_multiple)  # the class token stands first

    @torch.inference_mode()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """The mean of the text encoder's tokens, projected."""
        tokens = tokens_of(self.tokenizer, prompts, LONGEST).to(self.text.device)
        hidden, mask = self.text(tokens.input_ids, tokens.attention_mask).last_hidden_state, tokens.attention_mask
        mean = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return self.projection(mean.to(self.projection.weight.dtype)).float().cpu()


def clippy(
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    text: str = "sentence-transformers/sentence-t5-base",
    offline: bool = False,
) -> CLIPpy:
    """CLIPpy, ViT-B/16 and Sentence-T5 base: perceptual grouping (no licence stated)."""
    if model is None:
        raise GensegError(
            "CLIPpy is on no hub; download clippy_5k.pt, which its author published, and give it as model="
        )
    transformers = extra("transformers")
    place = device_of(device)
    precision = dtype_of(dtype, place)
    with the_hub(text, offline=offline):
        tokenizer = load_tokenizer(transformers.AutoTokenizer, text, "")
    file = Published(model, "state_dict", "module.")
    parts = _vision(file), _text(file), _projection(file)
    file.leave("logit_scale")
    file.done()
    vision, language, projection = (part.to(place, precision) for part in parts)
    return CLIPpy(vision, language, projection, tokenizer)


def _vision(file: Published) -> Any:
    """The ViT of timm as a `ViTModel`."""
    transformers = extra("transformers")
    width, _, patch, _ = file.look(f"{TRUNK}.patch_embed.proj.weight").shape
    numbers, places = file.numbers(f"{TRUNK}.blocks"), file.look(f"{TRUNK}.pos_embed").shape[1]
    config = transformers.ViTConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=len(numbers),
        num_attention_heads=width // HEAD,
        image_size=round((places - 1) ** 0.5) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,  # timm's
    )
    weights = {
        "embeddings.cls_token": file.take(f"{TRUNK}.cls_token"),
        "embeddings.position_embeddings": file.take(f"{TRUNK}.pos_embed"),
    }
    weights |= file.pair(f"{TRUNK}.patch_embed.proj", "embeddings.patch_embeddings.projection")
    for number in numbers:
        there, here = f"{TRUNK}.blocks.{number}", f"layers.{number}"
        weights |= file.thirds(f"{there}.attn.qkv", [f"{here}.attention.{letter}_proj" for letter in "qkv"])
        weights |= file.pair(f"{there}.attn.proj", f"{here}.attention.o_proj")
        weights |= file.pair(f"{there}.norm1", f"{here}.layernorm_before")
        weights |= file.pair(f"{there}.norm2", f"{here}.layernorm_after")
        weights |= file.pair(f"{there}.mlp.fc1", f"{here}.mlp.fc1") | file.pair(f"{there}.mlp.fc2", f"{here}.mlp.fc2")
    weights |= file.pair(f"{TRUNK}.norm", "layernorm")
    return filled(transformers.ViTModel(config, add_pooling_layer=False), weights, file.path)


def _text(file: Published) -> Any:
    """Sentence-T5's encoder; names are transformers' own."""
    transformers = extra("transformers")
    block = f"{T5}.encoder.block.0.layer"
    vocabulary, width = file.look(f"{T5}.shared.weight").shape
    buckets, heads = file.look(f"{block}.0.SelfAttention.relative_attention_bias.weight").shape
    config = transformers.T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=file.look(f"{block}.0.SelfAttention.q.weight").shape[0] // heads,
        d_ff=file.look(f"{block}.1.DenseReluDense.wi.weight").shape[0],
        num_layers=len(file.numbers(f"{T5}.encoder.block")),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )
    model = transformers.T5EncoderModel(config)
    return filled(model, {name: file.take(f"{T5}.{name}") for name in model.state_dict()}, file.path)


def _projection(file: Published) -> Any:
    """Sentence-T5's dense layer, which stands behind its pooling."""
    weight = file.take("text.2.linear.weight")
    return filled(nn.Linear(weight.shape[1], weight.shape[0], bias=False), {"weight": weight}, file.path)


clippy.card = ModelCard("CLIPpy", "not stated", "", None)  # type: ignore[attr-defined]
