"""Inputs of the contract's checks, a backend with an image and a quick recipe, and their two exceptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from genseg.interface import Backend, ModulationPoint
from genseg.recipe import Recipe, load_recipe


class ContractViolation(AssertionError):  # noqa: N818
    """A check that the backend fails; the message says what to change."""


class NotApplicable(Exception):  # noqa: N818
    """A check that does not apply to the backend; the message says why."""


def require(condition: object, message: str) -> None:
    """Raise `ContractViolation` with ``message`` unless ``condition`` is true."""
    if not condition:
        raise ContractViolation(message)


@dataclass
class CheckContext:
    """A backend with the image, recipe and tolerances of its checks.

    Attributes:
        backend: The backend.
        overrides: Recipe keys laid over those of a quick recipe.
        image: float32 [1, 3, H, W] in [-1, 1]; None for a synthetic one, of the smallest size that the backend takes.
        locality: Whether a change at a position must have most of its effect there; untrained weights may fail this.
        tolerance: Allowed difference between two ways to compute one row, relative to the largest effect of an offset.
        lossy: Allowed RMSE of the reconstruction where the backend declares it approximate.
    """

    backend: Backend
    overrides: Mapping[str, Any] | None = None
    image: Tensor | None = None
    locality: bool = True
    tolerance: float = 1e-3
    lossy: float = 0.5

    @cached_property
    def recipe(self) -> Recipe:
        """The backend's recipe, with few clusters, draws and steps."""
        quick = {"n_clusters": 4, "n_init": 1, "draws": 1, "replay_steps": 2, "margin": 0, "num_inference_steps": 10}
        overrides = {**quick, "modulate": True, **dict(self.overrides or {})}
        return load_recipe(self.backend.preset, calibration=self.backend.recipe, **overrides)

    @cached_property
    def pixels(self) -> Tensor:
        """The image."""
        if self.image is not None:
            return self.image
        multiple = self.backend.size_multiple
        side = -(-min(self.backend.image_size, max(64, 2 * multiple)) // multiple) * multiple
        return synthetic_image(side, side)

    @cached_property
    def state(self) -> Any:
        """The image, encoded."""
        return self.backend.encode(self.pixels, self.recipe, 0)

    @cached_property
    def point(self) -> ModulationPoint:
        """The default modulation point."""
        return self.backend.find_point(self.recipe.point)

    @cached_property
    def estimates(self) -> Tensor:
        """Estimates of `offsets` at the default point."""
        return self.regenerated(self.offsets(self.point))

    def offsets(self, point: ModulationPoint, strength: float | None = None) -> Tensor:
        """Offsets [4, h, w]: zero, the first cell, the last cell and the left half, at the recipe's strength."""
        height, width = point.grid_for(*self.pixels.shape[2:])
        masks = torch.zeros(4, height, width)
        masks[1, 0, 0] = masks[2, -1, -1] = 1
        masks[3, :, : max(width // 2, 1)] = 1
        return masks * (self.recipe.strength if strength is None else strength)

    def regenerated(self, offsets: Tensor, point: ModulationPoint | None = None, **overrides: Any) -> Tensor:
        """Estimates with ``offsets`` at a point; None for the default one."""
        recipe = replace(self.recipe, **overrides)
        return self.backend.regenerate(self.state, point or self.point, offsets, recipe).float()

    def changes(self, estimates: Tensor) -> Tensor:
        """Absolute difference of each estimate's pixels from the first one's, the largest channel's: [N, H, W]."""
        images = self.backend.decode(estimates)
        return (images - images[:1]).abs().amax(dim=1).cpu()


def synthetic_image(height: int, width: int) -> Tensor:
    """A deterministic image with edges, gradients and texture: float32 [1, 3, height, width] in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    disc = ((x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.06).float()
    planes = torch.stack([x, 1 - y, (x + y) / 2]) * (1 - disc) + disc * torch.tensor([0.9, 0.2, 0.1]).view(3, 1, 1)
    return (1.6 * planes - 0.8 + 0.2 * (noise - 0.5))[None]


class InterruptionError(Exception):
    """Raised midway, as a full disk or Ctrl-C may."""


@contextmanager
def interrupted(stop: int | None) -> Iterator[list[nn.Module]]:
    """Collect the modules that run within the block; raise `InterruptionError` after the one numbered ``stop``."""
    calls: list[nn.Module] = []

    def count(module: nn.Module, *_: object) -> None:
        calls.append(module)
        if len(calls) - 1 == stop:
            raise InterruptionError

    handle = register_module_forward_hook(count)
    try:
        yield calls
    finally:
        handle.remove()


def module_state(backend: Backend) -> dict[str, Any]:
    """A snapshot of the hooks, forwards, modes, processors and weights of a backend's torch modules."""
    state: dict[str, Any] = {}
    holders = [backend, *(value for value in vars(backend).values() if hasattr(value, "__dict__"))]
    roots = {id(v): v for holder in holders for v in vars(holder).values() if isinstance(v, nn.Module)}
    for number, root in enumerate(roots.values()):
        for name, module in root.named_modules():
            state[f"{number}.{name}"] = (
                tuple(module._forward_hooks),
                tuple(module._forward_pre_hooks),
                vars(module).get("forward"),
                module.training,
                id(getattr(module, "processor", None)),
            )
        state[str(number)] = [(p._version, p.requires_grad) for p in root.parameters() if not p.is_inference()]
    return state
