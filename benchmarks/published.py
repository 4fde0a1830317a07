"""EmerDiff run as its authors' notebook runs it: the baseline that the engine is measured against.

One sample a pass, one perturbed branch after the other: every noise draw of the features through the whole U-Net,
all steps of the sampler inverted, a pass of its own that stores every query and key, then two branches a mask that
use what was stored. Nothing is repeated that the notebook does not repeat, and what can be fast within that order is:
fused attention, no autograd, any dtype and device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genseg.cluster import cluster
from genseg.errors import GensegError
from genseg.images import ImageLike, inner, load_image, mirrored, model_size, to_tensor
from genseg.interface import FeatureTap
from genseg.modulate import blurred, labels_at, masks_for, normalized
from genseg.recipe import Recipe
from genseg.sites import tokens_to_map
from genseg_backends.engine.noise import noise_generator
from genseg_backends.families.stable_diffusion import StableDiffusion
from tape import Tape, TapedAttention


@dataclass(frozen=True)
class Run:
    """One image through the published procedure.

    Attributes:
        labels: int32 (H, W) at the photo's own size.
        grid_labels: int32 (h, w): the low-resolution clusters.
        differences: float32 [K, H', W'] at the model's resolution.
        evaluations: Passes through the U-Net, one sample each.
        decodes: Images decoded to pixels.
        seconds: Wall time by stage.
    """

    labels: npt.NDArray[np.int32]
    grid_labels: npt.NDArray[np.int32]
    differences: Tensor
    evaluations: int
    decodes: int
    seconds: dict[str, float]


class Published:
    """The published procedure over the parts of a loaded backend.

    Of the recipe it takes what the procedure has: size, resize and margin of the image, tap, t_f and draws of the
    features, the clustering, num_inference_steps, t_m, point, strength, blur and normalise. Noise is the engine's own
    where the engine draws any, so that both can be compared pixel by pixel.

    Args:
        backend: Its network, codec, schedule and prompt are used; none of its methods is.
        recipe: The resolved recipe.
        seed: Of the noise.

    Raises:
        GensegError: For a recipe whose strength is not absolute, or without injection, or a U-Net with more inputs
            than latents, timestep and prompt.
    """

    def __init__(self, backend: StableDiffusion, recipe: Recipe, seed: int = 0) -> None:
        if recipe.strength_unit != "absolute" or not recipe.injection:
            raise GensegError("the published procedure has strength_unit=absolute and injection=true")
        if backend.network.config["time_cond_proj_dim"]:
            raise GensegError("the published procedure has no guidance embedding; use a Stable Diffusion 1.x or 2.x")
        self.backend, self.recipe, self.seed = backend, recipe, seed
        self.unet, self.codec = backend.network, backend.codec
        self.tap = backend.find_tap(recipe.tap)
        self.point = backend.find_point(recipe.point)
        parameter = next(self.unet.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.prompt = backend.prompt_embeds.to(self.device, self.dtype)
        self.abar: list[float] = backend.schedule.alpha_bar.tolist()
        stride = len(self.abar) // recipe.num_inference_steps
        every = [i * stride + 1 for i in range(recipe.num_inference_steps)]
        nearest = min(range(len(every)), key=lambda i: (abs(every[i] - recipe.t_m), i))
        self.every = every[::-1]  # all steps of the sampler, descending
        self.steps = every[nearest::-1]  # those at or below t_m
        self.evaluations = self.decodes = 0

    def __call__(self, image: ImageLike) -> Run:
        """Segment one image."""
        recipe, seconds = self.recipe, dict[str, float]()
        self.evaluations = self.decodes = 0
        picture = load_image(image, recipe.max_pixels)
        side = recipe.size or self.backend.image_size
        pixels = to_tensor(picture, model_size(*picture.size, side, self.backend.size_multiple, recipe.resize))
        with self._timed(seconds, "encode"):
            clean = self.encode(mirrored(pixels, recipe.margin))
        with self._timed(seconds, "features"):
            features = inner(self.features(clean), recipe.margin // self.tap.stride)
        with self._timed(seconds, "cluster"):
            grid_labels, embeddings = cluster(features, recipe)
        with self._timed(seconds, "inversion"):
            start, noise = self.invert(clean)
        with self._timed(seconds, "recording"):
            tape = self.record(start, noise)
        with self._timed(seconds, "modulate"):
            masks = masks_for(
                self.point, grid_labels, len(embeddings), (pixels.shape[2], pixels.shape[3]), recipe.margin
            )
            branches = self.perturbed(start, noise, tape, masks)
        del tape  # gigabytes, and no longer needed
        with self._timed(seconds, "decode"):
            differences = inner(self.differences(branches), recipe.margin)
        with self._timed(seconds, "labels"):
            labels = labels_at(normalized(differences, recipe.normalise), picture.height, picture.width).numpy()
        return Run(labels, grid_labels, differences, self.evaluations, self.decodes, seconds)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [1, 3, H, W] to x_0, float32 [1, C, h, w]."""
        return self.codec.encode(pixels.to(self.device)).float()

    @torch.inference_mode()
    def features(self, clean: Tensor) -> Tensor:
        """Section 3.2: what the tap puts out at t_f, averaged over draws that are run one at a time."""
        found: list[Tensor] = []
        handle = self.unet.get_submodule(self.tap.module).register_forward_hook(lambda *call: found.append(call[2]))
        total = torch.zeros((), device=self.device)
        noise = torch.randn((self.recipe.draws, *clean.shape[1:]), generator=noise_generator(self.seed, "features"))
        try:
            for draw in noise.to(self.device):
                self.evaluate(self.noised(clean, draw, self.recipe.t_f), self.recipe.t_f)
                total = total + as_map(found.pop(), self.tap, clean, self.codec.stride).float()[0]
        finally:
            handle.remove()
        return total / self.recipe.draws

    @torch.inference_mode()
    def invert(self, clean: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Section 3.3, edit-friendly inversion: every x_t has noise of its own, z_t = (x_{t-1} − μ_t(x_t)) / σ_t.

        Returns:
            x_{t_m}, and z_t by timestep; the steps above t_m are run as the notebook runs them, and never used.
        """
        shape = clean.shape[1:]
        shared = torch.randn((len(self.steps), *shape), generator=noise_generator(self.seed, "inversion"))
        above = torch.Generator().manual_seed(self.seed)
        extra = torch.randn((len(self.every) - len(self.steps), *shape), generator=above)
        draws = torch.cat([extra, shared]).to(self.device)
        x = {t: self.noised(clean, draw, t) for t, draw in zip(self.every, draws, strict=True)} | {0: clean}
        noise = {t: (x[s] - self.mean(x[t], t, s)) / self.sigma(t, s) for t, s in _pairs(self.every)}
        return x[self.steps[0]], noise

    @torch.inference_mode()
    def record(self, start: Tensor, noise: dict[int, Tensor]) -> Tape:
        """The unmodified run from x_{t_m} to x_0, every query and key of every attention kept."""
        tape = Tape()
        with self._taped(tape):
            self.denoise(start, noise, tape, None)
        return tape

    @torch.inference_mode()
    def perturbed(
        self, start: Tensor, noise: dict[int, Tensor], tape: Tape, masks: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Section 3.3: minus and plus branch of each mask, one after the other.

        Args:
            start: x_{t_m}.
            noise: z_t by timestep.
            tape: What `record` kept.
            masks: float32 [K, h, w] on the point's grid.

        Returns:
            Their x_0, float32 [1, C, h, w] each.
        """
        tape.replaying = True
        with self._taped(tape):
            return [
                (self.denoise(start, noise, tape, -offset), self.denoise(start, noise, tape, offset))
                for offset in self.recipe.strength * masks.to(self.device)
            ]

    @torch.inference_mode()
    def differences(self, branches: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Section 3.4: d_k(x, y) = ‖I⁻(x, y) − I⁺(x, y)‖₂ of the blurred images, float32 [K, H, W] on the CPU."""
        return torch.stack([(self.decode(minus) - self.decode(plus)).norm(dim=1)[0].cpu() for minus, plus in branches])

    def denoise(self, x: Tensor, noise: dict[int, Tensor], tape: Tape, offset: Tensor | None) -> Tensor:
        """From x_{t_m} to x_0, x_{t-1} = μ_t(x_t) + σ_t z_t; the offset [h, w] is added at t_m alone."""
        for index, (t, before) in enumerate(_pairs(self.steps)):
            tape.timestep = t
            with self._offset(offset if index == 0 else None):
                x = self.mean(x, t, before) + self.sigma(t, before) * noise[t]
        return x

    def decode(self, latents: Tensor) -> Tensor:
        """One latent to its image, float32 and blurred."""
        self.decodes += 1
        return blurred(self.codec.decode(latents).float(), self.recipe.blur)

    def evaluate(self, x: Tensor, t: int) -> Tensor:
        """One pass of one sample: float32 in and out, the network's dtype within."""
        self.evaluations += 1
        return self.unet(x.to(self.dtype), t, self.prompt).sample.float()

    def noised(self, clean: Tensor, noise: Tensor, t: int) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε."""
        return math.sqrt(self.abar[t]) * clean + math.sqrt(1 - self.abar[t]) * noise

    def sigma(self, t: int, before: int) -> float:
        """σ_t of the DDIM update with η = 1."""
        abar, earlier = self.abar[t], self.abar[before]
        return math.sqrt((1 - earlier) / (1 - abar) * (1 - abar / earlier))

    def mean(self, x: Tensor, t: int, before: int) -> Tensor:
        """μ_t(x_t) = √ᾱ_{t-1} x̂_0 + √(1-ᾱ_{t-1}-σ_t²) ε̂."""
        output, signal, spread = self.evaluate(x, t), math.sqrt(self.abar[t]), math.sqrt(1 - self.abar[t])
        match self.backend.schedule.prediction_type:
            case "v_prediction":
                clean, noise = signal * x - spread * output, signal * output + spread * x
            case "sample":
                clean, noise = output, (x - signal * output) / spread
            case _:
                clean, noise = (x - spread * output) / signal, output
        left = max(1 - self.abar[before] - self.sigma(t, before) ** 2, 0.0)
        return math.sqrt(self.abar[before]) * clean + math.sqrt(left) * noise

    @contextmanager
    def _taped(self, tape: Tape) -> Iterator[None]:
        """Every attention of the U-Net keeps to ``tape`` within the block."""
        kept = self.unet.attn_processors
        self.unet.set_attn_processor({name: TapedAttention(name, tape) for name in kept})
        try:
            yield
        finally:
            self.unet.set_attn_processor(kept)

    @contextmanager
    def _offset(self, offset: Tensor | None) -> Iterator[None]:
        """Within the block, ``offset`` [h, w] is added to all channels of the point's output."""
        if offset is None:
            yield
            return

        def add(_module: Any, _inputs: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            shaped = offset if first.ndim == 4 else offset.reshape(1, -1, 1)
            moved = first + shaped.to(first.dtype)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        handle = self.unet.get_submodule(self.point.module).register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _timed(self, seconds: dict[str, float], stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds[stage] = time.perf_counter() - start


def _pairs(steps: list[int]) -> list[tuple[int, int]]:
    """Each step with the one after it; the last goes to 0."""
    return list(zip(steps, [*steps[1:], 0], strict=True))


def as_map(output: Any, site: FeatureTap, latents: Tensor, stride: int) -> Tensor:
    """A site's output as [N, C, h, w], whether it is a map or tokens in row order."""
    output = output[0] if isinstance(output, tuple) else output
    height, width = (side * stride for side in latents.shape[-2:])
    return output if output.ndim == 4 else tokens_to_map(output, site.grid_for(height, width))
