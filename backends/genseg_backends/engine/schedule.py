"""Noise schedules: how much of an image is left at each timestep, and the sampler's step between two of them.

Timesteps count from 0, no noise, to 1000, and are Python numbers, as is all that follows from them: a number that
multiplies a tensor is no copy to its device. The noise level is what models of different kinds have in common:
s = σ/(σ + α) in [0, 1], for x_t = α x_0 + σ ε, which for a rectified flow is its time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genseg.errors import GensegError
from genseg.recipe import Recipe


class Schedule(ABC):
    """A noise schedule and its sampler; x is float32 [N, C, h, w], of one timestep."""

    def timesteps(self, recipe: Recipe) -> Tensor:
        """The sampler's steps from the one nearest to t_m down, or ``replay_steps`` of them: [S]."""
        steps = self.sampler(recipe.num_inference_steps)
        below = int((steps.flip(0) - recipe.t_m).abs().argmin())
        steps = steps[len(steps) - 1 - below :]
        if recipe.replay_steps is None or recipe.replay_steps >= len(steps):
            return steps
        return steps[torch.linspace(0, len(steps) - 1, recipe.replay_steps).round().long()]

    def nearest(self, level: float) -> int:
        """The timestep from 1 to 999 whose noise level s is nearest to ``level``."""

        def distance(t: int) -> float:
            signal, sigma = self.scales(t)
            return abs(sigma / (sigma + signal) - level)

        return min(range(1, 1000), key=distance)

    def noised(self, clean: Tensor, noise: Tensor, t: float) -> Tensor:
        """x_t = α x_0 + σ ε."""
        signal, sigma = self.scales(t)
        return signal * clean + sigma * noise

    @abstractmethod
    def sampler(self, steps: int) -> Tensor:
        """The timesteps of a sampler of so many steps, descending: [steps]."""

    @abstractmethod
    def scales(self, t: float) -> tuple[float, float]:
        """α and σ."""

    @abstractmethod
    def step(self, x: Tensor, output: Tensor, t: float, previous: float) -> Tensor:
        """The sampler's step without noise.

        Args:
            x: x_t.
            output: The network's output for it.
            t: The timestep.
            previous: The one after it in sampling, which has less noise; 0 stands for the end.
        """

    def deviation(self, t: float, previous: float) -> float:  # noqa: ARG002
        """The standard deviation of the noise that the sampler adds at a step."""
        return 0.0


@dataclass(frozen=True)
class NoiseSchedule(Schedule):
    """A discrete variance-preserving schedule, x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε, under the DDIM sampler with η = 1.

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

    def sampler(self, steps: int) -> Tensor:
        """Evenly spaced timesteps, the last of them 1: int64 [steps]."""
        last = len(self.alpha_bar) - 1
        stride = len(self.alpha_bar) // steps
        if steps > last:
            raise GensegError(f"num_inference_steps must be at most {last}, not {steps}")
        return torch.arange(steps).flip(0) * stride + 1

    def scales(self, t: float) -> tuple[float, float]:
        """√ᾱ_t and √(1−ᾱ_t)."""
        alpha = self._alpha(t)
        return math.sqrt(alpha), math.sqrt(1 - alpha)

    def estimates(self, x: Tensor, output: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """The network's clean estimate x̂_0 and noise estimate ε̂."""
        signal, sigma = self.scales(t)
        if self.prediction_type == "v_prediction":
            return signal * x - sigma * output, signal * output + sigma * x
        if self.prediction_type == "sample":
            return output, (x - signal * output) / sigma
        return (x - sigma * output) / signal, output

    def step(self, x: Tensor, output: Tensor, t: float, previous: float) -> Tensor:
        """The mean μ_t of the update."""
        before = self._alpha(previous)
        clean, noise = self.estimates(x, output, t)
        direction = math.sqrt(max(1 - before - self.deviation(t, previous) ** 2, 0))
        return math.sqrt(before) * clean + direction * noise

    def deviation(self, t: float, previous: float) -> float:
        """σ_t of the update: that of DDPM."""
        alpha, before = self._alpha(t), self._alpha(previous)
        return math.sqrt((1 - before) / (1 - alpha) * (1 - alpha / before))

    def _alpha(self, t: float) -> float:
        """ᾱ_t in double precision: 1 − ᾱ_t is tiny where t is."""
        return self.alpha_bar[int(t)].item()


@dataclass(frozen=True)
class FlowSchedule(Schedule):
    """A rectified flow, x_t = (1 − s) x_0 + s ε with s = t/1000, under Euler's steps; the network predicts ε − x_0.

    Attributes:
        shift: By which the sampler's evenly spaced times are moved towards noise (Esser et al., 2403.03206, eq. 23).
        last: The time of the sampler's last step, to which the others are stretched (Qwen-Image); None for as it falls.
    """

    shift: float = 1.0
    last: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any], tokens: int) -> FlowSchedule:
        """The schedule of a diffusers scheduler's configuration.

        Args:
            config: Of a flow-matching scheduler, or of one whose prediction type is ``flow_prediction``.
            tokens: Number of image tokens, which a dynamic shift goes by.
        """
        last = config.get("shift_terminal")
        if not config.get("use_dynamic_shifting"):
            return cls(float(config.get("shift", config.get("flow_shift", 1.0))), last)
        fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        return cls(math.exp(low + (high - low) * (tokens - fewest) / (most - fewest)), last)

    def sampler(self, steps: int) -> Tensor:
        """Shifted times: float64 [steps]."""
        even = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
        times = self.shift * even / (1 + (self.shift - 1) * even)
        if self.last is not None and steps > 1:
            times = 1 - (1 - times) * (1 - self.last) / (1 - times[-1])
        return 1000 * times

    def scales(self, t: float) -> tuple[float, float]:
        """1 − s and s."""
        return 1 - t / 1000, t / 1000

    def step(self, x: Tensor, output: Tensor, t: float, previous: float) -> Tensor:
        """One of Euler's steps along the flow."""
        return x + (previous - t) / 1000 * output
