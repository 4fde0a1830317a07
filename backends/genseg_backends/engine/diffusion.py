"""Base of all diffusion backends: the noise schedule, inversion by residuals, and modulated denoising."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from genseg.batches import Batches, free_memory
from genseg.errors import GensegError
from genseg.interface import AttentionSite, Backend, FeatureTap, ModulationPoint
from genseg.recipe import Recipe
from genseg.sites import Prefix, offset, prefix_recorded, prefix_replayed
from genseg_backends.engine.attention import SharedQueriesAndKeys
from genseg_backends.engine.codecs import Codec
from genseg_backends.engine.noise import DiffusionState, noise_generator
from genseg_backends.engine.patches import check_patches, unfused
from genseg_backends.engine.schedule import Schedule

NETWORK_DEPTH = 40  # tensors of a network's widest level that a pass holds at once, for the estimate of memory
DECODER_WIDTH = 1024  # numbers for each pixel that a decoder holds at once
FASTEST, FASTEST_ON_CPU = 64, 10  # rows beyond which a pass gets no faster by the row


class DiffusionBackend(Backend):
    """Base of the diffusion families: subclasses say what the network is and how it is called.

    Attributes:
        network: The denoiser, a torch module whose modules taps and points name.
        reader: A copy of the denoiser in another dtype, to read features from; None for the denoiser itself.
        compiled: The denoiser compiled, for passes in which no site is read or edited; None for none.
        codec: Between pixels and latents.
        schedule: The noise schedule the network was trained with.
        conditioning: What the network is told beside x and the timestep, by its names; of one row each.
        guidance_scale: Weight of a prompt in `generate`, by classifier-free guidance; 1 for none.
        dtype: What the network computes in; everything between its passes is float32.
        width: Channels of the network at the latents' own resolution: what its memory goes by.
    """

    network: Any
    reader: Any = None
    compiled: Callable[..., Any] | None = None
    codec: Codec
    schedule: Schedule
    conditioning: Mapping[str, Tensor]
    guidance_scale: float = 1.0
    dtype: torch.dtype
    width: int

    @abstractmethod
    def call(self, network: Callable[..., Any], x: Tensor, timesteps: Tensor, **conditioning: Tensor) -> Tensor:
        """Call a network once, and return the output that `Schedule.step` takes, in the network's dtype.

        Args:
            network: The denoiser, or one like it.
            x: [N, C, h, w] in the network's dtype.
            timesteps: [N].
            **conditioning: As in `conditioning`, of N rows, floating-point ones in the network's dtype.

        Returns:
            [N, C, h, w].
        """

    def described(self, prompt: str) -> Mapping[str, Tensor]:
        """The conditioning for a prompt; ``""`` for that which images are segmented with.

        Raises:
            GensegError: If the backend takes no other.
        """
        if prompt:
            raise GensegError(f"backend {self.name!r} has no text encoder here, so it takes no prompt; leave it out")
        return self.conditioning

    def predict(
        self,
        x: Tensor,
        timesteps: Tensor,
        network: Any = None,
        conditioning: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """`call` with what is usual where nothing else is given; x [N, C, h, w], timesteps [N]."""
        rows = {
            name: (value.to(x.dtype) if value.is_floating_point() else value).expand(len(x), *value.shape[1:])
            for name, value in (self.conditioning if conditioning is None else conditioning).items()
        }
        network = self.network if network is None else network
        with unfused(network):
            return self.call(network, x, timesteps, **rows)

    @property
    def injection(self) -> SharedQueriesAndKeys:
        """Attention injection over the network's attentions."""
        return SharedQueriesAndKeys(self.network)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def steps(self, recipe: Recipe) -> int:
        """Steps from t_m down to 0."""
        return len(self.schedule.timesteps(recipe))

    def evaluate(
        self,
        x: Tensor,
        t: float,
        network: Callable[..., Any] | None = None,
        conditioning: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """One counted pass: x float32 [N, C, h, w] at timestep t to the network's output in float32."""
        output = self.predict(x.to(self.dtype), timesteps_of(t, x), network, conditioning).float()
        self.meter.count(evaluations=len(x))
        return output

    def step(self, x: Tensor, t: float, previous: float, network: Callable[..., Any] | None = None) -> Tensor:
        """The sampler's step without noise from timestep t to ``previous``, by one pass over x [N, C, h, w]."""
        return self.schedule.step(x, self.evaluate(x, t, network), t, previous)

    @torch.inference_mode()
    def encode(self, image: Tensor, recipe: Recipe, seed: int) -> DiffusionState:
        """Edit-friendly inversion (Huberman-Spiegelglas et al., 2304.06140) of the steps t ≤ t_m alone.

        Every x_t is x_0 with noise of its own, so no step above t_m is needed, and no pass: the residuals are
        differences to what the unmodified sample's own passes give, which `regenerate` makes anyway.
        """
        check_patches(self.network)  # made since it was loaded
        clean = self.codec.encode(image.to(self.device)).float()
        steps = self.schedule.timesteps(replace(recipe, replay_steps=None))
        replayed = self.schedule.timesteps(recipe)
        noise = torch.randn((len(steps), *clean.shape[1:]), generator=noise_generator(seed, "inversion"))
        noise = noise[torch.isin(steps, replayed)].to(clean.device)
        noisy = map(partial(self.schedule.noised, clean), noise.split(1), replayed.tolist())
        return DiffusionState(replayed, torch.cat([*noisy, clean]), torch.inference_mode()(self.step), seed)

    @torch.inference_mode()
    def regenerate(self, state: DiffusionState, point: ModulationPoint, offsets: Tensor, recipe: Recipe) -> Tensor:
        """Replay the sampler from t_m, the offset added at t_m alone; float32 estimates of x_0 [N, C, h, w].

        At every step the unmodified sample goes first, by itself: its pass gives the step's residual, the queries and
        keys that the branches use and, at t_m, what the network computes before the point. The branches follow in
        batches. Between steps they are latents alone, so memory hardly grows with their number.

        Raises:
            GensegError: If the offsets are not on the point's grid.
        """
        grid = self._grid(point, state.latents)
        if offsets.shape[1:] != grid:
            raise GensegError(f"masks must be on the grid {grid} of {point.module}, not {tuple(offsets.shape[1:])}")
        branches, batches = offsets.to(self.device), self._batches("branches", recipe, state.latents)
        with self._attention(recipe) as attention:
            for index, (t, before) in enumerate(state.steps):
                x, after = state.latents[index : index + 1], state.latents[index + 1]
                attention.leads = True
                if index == 0:
                    with prefix_recorded(self.network, point.module, side=point.side) as prefix:
                        mean = self.step(x, t, before)
                    step = partial(self._offset_step, x, t, before, point, prefix, recipe)
                else:
                    mean = self.step(x, t, before)
                    step = partial(self.step, t=t, previous=before, network=self.compiled)
                attention.leads = False
                branches = batches.map(step, branches) + (after - mean)
        return branches

    def _attention(self, recipe: Recipe) -> AbstractContextManager[Any]:
        """Attention injection, or what stands in for it where every row attends to itself."""
        return self.injection.under_way() if recipe.injection else nullcontext(SimpleNamespace(leads=True))

    def _offset_step(
        self,
        x: Tensor,
        t: float,
        before: float,
        point: ModulationPoint,
        prefix: Prefix,
        recipe: Recipe,
        offsets: Tensor,
    ) -> Tensor:
        """`step` from one x once per offset [N, h, w], computed from the point on."""
        rows = prefix_replayed(prefix, len(offsets))
        with rows, offset(self.network, point, offsets, recipe.strength_unit):
            return self.step(x.expand(len(offsets), -1, -1, -1), t, before)

    @torch.inference_mode()
    def generate(self, prompt: str, seed: int, recipe: Recipe) -> DiffusionState:
        """Sample an image from noise, and keep what the recipe's steps need of the way: no inversion.

        Every step of the sampler is run, with a prompt under classifier-free guidance. The replay under the usual
        conditioning gives the image back exactly, by its residuals.

        Args:
            prompt: What the image shows; ``""`` for the conditioning that images are segmented with.
            seed: What the noise is drawn from.
            recipe: The resolved recipe that the state will be used with.

        Raises:
            GensegError: If there is a prompt and no text encoder.
        """
        check_patches(self.network)
        conditioning, draw = self.described(prompt), noise_generator(seed, "generation")
        blank = torch.zeros(1, 3, self.image_size, self.image_size, device=self.device)
        shape = self.codec.encode(blank).shape
        x = torch.randn(shape, generator=draw).to(self.device)
        steps, replayed = self.schedule.sampler(recipe.num_inference_steps).tolist(), self.schedule.timesteps(recipe)
        latents = []
        for t, before in pairwise([*steps, 0]):
            if t in replayed:
                latents.append(x)
            output = self.evaluate(x, t, conditioning=conditioning)
            if prompt and self.guidance_scale != 1:
                null = self.evaluate(x, t)
                output = null + self.guidance_scale * (output - null)
            noise = torch.randn(shape, generator=draw).to(x)
            x = self.schedule.step(x, output, t, before) + self.schedule.deviation(t, before) * noise
        return DiffusionState(replayed, torch.cat([*latents, x]), torch.inference_mode()(self.step), seed)

    @torch.inference_mode()
    def decode(self, estimates: Tensor) -> Tensor:
        """Latents to images, float32, not clamped."""

        def decoded(part: Tensor) -> Tensor:
            images = self.codec.decode(part).float()
            self.meter.count(decodes=len(part))
            return images

        pixels = math.prod(estimates.shape[2:]) * self.codec.stride**2
        size = self._fitting(pixels * DECODER_WIDTH)
        return Batches(size, self._halved, ("decode", pixels)).map(decoded, estimates)

    def _grid(self, site: FeatureTap | AttentionSite, latents: Tensor) -> tuple[int, int]:
        """The grid of a site for latents [..., h, w]."""
        return site.grid_for(*(side * self.codec.stride for side in latents.shape[-2:]))

    def _batches(self, kind: str, recipe: Recipe, latents: Tensor) -> Batches:
        """Batches of as many rows as the recipe says or, if it leaves it open, as fit."""
        row = math.prod(latents.shape[2:]) * self.width * NETWORK_DEPTH
        return Batches(recipe.batch_size or self._fitting(row), self._halved, (kind, row))

    @cached_property
    def _halved(self) -> dict[Hashable, int]:
        """Batch sizes halved for want of memory, by kind of pass and size of image: no later image tries more."""
        return {}

    def _fitting(self, row: int) -> int:
        """Number of rows of ``row`` numbers that should fit in half of the free memory, at most as many as are fast."""
        most = min(self.capabilities.max_batch or FASTEST, FASTEST if self.device.type == "cuda" else FASTEST_ON_CPU)
        return max(1, min(most, free_memory(self.device) // (2 * row * self.dtype.itemsize)))


def timesteps_of(t: float, x: Tensor) -> Tensor:
    """The timestep of each row of x [N, ...], as networks take it: int64, or float32 where it is no whole number."""
    return torch.full((len(x),), t, dtype=torch.int64 if isinstance(t, int) else torch.float32, device=x.device)


def rows_of(numbers: Sequence[float], x: Tensor) -> Tensor:
    """Numbers as a row for each of x [N, ...], [N, len(numbers)], filled in on its device, where a copy would wait."""
    return torch.cat([x.new_full((len(x), 1), number) for number in numbers], dim=1)
