"""What all diffusion backends share: the noise schedule, inversion by residuals, and modulated denoising."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from genseg.errors import GensegError
from genseg.interface import Backend, FeatureTap, ModulationPoint
from genseg.recipe import Recipe
from genseg.sites import edited, recorded, tokens_to_map


class Codec(Protocol):
    """Between pixels and latents, float32 on both sides: a VAE, or anything with these two methods.

    Attributes:
        stride: Image pixels per latent pixel, along each side.
    """

    stride: int

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] to latents [N, C, h, w], scaled as the network expects them."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to [N, 3, H, W], not clamped."""


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
        """All sampler steps at or below the one nearest to t_m, descending: int64 [S]."""
        stride = len(self.alpha_bar) // recipe.num_inference_steps
        if stride == 0:
            raise GensegError(f"num_inference_steps must be at most {len(self.alpha_bar)}")
        steps = torch.arange(recipe.num_inference_steps) * stride + 1
        nearest = int((steps - recipe.t_m).abs().argmin())
        return steps[: nearest + 1].flip(0)

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


@dataclass(frozen=True)
class DiffusionState:
    """An image as its own noise: what replaying the sampler from x_{t_m} needs to give the image back exactly.

    Attributes:
        timesteps: int64 [S], descending from t_m.
        latents: float32 [S + 1, C, h, w]: x at each timestep, then x_0.
        residuals: float32 [S, C, h, w]: x_{t-1} = step(x_t) + residual.
        seed: What the noise was drawn from.
    """

    timesteps: Tensor
    latents: Tensor
    residuals: Tensor
    seed: int

    @property
    def previous(self) -> Tensor:
        """The timestep after each one, 0 at the end: int64 [S]."""
        return torch.cat([self.timesteps[1:], self.timesteps.new_zeros(1)])


