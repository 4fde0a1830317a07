"""Small checkpoints of CLIP and SigLIP with lively weights, as the hub holds them."""

import json
from pathlib import Path

import torch
import transformers
from family_parts import seeded
from tokenizers import Tokenizer, models, pre_tokenizers, processors

MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 12,
}  # fmt: skip


def lively(make):
    """A module whose weights are so large that each part of it matters; norms' and biases' too."""
    module = seeded(make)
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def word_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Of words, as SigLIP's in what counts: texts end in </s>, which also pads."""
    made = Tokenizer(models.WordLevel({"</s>": 0, "<unk>": 1, "a": 2, "cat": 3, "dog": 4}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="</s>", unk_token="<unk>")


def write(folder, network, tokenizer):
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": DEVIATION}))
    return folder


def clip_model() -> transformers.CLIPModel:
    """Images of 32×32 pixels in patches of 8; texts of up to 12 of `clip_tokenizer`'s tokens."""
    config = transformers.CLIPConfig(
        text_config=TEXT | {"vocab_size": 4, "bos_token_id": 2, "eos_token_id": 3}, vision_config=VISION,
        projection_dim=16,
    )  # fmt: skip
    return lively(lambda: transformers.CLIPModel(config))


def siglip_model() -> transformers.SiglipModel:
    """Images likewise; texts of `word_tokenizer`'s words."""
    config = transformers.SiglipConfig(text_config=TEXT | {"vocab_size": 5}, vision_config=VISION)
    return lively(lambda: transformers.SiglipModel(config))


def write_siglip(folder: Path) -> Path:
    return write(folder, siglip_model(), word_tokenizer())
