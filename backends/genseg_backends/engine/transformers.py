"""Base of diffusion transformers: a stack of blocks over tokens, every block with the same taps and points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.interface import FeatureTap, ModulationPoint
from genseg.sites import module_at
from genseg_backends.engine.latent import LatentBackend, Sites


@dataclass(frozen=True)
class Spot:
    """A site that every block of a stack has.

    Attributes:
        module: Path below the block; empty for the block itself.
        side: ``"output"`` or ``"input"``.
        item: Which one, of several tensors.
        alone: Whether the image's tokens are by themselves there, although those of the stack follow others.
    """

    module: str
    side: Literal["output", "input"] = "output"
    item: int = 0
    alone: bool = False


ATTENTION_OUT = Spot("attn.to_out.0", "input")
"""The input of an attention's output projection, behind which no norm cancels an offset."""


@dataclass(frozen=True)
class Stack:
    """The blocks of a transformer, or one of its kinds of block.

    Attributes:
        path: Of the list of blocks in the network.
        taps: Kinds of tap by name.
        points: Kinds of point by name.
        text_first: Whether the blocks' tokens begin with those of the prompt.
        extra_tokens: Number of further tokens before the image's, such as registers.
    """

    path: str
    taps: Mapping[str, Spot]
    points: Mapping[str, Spot]
    text_first: bool = False
    extra_tokens: int = 0


class TransformerBackend(LatentBackend):
    """Base of the transformer families.

    Attributes:
        stacks: The blocks by the letter their sites' names begin with: ``b9.query`` is a tap of the tenth block of
            stack ``b``.
        tap: The default tap: stack, kind, and its block as a fraction of the depth, for checkpoints of other depths.
        point: The default point: stack, kind, and its block as a fraction of the depth.
        prompt_key: The conditioning whose tokens precede the image's where a stack has text first.
        default_size: Latent pixels along each side at the model's own image size, where its configuration has none.
    """

    stacks: ClassVar[Mapping[str, Stack]]
    tap: ClassVar[tuple[str, str, tuple[int, int]]]
    point: ClassVar[tuple[str, str, tuple[int, int]]]
    prompt_key: ClassVar[str] = "encoder_hidden_states"
    default_size: ClassVar[int] = 128

    @property
    def stack_names(self) -> Mapping[str, str]:
        """Letters of blocks by the path of their stack."""
        return {stack.path: letter for letter, stack in self.stacks.items()}

    def patch(self) -> int:
        """Latent pixels per token, along each side."""
        return int(self.network.config["patch_size"])

    def latent_size(self) -> int:
        """Latent pixels along each side at the model's own image size."""
        return int(self.network.config.get("sample_size", self.default_size))

    def declare(self) -> Sites:
        """Taps and points of every block of every stack, the default ones first."""
        stride = self.codec.stride * self.patch()
        self.image_size, self.size_multiple = self.latent_size() * self.codec.stride, stride
        grid = (self.image_size // stride, self.image_size // stride)
        taps: dict[str, FeatureTap] = {}
        points: dict[str, ModulationPoint] = {}
        for letter, stack in self.stacks.items():
            prompt = self.conditioning[self.prompt_key].shape[1] if stack.text_first else 0
            first = prompt + stack.extra_tokens
            for index, block in enumerate(self._blocks(letter)):
                for kind, spot in {**stack.taps, **stack.points}.items():
                    if not _has(block, spot.module):
                        continue
                    path = ".".join(filter(None, (stack.path, str(index), spot.module)))
                    skipped = 0 if spot.alone else first
                    shape = (path, self._channels(block, spot), stride, grid, spot.side, spot.item, skipped)
                    if kind in stack.taps:
                        taps[f"{letter}{index}.{kind}"] = FeatureTap(*shape)
                    if kind in stack.points:
                        points[f"{letter}{index}.{kind}"] = ModulationPoint(*shape)
        for kind, sites in (("tap", taps), ("point", points)):
            if not sites:
                blocks = ", ".join(stack.path for stack in self.stacks.values())
                spots = {spot.module for stack in self.stacks.values() for spot in getattr(stack, f"{kind}s").values()}
                raise GensegError(
                    f"no block of {blocks} has a module {' or '.join(sorted(spots))}, so there is no {kind}; look at "
                    "print(network) for its name"
                )
        tap, point = self._default(self.tap, taps), self._default(self.point, points)
        self.width = taps[tap].channels
        return {tap: taps.pop(tap), **taps}, {point: points.pop(point), **points}

    def derived(self) -> dict[str, Any]:
        """A recipe as for any family, without massive channels, as DiTF reads transformers (arXiv 2505.18584)."""
        return super().derived() | {"channels": "without-massive"}

    def _blocks(self, letter: str) -> nn.ModuleList:
        blocks = module_at(self.network, self.stacks[letter].path)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def _channels(self, block: nn.Module, spot: Spot) -> int:
        """Channels of a site: what a linear layer takes or puts out, or else the width of the tokens."""
        module: Any = module_at(block, spot.module) if spot.module else block
        width = self.token_width()
        if isinstance(module, nn.Linear):
            return min(module.in_features, width) if spot.side == "input" else module.out_features
        return width

    def token_width(self) -> int:
        """Channels of the tokens."""
        config = self.network.config
        return int(config["num_attention_heads"] * config["attention_head_dim"])

    def _default(self, wanted: tuple[str, str, tuple[int, int]], sites: Mapping[str, Any]) -> str:
        letter, kind, (part, whole) = wanted
        name = f"{letter}{len(self._blocks(letter)) * part // whole}.{kind}"
        return name if name in sites else next(iter(sites))


def _has(block: nn.Module, path: str) -> bool:
    """Return whether a block has a module."""
    return not path or path in dict(block.named_modules())


def to_tokens(x: Tensor, patch: int = 2) -> Tensor:
    """Latents [N, C, h, w] to tokens [N, h·w/p², C·p²] in row order."""
    return torch.nn.functional.pixel_unshuffle(x, patch).flatten(2).transpose(1, 2)


def to_latents(tokens: Tensor, like: Tensor, patch: int = 2) -> Tensor:
    """The inverse of `to_tokens`, for latents of the size of ``like``."""
    height, width = like.shape[2] // patch, like.shape[3] // patch
    maps = tokens.transpose(1, 2).unflatten(2, (height, width))
    return torch.nn.functional.pixel_shuffle(maps, patch)


def unpadded(embeds: Tensor, mask: Tensor) -> Tensor:
    """The tokens [1, L', C] of a prompt [1, L, C] that its mask [1, L] keeps: the same as attending with the mask.

    A mask that keeps none weighs all alike, as no mask does.
    """
    return embeds[:, mask[0].bool()] if mask.any() else embeds
