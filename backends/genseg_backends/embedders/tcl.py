"""TCL (Cha et al., 2212.00785): CLIP with a decoder that was trained to ground texts in regions of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.interface import Embedder, ModelCard
from genseg_backends.embedders import openai
from genseg_backends.embedders.common import IMAGENET_PIXELS, clip_texts
from genseg_backends.embedders.published import Published, filled
from genseg_backends.loading.checkpoints import load_part, load_tokenizer
from genseg_backends.loading.hub import extra, the_hub
from genseg_backends.loading.placement import device_of, dtype_of
from genseg_backends.loading.revisions import REVISIONS

CLIP = "openai/clip-vit-base-patch16"
MASKER = "masker.image_encoder"
BLOCKS, STAGES = f"{MASKER}.backbone.transformer.resblocks", f"{MASKER}.decoder.decoder.net"
UNUSED = ("masker.sim2mask.", "tcli_loss.", "tclf_loss.", "clip_image_encoder.")
"""Parts of a checkpoint that embed no pixel: similarities to masks, losses, and CLIP's own end, which TCL's does not
use but to blend its masks with."""


class GatedConv(nn.Module):
    """Layer norm over channels, GELU and a 3 × 3 convolution, added to the input through a gate in (-1, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.LayerNorm(width), nn.Conv2d(width, width, 3, padding=1)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, h, w] of the same shape."""
        normed = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return x + self.gate.tanh() * self.conv(F.gelu(normed))


class Masker(nn.Module):
    """The trained part of TCL: CLIP's last blocks, a decoder to four times the resolution, and CLIP's projection."""

    def __init__(self, width: int, dim: int, blocks: int, doublings: int, block: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block() for _ in range(blocks))
        self.decoder = nn.ModuleList(nn.Sequential(GatedConv(width), GatedConv(width)) for _ in range(doublings))
        self.norm, self.proj = nn.LayerNorm(width), nn.Linear(width, dim, bias=False)

    def forward(self, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [1, 1 + h·w, C] of CLIP as embeddings [1, D, 4h, 4w] (of two doublings)."""
        *before, last = self.blocks
        for block in before:
            hidden = block(hidden, None)
        patches = last(hidden[0, 1:, None], None)[:, 0]  # each attends to itself only, as in MaskCLIP
        maps = patches.T.unflatten(1, grid)[None]
        for stage in self.decoder:
            maps = stage(F.interpolate(maps, scale_factor=2))
        return self.proj(self.norm(maps.movedim(1, -1))).movedim(-1, 1)


class TCL(Embedder):
    """The published model.

    Args:
        vision: CLIP's image encoder, as far as the masker's blocks.
        language: Has CLIP's text encoder as ``text_model``, and ``text_projection``.
        masker: What TCL trained.
        tokenizer: CLIP's.
    """

    image_size = 448  # as in the paper's evaluation

    def __init__(self, vision: Any, language: Any, masker: Masker, tokenizer: Any) -> None:
        super().__init__("tcl")
        self.vision, self.language, self.masker, self.tokenizer = vision, language, masker, tokenizer
        self.size_multiple = vision.config.patch_size

    @torch.inference_mode()
    def pixels(self, image: Tensor) -> Tensor:
        """The masker's embeddings, before they are compared with texts: four cells a patch along each side."""
        inputs = IMAGENET_PIXELS(image).to(self.vision.device, self.vision.dtype)
        hidden = self.vision.pre_layrnorm(self.vision.embeddings(inputs, interpolate_pos_encoding=True))
        for block in self.vision.encoder.layers:
            hidden = block(hidden, None)
        grid = (image.shape[2] // self.size_multiple, image.shape[3] // self.size_multiple)
        return self.masker(hidden, grid)[0].float().cpu()

    @torch.inference_mode()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """CLIP's embeddings of texts."""
        return clip_texts(self.language, self.tokenizer, prompts)


def tcl(
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    clip: str | None = None,
    offline: bool = False,
) -> TCL:
    """TCL over CLIP ViT-B/16: text-grounded contrastive learning (MIT)."""
    if model is None:
        raise GensegError("TCL is on no hub; download the checkpoint that its authors published and give it as model=")
    extra("transformers")
    place = device_of(device)
    precision = dtype_of(dtype, place)
    file = Published(model, "model")
    file.look(f"{MASKER}.decoder.image_proj.proj")  # refuse what is no TCL at all before CLIP is loaded
    with the_hub(clip or CLIP, offline=offline):
        vision, language, tokenizer = _clip(file, clip)
    masker = _masker(file, vision.config)
    file.leave(*UNUSED)
    file.done()
    return TCL(vision.to(place, precision), language.to(place, precision), masker.to(place, precision), tokenizer)


def _clip(file: Published, clip: str | None) -> tuple[Any, Any, Any]:
    """CLIP's encoders, of the file where it has them, and its tokenizer, which no file has."""
    transformers = extra("transformers")
    model, revision = (clip, None) if clip else (CLIP, REVISIONS[CLIP])
    tokenizer = load_tokenizer(transformers.AutoTokenizer, model, "", revision)
    first = min(file.numbers(BLOCKS), default=0)  # slices of a stack keep their numbers
    if file.has("clip_text_encoder."):
        vision = openai.vision(file, "clip_image_encoder.clip_visual", first)
        return vision, openai.text(file, "clip_text_encoder"), tokenizer
    network = load_part(transformers.CLIPModel, model, "", torch.float32, revision).eval()
    network.vision_model.encoder.layers = network.vision_model.encoder.layers[:first]
    return network.vision_model, network, tokenizer


def _masker(file: Published, config: Any) -> Masker:
    """The trained part of TCL, by the names of `Masker`."""
    layer = extra("transformers.models.clip.modeling_clip").CLIPEncoderLayer
    width, dim = file.look(f"{MASKER}.decoder.image_proj.proj").shape
    numbers, stages = file.numbers(BLOCKS), file.numbers(STAGES)
    weights = openai.blocks(file, BLOCKS, numbers, "blocks")
    for stage in stages:
        for position, name in enumerate(("conv", "conv2")):
            there, here = f"{STAGES}.{stage}.{name}", f"decoder.{stage}.{position}"
            weights |= file.pair(f"{there}.norm", f"{here}.norm") | file.pair(f"{there}.conv", f"{here}.conv")
            weights[f"{here}.gate"] = file.take(f"{there}.gate.gate")
    weights |= file.pair(f"{MASKER}.decoder.image_proj.ln", "norm")
    weights["proj.weight"] = file.take(f"{MASKER}.decoder.image_proj.proj").T
    return filled(Masker(width, dim, len(numbers), len(stages), lambda: layer(config)), weights, file.path)


tcl.card = ModelCard("TCL", "MIT", "", None)  # type: ignore[attr-defined]
