"""A generative adversarial network behind genseg's contract: its state is a latent vector."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genseg import sites
from genseg.batches import Batches
from genseg.errors import GensegError
from genseg.interface import Backend, Capabilities, FeatureTap, ModelCard, ModulationPoint
from genseg.recipe import Recipe
from genseg_dcgan.generator import LATENT, trained

SIDE = 64
SITES: dict[str, dict[str, Any]] = {
    f"block{block}": {"channels": 512 >> block, "stride": 16 >> block, "grid": (4 << block, 4 << block)}
    for block in range(4)
}
TAPS = {name: FeatureTap(f"{3 * block + 2}", **site) for block, (name, site) in enumerate(SITES.items())}  # ReLU's
POINTS = {
    name: ModulationPoint(f"{3 * block}", **site) for block, (name, site) in enumerate(SITES.items())
}  # before norm
RECIPE = {
    "n_clusters": 6,
    "n_init": 10,
    "draws": 1,
    "resize": "square",
    "tap": "block2",
    "point": "block2",
    "strength": 1.0,
    "strength_unit": "rms",
}
CANDIDATES, RESTARTS = 64, 4  # latents that are tried, and the best of them that are optimised
RATE, PRIOR = 0.1, 0.01  # of Adam; and the weight of |z|², which keeps z where the generator was trained


class DCGAN(Backend):
    """Images by a DCGAN: generated ones exactly, given ones as near as a latent vector comes to them.

    Args:
        network: What `genseg_dcgan.generator.generator` makes, with weights, in eval mode.
        steps: Steps of latent optimisation in `encode`.
    """

    taps, points, recipe = TAPS, POINTS, RECIPE
    image_size = size_multiple = SIDE
    capabilities = Capabilities(reconstructs="approximate", generates=True, noise_axis=False)

    def __init__(self, network: nn.Sequential, *, steps: int = 200) -> None:
        super().__init__("dcgan")
        self.network, self.steps_to_encode = network, steps

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def encode(self, image: Tensor, recipe: Recipe, seed: int) -> Tensor:  # noqa: ARG002
        """The latent [1, 100, 1, 1] whose image is nearest to ``image`` [1, 3, 64, 64], by Adam from several starts."""
        if image.shape[2:] != (SIDE, SIDE):
            height, width = image.shape[2:]
            raise GensegError(f"dcgan makes {SIDE}×{SIDE} pixels, not {width}×{height}; leave size, resize and margin")
        with torch.inference_mode(False), torch.enable_grad():
            target = image.to(self.device).clone()
            tried = _latents(CANDIDATES, seed).to(self.device)
            latents = tried[self._distance(tried, target).detach().argsort()[:RESTARTS]].requires_grad_()
            adam = torch.optim.Adam([latents], RATE)
            cooling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps_to_encode)
            for _ in range(self.steps_to_encode):
                adam.zero_grad()
                distances = self._distance(latents, target) + PRIOR * latents.square().mean(dim=(1, 2, 3))
                torch.autograd.backward(distances.sum())
                adam.step()
                cooling.step()
            best = self._distance(latents.detach(), target).argmin()
            return latents.detach()[best][None]

    def _distance(self, latents: Tensor, target: Tensor) -> Tensor:
        """Of the images of ``latents`` [N, 100, 1, 1] from ``target``: squared, at three scales, [N]."""
        self.meter.count(evaluations=len(latents))
        difference = self.network(latents) - target
        scales = (difference, F.avg_pool2d(difference, 4), F.avg_pool2d(difference, 16))
        return torch.stack([scale.square().mean(dim=(1, 2, 3)) for scale in scales]).sum(dim=0)

    def generate(self, prompt: str, seed: int, recipe: Recipe) -> Tensor:  # noqa: ARG002
        """A latent drawn from ``seed``."""
        if prompt:
            raise GensegError('dcgan knows no words; generate with the prompt "" and choose a seed')
        return _latents(1, seed).to(self.device)

    @torch.inference_mode()
    def features(self, state: Tensor, tap: FeatureTap, recipe: Recipe) -> Tensor:  # noqa: ARG002
        """Output of the tap's block, without the checkerboard that is in it.

        A transposed convolution of stride 2 makes even and odd positions with other weights, and k-means would find
        just that. Weights of 1, 2, 1 take out this one frequency and leave the others.
        """
        self.meter.count(evaluations=1)
        with sites.read(self.network, tap) as seen:
            self.network(state)
        maps = sites.as_map(seen[0], tap, tap.grid)[0]
        weights = torch.tensor([1.0, 2.0, 1.0], device=maps.device) / 4
        kernel = (weights[:, None] * weights).expand(1, 1, 3, 3)
        return F.conv2d(F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate"), kernel)[:, 0]

    @torch.inference_mode()
    def regenerate(self, state: Tensor, point: ModulationPoint, offsets: Tensor, recipe: Recipe) -> Tensor:
        """Images [N, 3, 64, 64] of the state's latent, an offset added in each."""

        def run(rows: Tensor) -> Tensor:
            with sites.offset(self.network, point, rows, recipe.strength_unit):
                images: Tensor = self.network(state.expand(len(rows), -1, -1, -1))
            self.meter.count(evaluations=len(rows))
            return images

        return Batches(recipe.batch_size or 64).map(run, offsets.to(self.device))

    def decode(self, estimates: Tensor) -> Tensor:
        """The estimates are images already."""
        self.meter.count(decodes=len(estimates))
        return estimates.float()


def _latents(number: int, seed: int) -> Tensor:
    """Latents [number, 100, 1, 1] from the distribution that the generator was trained on."""
    return torch.randn(number, LATENT, 1, 1, generator=torch.Generator().manual_seed(seed))


def dcgan(model: str | None = None, device: str | None = None, dtype: str | None = None, *, steps: int = 200) -> DCGAN:
    """Faces of 64×64 pixels by a DCGAN (MIT); segments what it generates, and photos by latent optimisation."""
    if dtype not in (None, "float32"):
        raise GensegError(f"dcgan runs in float32, which is quick enough; leave dtype={dtype} away")
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return DCGAN(trained(model).to(where), steps=steps)


dcgan.card = ModelCard(family="DCGAN", licence="MIT", parameters=3_576_704)  # type: ignore[attr-defined]
