"""Read what a model computes on the way: any of its sites, several at once, at any timesteps."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from genseg.errors import GensegError
from genseg.recipe import Recipe, RecipeLike, load_recipe
from genseg.sites.declarations import AttentionSite, Capabilities, FeatureTap, ModulationPoint

if TYPE_CHECKING:
    from torch import Tensor

Kind: TypeAlias = Literal["features", "attention"]

MODULE = "module:"
"""Prefix of the names of sites that are paths of modules."""


def whole_timesteps(given: int | Sequence[int]) -> list[int]:
    """Timesteps as a list of whole numbers; recipes check that they are below 1000.

    Args:
        given: One, or several, of Python, numpy or torch.

    Raises:
        GensegError: If there is none, or one is no whole number.
    """
    values = given.tolist() if hasattr(given, "tolist") else given
    steps = list(values) if isinstance(values, Iterable) else [values]
    if not steps or not all(isinstance(step, Integral) for step in steps):
        raise GensegError(f"timesteps must be whole numbers from 0 to 999, at least one, not {given!r}")
    return [int(step) for step in steps]


class ReadableSites(ABC):
    """Base of `genseg.Backend`: its sites by name, and their features."""

    name: str
    taps: Mapping[str, FeatureTap]
    points: Mapping[str, ModulationPoint]
    capabilities: Capabilities

    @abstractmethod
    def resolve(self, recipe: RecipeLike | None = None, options: Sequence[str] = (), **overrides: Any) -> Recipe:
        """See `genseg.Backend.resolve`."""

    @abstractmethod
    def encode(self, image: Tensor, recipe: Recipe, seed: int) -> Any:
        """See `genseg.Backend.encode`."""

    @abstractmethod
    def features(self, state: Any, tap: FeatureTap, recipe: Recipe) -> Tensor:
        """Read the model's features of the encoded image: float32 [C, h, w], as ``tap`` declares."""

    def read(self, state: Any, sites: Sequence[FeatureTap], recipe: Recipe, prompt: str = "") -> list[Tensor]:
        """Read several sites: by one pass for each, unless a backend overrides this.

        Args:
            state: What `encode` returned.
            sites: Sites, such as `find_tap` returns.
            recipe: The resolved recipe; features are read at its `t_f` and averaged over its `draws`.
            prompt: What the model is told; ``""`` for the conditioning that images are segmented with.

        Returns:
            float32 [C, h, w] for each site, as `features` of it.

        Raises:
            GensegError: If the backend takes no prompt.
        """
        if prompt:
            raise GensegError(f"backend {self.name!r} takes no prompt; leave it out")
        return [self.features(state, site, recipe) for site in sites]

    @property
    def attention_sites(self) -> Mapping[str, AttentionSite]:
        """Attentions whose maps can be read, by name, as they run; none unless a backend overrides this."""
        return {}

    def read_attention(
        self,
        state: Any,  # noqa: ARG002
        sites: Sequence[AttentionSite],  # noqa: ARG002
        recipe: Recipe,  # noqa: ARG002
        prompt: str = "",  # noqa: ARG002
        words: str = "",  # noqa: ARG002
        *,
        heads: bool = False,  # noqa: ARG002
    ) -> list[Tensor]:
        """Read attention maps: how much each position of the image attends to each key.

        Args:
            state: What `encode` returned.
            sites: Of `attention_sites`.
            recipe: As for `read`.
            prompt: As for `read`.
            words: Words that need not be in the prompt. Their keys are read in a pass of their own and added to those
                of the prompt, so that the image's positions can attend to them and are not changed by them. The maps
                are then those of these words.
            heads: Whether heads are kept apart.

        Returns:
            float32 [N, h, w] for each site, or [heads, N, h, w]. N counts the tokens, as `tokens` names them, or the
            image's positions in row order. Over all of an attention's keys, a position's values add up to 1.

        Raises:
            GensegError: If the backend's attention cannot be read, or it takes no prompt.
        """
        raise GensegError(f"the attention of backend {self.name!r} cannot be read; read features instead")

    def tokens(self, prompt: str = "") -> list[str]:  # noqa: ARG002
        """Name the tokens of a prompt, in the order of the keys that they are in attention.

        Raises:
            GensegError: If the backend takes no prompt.
        """
        raise GensegError(f"backend {self.name!r} has no tokens; it takes no prompt")

    def intermediates(
        self,
        image: Tensor,
        sites: str | Sequence[str] | None = None,
        timesteps: int | Sequence[int] | None = None,
        draws: int = 1,
        *,
        kind: Kind = "features",
        indices: int | Sequence[int] | None = None,
        prompt: str = "",
        words: str = "",
        heads: bool = False,
        recipe: RecipeLike | None = None,
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """Read features or attention maps of an image at the model's size; `genseg.features` takes any image.

        Args:
            image: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of `size_multiple`.
            sites: As for `genseg.features`.
            timesteps: As for `genseg.features`.
            draws: As for `genseg.features`.
            kind: As for `genseg.features`.
            indices: As for `genseg.features`.
            prompt: As for `genseg.features`.
            words: As for `genseg.features`.
            heads: As for `genseg.features`.
            recipe: As for `genseg.Segmenter`.
            seed: Fixes the noise.

        Returns:
            float32 [T, C, h, w] on the CPU by the site's name, in the order of the timesteps; see `genseg.features`.

        Raises:
            GensegError: If there is no such site, or the model has no timesteps.
        """
        import torch

        resolved = self.resolve(recipe, draws=draws)
        steps = [resolved.t_f] if timesteps is None else whole_timesteps(timesteps)
        if not self.capabilities.noise_axis and timesteps is not None:
            raise GensegError(f"backend {self.name!r} adds no noise, so it has no timesteps; leave them out")
        at_steps = [load_recipe(resolved, t_f=step) for step in steps]
        read: Callable[[Any, Recipe], list[Tensor]]
        if kind == "attention":
            if indices is not None:
                raise GensegError("indices are those of blocks' features; name the sites of attention")
            if not self.attention_sites:
                raise GensegError(
                    f"no attention of {self.name} can be read: it has none, or computes it in a way of its own; set "
                    "the model's default attention processors"
                )
            names = self._matching(sites or "*", self.attention_sites)
            attentions = [self.attention_sites[name] for name in names]
            read = lambda state, at: self.read_attention(state, attentions, at, prompt, words, heads=heads)  # noqa: E731
        elif kind == "features":
            if words or heads:
                raise GensegError("words and heads are those of attention; give kind='attention' too")
            names = self.site_names(sites, indices) or [resolved.tap or next(iter(self.taps))]
            taps = [self.find_tap(name) for name in names]
            read = lambda state, at: self.read(state, taps, at, prompt)  # noqa: E731
        else:
            raise GensegError(f"kind must be features or attention, not {kind!r}")
        state = self.encode(image, resolved, seed)
        maps = [[each.cpu() for each in read(state, at_step)] for at_step in at_steps]
        return {name: torch.stack(each) for name, *each in zip(names, *maps, strict=True)}

    @property
    def sites(self) -> Mapping[str, FeatureTap]:
        """Everything with a name that can be read: taps, points, and what a backend finds besides, as they run.

        Names are those of one vocabulary over all families (`genseg.sites.vocabulary`).
        """
        return {**self.points, **self.taps}

    @property
    def module_sites(self) -> Mapping[str, FeatureTap]:
        """Inputs and outputs of modules that can be read, by ``module:PATH``; none unless a backend finds some."""
        return {}

    def site_names(
        self, sites: str | Sequence[str] | None = None, indices: int | Sequence[int] | None = None
    ) -> list[str]:
        """Find the sites that patterns and numbers stand for.

        Args:
            sites: As for `genseg.features`.
            indices: As for `genseg.features`.

        Returns:
            Names of `sites` and `module_sites`, each once.

        Raises:
            GensegError: If a name or a number is unknown, or a pattern fits no site.
        """
        names = self._matching(sites or [], self.sites)
        if indices is not None:
            blocks = [name for name in self.sites if name.endswith(".output") and name.count(".") == 1]
            numbers: Any = indices
            if isinstance(indices, Integral):
                numbers = range(len(blocks) - int(indices), len(blocks))
                if not 1 <= len(numbers) <= len(blocks):
                    raise GensegError(f"indices must be 1 to {len(blocks)}, how many of the last blocks, not {indices}")
            try:
                names += [blocks[index] for index in numbers]
            except (IndexError, TypeError):
                raise GensegError(
                    f"indices must be whole numbers below {len(blocks)}, the number of blocks, not {indices}"
                ) from None
        return list(dict.fromkeys(names))

    def find_tap(self, name: str | None) -> FeatureTap:
        """Find the site that a recipe's `tap` names: one of `taps` or `sites`, or ``module:PATH``.

        Args:
            name: ``module:PATH`` is the output of the module at a dotted path, ``module:PATH@input`` its input, and
                ``module:PATH@output1`` the second of several outputs; None for the first tap.

        Raises:
            GensegError: If there is none; the message names the nearest.
        """
        if name is None:
            return next(iter(self.taps.values()))
        if name in self.taps:
            return self.taps[name]
        if name.startswith(MODULE):
            if name not in (modules := self.module_sites):
                raise self._unknown(f"{name} is no module of {self.name} that is a map of the image", name, modules)
            return modules[name]
        if name not in (sites := self.sites):
            raise self._unknown(f"unknown tap {name!r}", name, sites)
        return sites[name]

    def find_point(self, name: str | None) -> ModulationPoint:
        """Find the point that a recipe's `point` names: one of `points`, or any site that `find_tap` finds.

        Raises:
            GensegError: As `find_tap`.
        """
        if name is None:
            return next(iter(self.points.values()))
        if name in self.points:
            return self.points[name]
        if not name.startswith(MODULE) and name not in (sites := self.sites):
            raise self._unknown(f"unknown point {name!r}", name, {**self.points, **sites})
        site = self.find_tap(name)
        return ModulationPoint(**{field.name: getattr(site, field.name) for field in fields(site)})

    def _matching(self, patterns: str | Sequence[str], known: Mapping[str, Any]) -> list[str]:
        """Names of the known sites, or of modules, that fit the patterns."""
        names: list[str] = []
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            choices = self.module_sites if pattern.startswith(MODULE) and "*" in pattern else known
            fitting = [name for name in choices if fnmatchcase(name, pattern)]
            if not fitting and (not pattern.startswith(MODULE) or known is not self.sites):
                raise self._unknown(f"unknown site {pattern!r}", pattern, choices)
            names += fitting or [pattern]
        return list(dict.fromkeys(names))

    def _unknown(self, what: str, name: str, known: Iterable[str]) -> GensegError:
        """The error for a site that is not there: the nearest first, and where all are listed."""
        near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return GensegError(f"{what}: {hint}'genseg features --list -b {self.name}' lists all sites")
