"""Reading of diffusion networks: their sites and attentions by name, and attention maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from genseg.errors import GensegError
from genseg.interface import AttentionSite, FeatureTap
from genseg.recipe import Recipe
from genseg.sites import as_map, module_at, read_all
from genseg.sites.vocabulary import named, readable, shapes_recorded
from genseg_backends.engine.attention_maps import (
    Call,
    attention_maps,
    attention_recorded,
    attention_sites,
    attentions_of,
)
from genseg_backends.engine.diffusion import DiffusionBackend, timesteps_of
from genseg_backends.engine.noise import DiffusionState, noise_generator
from genseg_backends.loading.placement import compute_dtype


class ReadableNetwork(DiffusionBackend):
    """Base of the diffusion families that are read by the names of their sites.

    Attributes:
        attention_layout: Order of text and image in attention to both; see `genseg.interface.AttentionSite`.
        attention_padding: What the image's tokens are padded to there.
    """

    attention_layout: ClassVar[Literal["text-image", "image-text"]] = "text-image"
    attention_padding: ClassVar[int] = 1

    @cached_property
    def module_sites(self) -> Mapping[str, FeatureTap]:
        """Inputs and outputs of modules that are maps of the image, found by one pass over a small image."""
        size = self._small_size()
        with shapes_recorded(self.reader) as tensors:
            self._small_pass(size)
        return readable(tensors, size, self.image_size, [*self.taps.values(), *self.points.values()])

    @property
    def stack_names(self) -> Mapping[str, str]:
        """Names of blocks in sites, by the path of their list; those of U-Nets are known."""
        return {}

    @torch.inference_mode()
    def _small_pass(self, size: tuple[int, int]) -> None:
        """One pass over a blank image of (H, W) pixels."""
        x = self.codec.encode(torch.zeros(1, 3, *size, device=self.device)).to(compute_dtype(self.reader))
        self.predict(x, timesteps_of(1, x), self.reader)

    def _small_size(self) -> tuple[int, int]:
        """(H, W) of an image of few pixels, unlike sides, and other numbers of tokens than the prompt's."""
        if self.recipe.get("resize") == "square":
            return self.image_size, self.image_size
        strides = {site.stride for site in (*self.taps.values(), *self.points.values())}
        prompt = {value.shape[1] for value in self.conditioning.values() if value.ndim == 3}
        sizes = [
            (rows * self.size_multiple, columns * self.size_multiple) for rows, columns in ((3, 5), (3, 7), (5, 7))
        ]
        cells = [{(height // stride) * (width // stride) for stride in strides} for height, width in sizes]
        return next((size for size, counts in zip(sizes, cells, strict=True) if not counts & prompt), sizes[0])

    @cached_property
    def sites(self) -> Mapping[str, FeatureTap]:
        """Taps, points, and the outputs of all blocks' usual modules."""
        return named(self.module_sites, {**self.points, **self.taps}, self.stack_names)

    def features(self, state: DiffusionState, tap: FeatureTap, recipe: Recipe) -> Tensor:
        """The tap's output at x_{t_f}, averaged over noise draws: float32 [C, h, w].

        The passes end at the tap.
        """
        (features,) = self.read(state, [tap], recipe)
        return features

    @torch.inference_mode()
    def read(
        self, state: DiffusionState, sites: Sequence[FeatureTap], recipe: Recipe, prompt: str = ""
    ) -> list[Tensor]:
        """`features` of several sites, by one pass over each noise draw, which ends at the last of them."""
        reader, conditioning = self.reader, self.described(prompt)
        grids = [self._grid(site, state.latents) for site in sites]

        def maps(x: Tensor, t: Tensor) -> list[Tensor]:
            with read_all(reader, sites) as tensors:
                self.predict(x, t, reader, conditioning)
            return [as_map(*each) for each in zip(tensors, sites, grids, strict=True)]

        return self.averaged(state, recipe, maps)

    def averaged(
        self, state: DiffusionState, recipe: Recipe, read: Callable[[Tensor, Tensor], list[Tensor]]
    ) -> list[Tensor]:
        """The means over the noise draws of what ``read`` gives of x_{t_f}, [N, ...] each: float32.

        Args:
            state: The image.
            recipe: Gives `t_f` and `draws`.
            read: Makes one counted pass over x [N, C, h, w] at timesteps [N].
        """
        clean, dtype = state.latents[-1:], compute_dtype(self.reader)
        exact = torch.float32 if self.device.type == "mps" else torch.float64  # which Apple's GPUs lack
        noise = torch.randn((recipe.draws, *clean.shape[1:]), generator=noise_generator(state.seed, "features"))
        shapes: list[torch.Size] = []

        def total(draws: Tensor) -> Tensor:
            x = self.schedule.noised(clean, draws, recipe.t_f)
            maps = read(x.to(dtype), timesteps_of(recipe.t_f, x))
            self.meter.count(evaluations=len(draws))
            shapes[:] = [each.shape[1:] for each in maps]
            return torch.cat([each.sum(dim=0, dtype=exact).flatten() for each in maps])[None]

        totals = self._batches("features", recipe, clean).map(total, noise.to(self.device))
        parts = (totals.sum(dim=0) / recipe.draws).float().split([math.prod(shape) for shape in shapes])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    @cached_property
    def attention_sites(self) -> Mapping[str, AttentionSite]:
        """Attentions of the image, found by one pass over an image of few pixels."""
        size, paths = self._small_size(), attentions_of(self.reader)
        with attention_recorded(self.reader, paths) as calls:
            self._small_pass(size)
        stacks, tokens = self.stack_names, prompt_tokens(self.conditioning)
        layout, padding = self.attention_layout, self.attention_padding
        return attention_sites(calls, self.module_sites, size, tokens, stacks, layout, padding)

    @torch.inference_mode()
    def read_attention(
        self,
        state: DiffusionState,
        sites: Sequence[AttentionSite],
        recipe: Recipe,
        prompt: str = "",
        words: str = "",
        *,
        heads: bool = False,
    ) -> list[Tensor]:
        """Attention maps of several sites, by one pass over each noise draw, or by two where there are words."""
        paths = [site.module for site in sites]
        if words and any(site.keys != "text" for site in sites):
            raise GensegError("words are keys of text; choose sites of cross-attention or '*.joint.text'")

        def maps(x: Tensor, t: Tensor) -> list[Tensor]:
            calls, count = self._attended(x, t, paths, prompt)
            others, others_count = self._attended(x, t, paths, words) if words else ({}, 0)
            self.meter.count(evaluations=len(x) if words else 0)
            return [
                attention_maps(
                    calls[site.module],
                    site,
                    self._grid(site, state.latents),
                    count,
                    (others[site.module], others_count) if words else None,
                    heads,
                )
                for site in sites
            ]

        return self.averaged(state, recipe, maps)

    def _attended(self, x: Tensor, t: Tensor, paths: Sequence[str], prompt: str) -> tuple[dict[str, Call], int]:
        """Record the inputs of attentions under a prompt, and the number of its tokens."""
        conditioning = self.described(prompt)
        with attention_recorded(self.reader, paths) as calls:
            self.predict(x, t, self.reader, conditioning)
        for path in paths:
            if path not in calls:
                processor = type(getattr(module_at(self.reader, path), "processor", None)).__name__
                raise GensegError(
                    f"{path} computes attention in a way of its own ({processor}), so its maps cannot be read; set the "
                    "model's default attention processors and backend"
                )
        return calls, prompt_tokens(conditioning)


def prompt_tokens(conditioning: Mapping[str, Any]) -> int:
    """Number of tokens that attention has of a prompt: those of several text encoders one after the other."""
    return sum(value.shape[1] for value in conditioning.values() if value.ndim == 3)
