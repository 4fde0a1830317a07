"""Noise schedules: how much of an image is left at each timestep, and the sampler's step between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genseg.errors import GensegError
from genseg.recipe import Recipe


@dataclass(frozen=True)
class NoiseSchedule:
    """A discrete variance-preserving schedule: x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε.

    Attributes:
        alpha_bar: ᾱ_t for every training timestep, float64 [T].
        prediction_type: What the network predicts, in diffusers' words.
    """

    alpha_bar: Tensor
    prediction_type: str

    @classmethod
    def of(cls, scheduler: Any) -> NoiseSchedule:
        """The schedule of a diffusers scheduler.

        Raises:
            GensegError: If the scheduler has no ᾱ_t, or a prediction type whose clean estimate is not known.
        """
        kind = scheduler.config.get("prediction_type", "epsilon")
        if not hasattr(scheduler, "alphas_cumprod") or kind not in ("epsilon", "v_prediction", "sample"):
            raise GensegError(
                f"{type(scheduler).__name__} with prediction type {kind!r} is not a variance-preserving schedule of "
                "epsilon, v_prediction or sample; use a DDIM or DDPM scheduler"
            )
        return cls(scheduler.alphas_cumprod.double().cpu(), kind)

    def timesteps(self, recipe: Recipe) -> Tensor:
        """The sampler's steps from the one nearest to t_m down, or ``replay_steps`` of them: int64 [S]."""
        stride = len(self.alpha_bar) // recipe.num_inference_steps
        if stride == 0:
            raise GensegError(f"num_inference_steps must be at most {len(self.alpha_bar)}")
        steps = torch.arange(recipe.num_inference_steps) * stride + 1
        nearest = int((steps - recipe.t_m).abs().argmin())
        steps = steps[: nearest + 1].flip(0)
        if recipe.replay_steps is None or recipe.replay_steps >= len(steps):
            return steps
        return steps[torch.linspace(0, len(steps) - 1, recipe.replay_steps).round().long()]

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t of each row's timestep; ``timesteps`` int64 [N]."""
        signal, sigma = self._scales(timesteps, clean)
        return signal * clean + sigma * noise

    def estimates(self, x: Tensor, output: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The network's clean estimate x̂_0 and noise estimate ε̂."""
        signal, sigma = self._scales(timesteps, x)
        if self.prediction_type == "v_prediction":
            return signal * x - sigma * output, signal * output + sigma * x
        if self.prediction_type == "sample":
            return output, (x - signal * output) / sigma
        return (x - sigma * output) / signal, output

    def step(self, x: Tensor, output: Tensor, timesteps: Tensor, previous: Tensor) -> Tensor:
        """The mean μ_t of the DDIM update with η = 1 from ``timesteps`` to ``previous`` (0 stands for the end)."""
        alpha, before = self.alpha_bar[timesteps], self.alpha_bar[previous]
        variance = (1 - before) / (1 - alpha) * (1 - alpha / before)
        clean, noise = self.estimates(x, output, timesteps)
        return _like(x, before.sqrt()) * clean + _like(x, (1 - before - variance).clamp(min=0).sqrt()) * noise

    def _scales(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1−ᾱ_t), computed in float64: 1−ᾱ_t is tiny where t is."""
        alpha = self.alpha_bar[timesteps]
        return _like(like, alpha.sqrt()), _like(like, (1 - alpha).sqrt())


def _like(x: Tensor, scale: Tensor) -> Tensor:
    """One number a row, [N], in the dtype and device of x [N, C, h, w] and ready to multiply it."""
    return scale.to(x.device, x.dtype).view(-1, 1, 1, 1)
