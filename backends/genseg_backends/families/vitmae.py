"""Masked autoencoders (He et al., 2111.06377) with every patch visible: no noise axis, and pixels from the decoder."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genseg.batches import Batches
from genseg.interface import AttentionSite, Backend, Capabilities, FeatureTap, ModelCard, ModulationPoint
from genseg.recipe import Recipe
from genseg.sites import as_map, offset, prefix_recorded, prefix_replayed, read_all
from genseg.sites.vocabulary import named, readable, shapes_recorded
from genseg_backends.engine.attention import SharedQueriesAndKeys
from genseg_backends.engine.attention_maps import attention_maps, attention_recorded
from genseg_backends.loading.checkpoints import load_part
from genseg_backends.loading.hub import extra, is_downloaded, the_hub
from genseg_backends.loading.placement import device_of, dtype_of
from genseg_backends.loading.revisions import REVISIONS

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of ImageNet's pixels in [0, 1], which standardize the models' inputs."""
ROWS = 16  # at once, unless the recipe says otherwise


class Visible(NamedTuple):
    """An image that the model sees all of.

    Attributes:
        image: float32 [1, 3, H, W] in [-1, 1].
        pixels: The same, standardized for the model.
    """

    image: Tensor
    pixels: Tensor


class ViTMAE(Backend):
    """A `ViTMAEForPreTraining` over in-memory parts, with its masking switched off for good.

    What the model makes of the image differs from the image; that difference is kept and given back with every branch,
    as diffusion backends keep a step's residual, so that a zero offset gives the image itself.

    Args:
        network: The model.
        name: The name under which results are reported.
        recipe: Recipe values, laid over the preset.
    """

    def __init__(self, network: Any, name: str = "vitmae", recipe: Mapping[str, Any] | None = None) -> None:
        super().__init__(name)
        self.network = network.eval()
        self._halved: dict[Hashable, int] = {}
        config = network.config
        config.mask_ratio = 0.0
        self.image_size = self.size_multiple = config.image_size
        self.recipe = {"draws": 1, "resize": "square", "strength": 10.0, "strength_unit": "rms"} | dict(recipe or {})
        self.capabilities = Capabilities(noise_axis=False)
        stride = config.patch_size
        site = (stride, (self.image_size // stride,) * 2)
        taps, points, depth = {}, {}, len(network.vit.layers)
        for stack, path, width in (
            ("encoder", "vit.layers", config.hidden_size),
            ("decoder", "decoder.decoder_layers", config.decoder_hidden_size),
        ):
            for index in range(len(network.get_submodule(path))):
                where = f"{path}.{index}"
                taps[f"{stack}{index}.output"] = FeatureTap(where, width, *site, first=1)
                points[f"{stack}{index}.self"] = ModulationPoint(
                    f"{where}.attention.o_proj", width, *site, side="input", first=1
                )
        tap, point = f"encoder{depth * 17 // 24}.output", "decoder0.self"
        self.taps = {tap: taps.pop(tap), **taps}
        self.points = {point: points.pop(point), **points}

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.network.device

    @property
    def injection(self) -> SharedQueriesAndKeys:
        """Attention injection over encoder and decoder."""
        return SharedQueriesAndKeys(self.network)

    def encode(self, image: Tensor, recipe: Recipe, seed: int) -> Visible:  # noqa: ARG002
        """The standardized image: nothing is drawn and nothing masked."""
        image = image.to(self.device)
        return Visible(image, ((image + 1) / 2 - _channels(MEAN, image)) / _channels(DEVIATION, image))

    def features(self, state: Visible, tap: FeatureTap, recipe: Recipe) -> Tensor:
        """The tap's tokens but the class token, as a map."""
        (features,) = self.read(state, [tap], recipe)
        return features

    @torch.inference_mode()
    def read(self, state: Visible, sites: Sequence[FeatureTap], recipe: Recipe, prompt: str = "") -> list[Tensor]:
        """`features` of several sites, by one pass that ends at the last of them."""
        if prompt:
            return super().read(state, sites, recipe, prompt)
        with read_all(self.network, sites) as tensors:
            self._reconstructed(state, 1)
        self.meter.count(evaluations=1)
        return [as_map(tensor, site, site.grid)[0].float() for tensor, site in zip(tensors, sites, strict=True)]

    @cached_property
    def module_sites(self) -> Mapping[str, FeatureTap]:
        """Inputs and outputs of modules that are maps of the image, found by one pass."""
        size = (self.image_size, self.image_size)
        with torch.inference_mode(), shapes_recorded(self.network) as tensors:
            self._reconstructed(self.encode(torch.zeros(1, 3, *size), self.resolve(), 0), 1)
        return readable(tensors, size, self.image_size, [*self.taps.values(), *self.points.values()])

    @cached_property
    def sites(self) -> Mapping[str, FeatureTap]:
        """Taps, points, and the outputs of all blocks' usual modules."""
        stacks = {"vit.layers": "encoder", "decoder.decoder_layers": "decoder"}
        return named(self.module_sites, {**self.points, **self.taps}, stacks)

    @cached_property
    def attention_sites(self) -> Mapping[str, AttentionSite]:
        """Self-attention of every block."""
        return {
            f"{site.rpartition('.')[0]}.self": AttentionSite(tap.module + ".attention", "image", tap.stride)
            for site, tap in self.sites.items()
            if site.endswith(".output")
        }

    @torch.inference_mode()
    def read_attention(
        self,
        state: Visible,
        sites: Sequence[AttentionSite],
        recipe: Recipe,
        prompt: str = "",
        words: str = "",
        *,
        heads: bool = False,
    ) -> list[Tensor]:
        """Attention between the image's patches, by one pass."""
        if prompt or words:
            return super().read(state, [], recipe, prompt or words)
        with attention_recorded(self.network, [site.module for site in sites]) as calls:
            self._reconstructed(state, 1)
        self.meter.count(evaluations=1)
        grid = (self.image_size // self.network.config.patch_size,) * 2
        return [attention_maps(calls[site.module], site, grid, 0, None, heads)[0] for site in sites]

    @torch.inference_mode()
    def regenerate(self, state: Visible, point: ModulationPoint, offsets: Tensor, recipe: Recipe) -> Tensor:
        """The image and what each offset changes in the model's reconstruction of it: float32 [N, 3, H, W]."""
        with self.injection.under_way() if recipe.injection else nullcontext(SimpleNamespace()) as attention:
            attention.leads = True
            with prefix_recorded(self.network, point.module, side=point.side) as prefix:
                unmodified = self._reconstructed(state, 1)
            attention.leads = False

            def branches(part: Tensor) -> Tensor:
                added = offset(self.network, point, part, recipe.strength_unit)
                with prefix_replayed(prefix, len(part)), added:
                    return self._reconstructed(state, len(part))

            changed = Batches(recipe.batch_size or ROWS, self._halved).map(branches, offsets.to(self.device))
        self.meter.count(evaluations=1 + len(offsets))
        return changed + (state.image - unmodified)

    def _reconstructed(self, state: Visible, rows: int) -> Tensor:
        """The model's reconstruction of the image in equal ``rows``: float32 [rows, 3, H, W] in [-1, 1]."""
        network = self.network
        patches, side = network.patchify(state.pixels), state.pixels.shape[2]
        order = torch.arange(patches.shape[1], device=self.device, dtype=torch.float32).expand(rows, -1)
        pixels = state.pixels.to(network.dtype).expand(rows, -1, -1, -1)
        output = network(pixels, noise=order).logits.float()
        if network.config.norm_pix_loss:  # the model knows patches but for their mean and deviation
            output = output * (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt() + patches.mean(dim=-1, keepdim=True)
        images = network.unpatchify(output, (side, side))
        return 2 * (images * _channels(DEVIATION, images) + _channels(MEAN, images)) - 1

    def decode(self, estimates: Tensor) -> Tensor:
        """Estimates are images."""
        self.meter.count(decodes=len(estimates))
        return estimates

    def preview(self, estimates: Tensor, decoder: str) -> Tensor:  # noqa: ARG002
        """The images themselves, which cost nothing."""
        return estimates


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values).to(like).view(1, 3, 1, 1)


def vitmae(
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    revision: str | None = None,
    offline: bool = False,
) -> ViTMAE:
    """MAE, ViT-L/16 at 224 pixels: a masked autoencoder (Apache-2.0)."""
    kind, where = extra("transformers").ViTMAEForPreTraining, device_of(device)
    with the_hub(model or CARD.model, offline=offline):
        pinned = CARD.revision if model is None and revision is None else revision
        network = load_part(kind, model or CARD.model, "", dtype_of(dtype, where), pinned)
    return ViTMAE(network.to(where))


CARD = ModelCard(
    "masked autoencoder",
    "Apache-2.0",
    "facebook/vit-mae-large",
    REVISIONS["facebook/vit-mae-large"],
    329_541_888,
    access="pickles",
)
vitmae.card = CARD  # type: ignore[attr-defined]
vitmae.has_weights = lambda: is_downloaded(CARD.model, "", CARD.revision)  # type: ignore[attr-defined]
