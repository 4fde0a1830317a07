"""Read what a model computes on the way: any of its sites, several at once, at any timesteps."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from genseg.declarations import Capabilities, FeatureTap, ModulationPoint
from genseg.errors import GensegError
from genseg.recipe import Recipe, RecipeLike, load_recipe

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "module:"
"""What names of sites begin with that are paths of modules."""


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

    def read(self, state: Any, sites: Sequence[FeatureTap], recipe: Recipe) -> list[Tensor]:
        """Read several sites: by one pass for each, unless a backend overrides this.

        Args:
            state: What `encode` returned.
            sites: Sites, such as `find_tap` returns.
            recipe: The resolved recipe; features are read at its `t_f` and averaged over its `draws`.

        Returns:
            float32 [C, h, w] for each site, as `features` of it.
        """
        return [self.features(state, site, recipe) for site in sites]

    def intermediates(
        self,
        image: Tensor,
        sites: str | Sequence[str] | None = None,
        timesteps: int | Sequence[int] | None = None,
        draws: int = 1,
        *,
        indices: int | Sequence[int] | None = None,
        recipe: RecipeLike | None = None,
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """Read features of an image at the model's size; `genseg.features` takes any image.

        Args:
            image: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of `size_multiple`.
            sites: As for `genseg.features`.
            timesteps: As for `genseg.features`.
            draws: As for `genseg.features`.
            indices: As for `genseg.features`.
            recipe: As for `genseg.Segmenter`.
            seed: Fixes the noise.

        Returns:
            float32 [T, C, h, w] on the CPU by the site's name, in the order of the timesteps.

        Raises:
            GensegError: If there is no such site, or the model has no timesteps.
        """
        resolved = self.resolve(recipe, draws=draws)
        steps = [resolved.t_f] if timesteps is None else [timesteps] if isinstance(timesteps, int) else list(timesteps)
        if not self.capabilities.noise_axis and timesteps is not None:
            raise GensegError(f"backend {self.name!r} adds no noise, so it has no timesteps; leave them out")
        at_steps = [load_recipe(resolved, t_f=step) for step in steps]
        names = self.site_names(sites, indices) or [resolved.tap or next(iter(self.taps))]
        taps = [self.find_tap(name) for name in names]
        state = self.encode(image, resolved, seed)
        import torch

        maps = [[each.cpu() for each in self.read(state, taps, at_step)] for at_step in at_steps]
        return {name: torch.stack(each) for name, *each in zip(names, *maps, strict=True)}

    @property
    def sites(self) -> Mapping[str, FeatureTap]:
        """Everything with a name that can be read: taps, points, and what a backend finds besides, as they run.

        Names are those of one vocabulary over all families (`genseg.vocabulary`).
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
        names: list[str] = []
        for wanted in [sites] if isinstance(sites, str) else sites or []:
            known = self.module_sites if wanted.startswith(MODULE) and "*" in wanted else self.sites
            fitting = [name for name in known if fnmatchcase(name, wanted)]
            if not fitting and not wanted.startswith(MODULE):
                raise self._unknown(f"unknown site {wanted!r} of {self.name}", wanted, known)
            names += fitting or [wanted]
        if indices is not None:
            blocks = [name for name in self.sites if name.endswith(".output") and name.count(".") == 1]
            try:
                names += blocks[-indices:] if isinstance(indices, int) else [blocks[index] for index in indices]
            except IndexError:
                raise GensegError(f"indices must be below {len(blocks)}, the number of blocks, not {indices}") from None
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
            raise self._unknown(f"unknown tap {name!r} of {self.name}", name, sites)
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
            raise self._unknown(f"unknown point {name!r} of {self.name}", name, {**self.points, **sites})
        site = self.find_tap(name)
        return ModulationPoint(**{field.name: getattr(site, field.name) for field in fields(site)})

    def _unknown(self, what: str, name: str, known: Mapping[str, FeatureTap]) -> GensegError:
        """The error for a site that is not there: the nearest first, and where all are listed."""
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return GensegError(f"{what}: {hint}'genseg features --list -b {self.name}' lists all sites")
