"""MaskCLIP (Zhou et al., 2112.01071): the value path of CLIP's or SigLIP's last attention, as embeddings of patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import Embedder, ModelCard
from genseg_backends.embedders.common import CLIP_PIXELS, Pixels, as_grid, clip_texts, tokens_of
from genseg_backends.loading.checkpoints import load_part, load_tokenizer
from genseg_backends.loading.hub import extra, local_path, missing, the_hub
from genseg_backends.loading.placement import device_of, dtype_of
from genseg_backends.loading.revisions import REVISIONS

CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel"}
"""The classes of transformers, by the ``model_type`` of a checkpoint's configuration."""


class MaskCLIP(Embedder):
    """A `CLIPModel` or `SiglipModel` that embeds patches instead of the whole image.

    An attention whose queries see one key each gives that key's value, whatever query and key are, so that MaskCLIP's
    ``out_proj(v_proj(x))`` needs no code of its own: the module is run on sequences of one patch.

    * CLIP: the last block so, with its residuals and MLP, which MaskCLIP's own code keeps, then ``post_layernorm`` and
      ``visual_projection``.
    * SigLIP, whose blocks end in an attention pooling: all blocks as they are, ``post_layernorm``, then the pooling
      head so, with its residual and MLP.

    Args:
        network: The model.
        tokenizer: Its tokenizer.
        pixels: Standardization of its input.
        size: `image_size`; None for twice the model's own, which gives a grid twice as fine.
        name: The name under which results are reported.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        pixels: Pixels = CLIP_PIXELS,
        size: int | None = None,
        name: str = "maskclip",
    ) -> None:
        super().__init__(name)
        self.network, self.tokenizer, self.standardized = network.eval(), tokenizer, pixels
        vision = network.config.vision_config
        self.image_size, self.size_multiple = size or 2 * vision.image_size, vision.patch_size

    @torch.inference_mode()
    def pixels(self, image: Tensor) -> Tensor:
        """The embedding of each patch."""
        vision = self.network.vision_model
        inputs = self.standardized(image).to(self.network.device, self.network.dtype)
        if self.network.config.model_type == "siglip":
            hidden = vision(inputs, interpolate_pos_encoding=True).last_hidden_state
            embeddings = vision.head(hidden[0, :, None])
        else:
            *before, last = vision.encoder.layers
            hidden = vision.pre_layrnorm(vision.embeddings(inputs, interpolate_pos_encoding=True))
            for block in before:
                hidden = block(hidden, None)
            patches = last(hidden[0, 1:, None], None)[:, 0]  # the class token stands first
            embeddings = self.network.visual_projection(vision.post_layernorm(patches))
        return as_grid(embeddings, image, self.size_multiple)

    @torch.inference_mode()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """The pooled and projected output of the text encoder."""
        if self.network.config.model_type == "clip":
            return clip_texts(self.network, self.tokenizer, prompts)
        encoder = self.network.text_model  # trained on padded texts, the padding not masked
        tokens = tokens_of(self.tokenizer, prompts, encoder.config.max_position_embeddings, "max_length")
        return encoder(tokens.input_ids.to(encoder.device)).pooler_output.float().cpu()


def maskclip(
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    size: int | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> MaskCLIP:
    """MaskCLIP over CLIP ViT-B/16, or over any CLIP or SigLIP of transformers (MIT)."""
    transformers = extra("transformers")
    name = model or CARD.model
    revision = CARD.revision if model is None and revision is None else revision
    with the_hub(name, offline=offline):
        source = str(local_path(name, revision) or name)
        try:
            kind = transformers.AutoConfig.from_pretrained(
                source, revision=revision, trust_remote_code=False
            ).model_type
        except Exception as error:  # transformers and the hub raise OSError, ValueError, KeyError and their own
            raise missing(name, "", revision, error) from error
        if kind not in CLASSES:
            raise GensegError(f"{name} is a model of type {kind!r}; use a CLIP or SigLIP of transformers")
        where = device_of(device)
        network = load_part(getattr(transformers, CLASSES[kind]), name, "", dtype_of(dtype, where), revision)
        tokenizer = load_tokenizer(transformers.AutoTokenizer, name, "", revision)
        pixels = Pixels.of(name, revision)
    return MaskCLIP(network.to(where), tokenizer, pixels, size)


CLIP = "openai/clip-vit-base-patch16"
CARD = ModelCard("CLIP", "MIT", CLIP, REVISIONS[CLIP], 149_620_737)
maskclip.card = CARD  # type: ignore[attr-defined]
