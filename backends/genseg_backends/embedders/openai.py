"""CLIP in OpenAI's layout, as transformers has it; sizes are read off the weights' shapes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genseg_backends.embedders.published import Published, filled
from genseg_backends.loading.hub import extra

HEAD = 64
"""Width of an attention head, in every CLIP that OpenAI trained."""


def blocks(file: Published, there: str, numbers: list[int], here: str) -> dict[str, Tensor]:
    """Residual attention blocks by transformers' names.

    Args:
        file: The checkpoint.
        there: What stands before the numbers in its names.
        numbers: Those of the blocks; they become 0, 1, ...
        here: What is to stand before the new numbers.
    """
    weights: dict[str, Tensor] = {}
    for new, old in enumerate(numbers):
        block, named = f"{there}.{old}", f"{here}.{new}"
        queries_keys_values = [f"{named}.self_attn.{letter}_proj" for letter in "qkv"]
        weights |= file.thirds(f"{block}.attn.in_proj", queries_keys_values, joint="_")
        weights |= file.pair(f"{block}.attn.out_proj", f"{named}.self_attn.out_proj")
        weights |= file.pair(f"{block}.ln_1", f"{named}.layer_norm1") | file.pair(
            f"{block}.ln_2", f"{named}.layer_norm2"
        )
        weights |= file.pair(f"{block}.mlp.c_fc", f"{named}.mlp.fc1") | file.pair(
            f"{block}.mlp.c_proj", f"{named}.mlp.fc2"
        )
    return weights


def vision(file: Published, prefix: str, layers: int) -> Any:
    """The first ``layers`` blocks of an image encoder and what stands before them, as a `CLIPVisionModel`."""
    transformers = extra("transformers")
    width, _, patch, _ = file.look(f"{prefix}.conv1.weight").shape
    places = file.look(f"{prefix}.positional_embedding").shape[0]
    config = transformers.CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        image_size=round((places - 1) ** 0.5) * patch,
        patch_size=patch,
        hidden_act="quick_gelu",
    )
    weights = {
        "embeddings.class_embedding": file.take(f"{prefix}.class_embedding"),
        "embeddings.patch_embedding.weight": file.take(f"{prefix}.conv1.weight"),
        "embeddings.position_embedding.weight": file.take(f"{prefix}.positional_embedding"),
    }
    weights |= file.pair(f"{prefix}.ln_pre", "pre_layrnorm")
    weights |= blocks(file, f"{prefix}.transformer.resblocks", list(range(layers)), "encoder.layers")
    model = transformers.CLIPVisionModel(config)
    del model.post_layernorm  # what comes last is the caller's
    return filled(model, weights, file.path)


def text(file: Published, prefix: str) -> Any:
    """A text encoder with its projection, as a `CLIPTextModelWithProjection`."""
    transformers = extra("transformers")
    width, dim = file.look(f"{prefix}.text_projection").shape
    vocabulary = file.look(f"{prefix}.token_embedding.weight").shape[0]
    numbers = file.numbers(f"{prefix}.transformer.resblocks")
    config = transformers.CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=len(numbers),
        num_attention_heads=width // HEAD,
        max_position_embeddings=file.look(f"{prefix}.positional_embedding").shape[0],
        projection_dim=dim,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,  # whose output is the text's
    )
    weights = {
        "text_model.embeddings.token_embedding.weight": file.take(f"{prefix}.token_embedding.weight"),
        "text_model.embeddings.position_embedding.weight": file.take(f"{prefix}.positional_embedding"),
        "text_projection.weight": file.take(f"{prefix}.text_projection").T,
    }
    weights |= file.pair(f"{prefix}.ln_final", "text_model.final_layer_norm")
    weights |= blocks(file, f"{prefix}.transformer.resblocks", numbers, "text_model.encoder.layers")
    return filled(transformers.CLIPTextModelWithProjection(config), weights, file.path)