class DiffusionBackend(Backend):
    """Base of the diffusion families: subclasses say what the network is and how it is called.

    Attributes:
        network: The denoiser, whose modules taps and points name.
        codec: Between pixels and latents.
        schedule: The noise schedule the network was trained with.
        dtype: What the network computes in; everything between its passes is float32.
    """

    network: nn.Module
    codec: Codec
    schedule: NoiseSchedule
    dtype: torch.dtype

    @abstractmethod
    def predict(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """The network's output for x [N, C, h, w] at timesteps [N], without a prompt, in the network's dtype."""

    @abstractmethod
    def injection(self) -> AbstractContextManager[None]:
        """A context in which all rows of a batch use the queries and keys of row 0."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def evaluate(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """One counted pass: x float32 [N, C, h, w] at timesteps [N] to the network's output in float32."""
        self.meter.evaluations += len(x)
        return self.predict(x.to(self.dtype), timesteps.to(x.device)).float()

    @torch.inference_mode()
    def encode(self, image: Tensor, recipe: Recipe, seed: int) -> DiffusionState:
        """Edit-friendly inversion (Huberman-Spiegelglas et al., 2304.06140) of the steps t ≤ t_m alone.

        Every x_t is x_0 with noise of its own, so no step above t_m is needed, and all are evaluated side by side.
        """
        clean = self.codec.encode(image.to(self.device)).float()
        steps = self.schedule.timesteps(recipe)
        noise = torch.randn((len(steps), *clean.shape[1:]), generator=_generator(seed, "inversion"))
        if recipe.replay_steps is not None and recipe.replay_steps < len(steps):
            kept = torch.linspace(0, len(steps) - 1, recipe.replay_steps).round().long()
            steps, noise = steps[kept], noise[kept]
        noisy = self.schedule.noised(clean.expand(len(steps), -1, -1, -1), noise.to(clean.device), steps)
        state = DiffusionState(steps, torch.cat([noisy, clean]), noise, seed)
        residuals = [
            after - self.schedule.step(x, self.evaluate(x, t), t, before)
            for x, after, t, before in zip(
                *(part.split(recipe.batch_size) for part in (noisy, state.latents[1:], steps, state.previous)),
                strict=True,
            )
        ]
        return DiffusionState(steps, state.latents, torch.cat(residuals), seed)

    @torch.inference_mode()
    def features(self, state: DiffusionState, tap: FeatureTap, recipe: Recipe) -> Tensor:
        """The tap's output at x_{t_f}, averaged over noise draws: float32 [C, h, w]."""
        clean = state.latents[-1:]
        noise = torch.randn((recipe.draws, *clean.shape[1:]), generator=_generator(state.seed, "features"))
        total = torch.zeros((), device=self.device)
        for draws in noise.to(self.device).split(recipe.batch_size):
            timesteps = torch.full((len(draws),), recipe.t_f)
            x = self.schedule.noised(clean.expand(len(draws), -1, -1, -1), draws, timesteps)
            with recorded(self.network, tap.module) as outputs:
                self.evaluate(x, timesteps)
            total = total + self.as_map(outputs[0], tap, x).float().sum(dim=0)
        return total / recipe.draws

    @torch.inference_mode()
    def regenerate(self, state: DiffusionState, point: ModulationPoint, offsets: Tensor, recipe: Recipe) -> Tensor:
        """Replay the sampler from t_m, the offset added at t_m alone; float32 estimates of x_0 [N, C, h, w].

        Raises:
            GensegError: If the offsets are not on the point's grid.
        """
        grid = point.grid_for(*(side * self.codec.stride for side in state.latents.shape[2:]))
        if offsets.shape[1:] != grid:
            raise GensegError(f"masks must be on the grid {grid} of {point.module}, not {tuple(offsets.shape[1:])}")
        with self.injection() if recipe.injection else nullcontext():
            return torch.cat([self._replay(state, point, part, recipe) for part in offsets.split(recipe.batch_size)])

    def _replay(self, state: DiffusionState, point: ModulationPoint, offsets: Tensor, recipe: Recipe) -> Tensor:
        """Branches side by side; row 0 of every pass is the unmodified sample."""
        branches = state.latents[:1].expand(len(offsets), -1, -1, -1)
        added = torch.cat([torch.zeros_like(offsets[:1]), offsets])[:, None].to(self.device)  # [1 + N, 1, h, w]

        def offset(output: Tensor) -> Tensor:
            unit = output[0].float().square().mean().sqrt() if recipe.strength_unit == "rms" else 1.0
            shaped = added if output.ndim == 4 else added.flatten(2).transpose(1, 2)
            return output + (unit * shaped).to(output.dtype)

        for index, (t, before) in enumerate(zip(state.timesteps, state.previous, strict=True)):
            x = torch.cat([state.latents[index : index + 1], branches])
            times = t.expand(len(x))
            with edited(self.network, point.module, offset) if index == 0 else nullcontext():
                output = self.evaluate(x, times)
            means = self.schedule.step(x, output, times, before.expand(len(x)))
            branches = means[1:] + (state.latents[index + 1] - means[0])  # the residual, as this very pass rounds it
        return branches

    @torch.inference_mode()
    def decode(self, estimates: Tensor) -> Tensor:
        """Latents to images, float32, not clamped."""
        self.meter.decodes += len(estimates)
        return self.codec.decode(estimates).float()

    def as_map(self, output: Tensor, site: FeatureTap, latents: Tensor) -> Tensor:
        """A site's output as [N, C, h, w], whether the module puts out maps or tokens in row order."""
        if output.ndim == 4:
            return output
        height, width = (side * self.codec.stride for side in latents.shape[-2:])
        return tokens_to_map(output, site.grid_for(height, width))


def _generator(seed: int, purpose: str) -> torch.Generator:
    """Independent noise for each purpose, on the CPU so that every device draws the same."""
    stream = {"inversion": 0, "features": 1}[purpose]
    state = np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)
