"""The noise of a diffusion model: an image as its own, and what it is drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class DiffusionState:
    """An image as its own noise: what replaying the sampler from x_{t_m} needs to give the image back exactly.

    Attributes:
        timesteps: [S], descending from t_m; int64, or float64 where the sampler's are no whole numbers.
        latents: float32 [S + 1, C, h, w]: x at each timestep, then x_0.
        step: The sampler's step without noise, x_{t-1} = step(x_t) + residual: of x [N, C, h, w] and two timesteps,
            from and to.
        seed: What the noise was drawn from.
    """

    timesteps: Tensor
    latents: Tensor
    step: Callable[[Tensor, float, float], Tensor]
    seed: int

    @property
    def steps(self) -> list[tuple[float, float]]:
        """Each timestep with the one after it, 0 at the end."""
        return list(pairwise([*self.timesteps.tolist(), 0]))

    @cached_property
    def residuals(self) -> Tensor:
        """float32 [S, C, h, w], computed when first asked for: `DiffusionBackend.regenerate` finds them on its way."""
        steps = zip(self.latents[:-1].split(1), self.steps, strict=True)
        return self.latents[1:] - torch.cat([self.step(x, *step) for x, step in steps])


def noise_generator(seed: int, purpose: str) -> torch.Generator:
    """Independent noise for each purpose, on the CPU so that every device draws the same."""
    stream = {"inversion": 0, "features": 1, "generation": 2}[purpose]
    state = np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)
