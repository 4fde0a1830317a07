"""Shared parts of embedders: standardization of inputs, tokens, and patches as a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genseg_backends.loading.hub import extra, local_path, missing


class Pixels(NamedTuple):
    """Mean and standard deviation, by channel in [0, 1], that standardize a model's input.

    Attributes:
        mean: Mean of each channel.
        deviation: Standard deviation of each channel.
    """

    mean: Sequence[float]
    deviation: Sequence[float]

    def __call__(self, image: Tensor) -> Tensor:
        """The image [1, 3, H, W] in [-1, 1] as the model takes it."""
        mean, deviation = (torch.tensor(values).to(image).view(1, 3, 1, 1) for values in self)
        return ((image + 1) / 2 - mean) / deviation

    @classmethod
    def of(cls, model: str, revision: str | None = None) -> Pixels:
        """Read them from a checkpoint's ``preprocessor_config.json``.

        Raises:
            GensegError: If there is none.
        """
        reader = extra("transformers.image_processing_base").ImageProcessingMixin
        try:
            config, _ = reader.get_image_processor_dict(str(local_path(model, revision) or model), revision=revision)
            return cls(config["image_mean"], config["image_std"])
        except Exception as error:  # as with weights: OSError, ValueError, KeyError and the hub's own
            raise missing(model, "preprocessor_config.json", revision, error) from error


CLIP_PIXELS = Pixels((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Statistics of CLIP's training images."""
IMAGENET_PIXELS = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Statistics of ImageNet."""


def as_grid(embeddings: Tensor, image: Tensor, patch: int) -> Tensor:
    """Embeddings [L, D] of an image's patches, in row order, as float32 [D, h, w] on the CPU."""
    return embeddings.float().cpu().T.unflatten(1, (image.shape[2] // patch, image.shape[3] // patch))


def tokens_of(tokenizer: Any, prompts: Sequence[str], length: int, padding: str = "longest") -> Any:
    """Token ids and their mask, padded, cut off at ``length``."""
    return tokenizer(list(prompts), padding=padding, truncation=True, max_length=length, return_tensors="pt")


def clip_texts(network: Any, tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """The pooled and projected output of a text encoder of CLIP, [N, D] float32 on the CPU.

    Args:
        network: Has it as ``text_model``, and ``text_projection``.
        tokenizer: CLIP's.
        prompts: The texts.
    """
    encoder = network.text_model
    tokens = tokens_of(tokenizer, prompts, encoder.config.max_position_embeddings).to(encoder.device)
    pooled = encoder(tokens.input_ids, tokens.attention_mask).pooler_output
    return network.text_projection(pooled).float().cpu()
