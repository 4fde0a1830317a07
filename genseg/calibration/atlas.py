"""A picture of a model: what its sites show of one image at several timesteps, and how well each would be clustered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from genseg.calibration.atlas_result import Atlas, AtlasCell
from genseg.calibration.criterion import SeedResult, UnsupervisedCriterion
from genseg.checks import checked_seed
from genseg.cluster import cluster
from genseg.cluster.channels import with_channels
from genseg.errors import GensegError
from genseg.images import ImageLike, inner
from genseg.interface import Backend, FeatureTap
from genseg.modulate import masks_for
from genseg.pipeline import Reading, check_margin, difference_maps, encode, exact_convolutions, read, refined_maps
from genseg.progress import Progress
from genseg.recipe import Recipe, RecipeLike, read_recipe
from genseg.registry import given_backend
from genseg.sites.intermediates import whole_timesteps

TIMESTEPS = (1, 101, 201, 401)
"""Timesteps that are shown unless others are asked for, beside the recipe's."""
ROWS = 32
"""Most sites that are shown unless some are named."""
QUICK: Mapping[str, Any] = {"n_clusters": 6, "n_init": 3, "draws": 1, "margin": 0, "difference": "one-sided"}
"""Recipe keys that are laid over the preset, and under what the caller gives: there are hundreds of cells."""


def atlas(
    image: ImageLike,
    backend: str | Backend = "tiny",
    sites: str | Sequence[str] | None = None,
    timesteps: Sequence[int] | None = None,
    *,
    scores: bool = True,
    recipe: RecipeLike = "fast",
    seed: int = 0,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
    options: Sequence[str] = (),
    **overrides: Any,
) -> Atlas:
    """Show what the sites of a model see of an image at several timesteps: which layer, and how much noise.

    Args:
        image: The image; see `genseg.images.load_image`.
        backend: A name from `genseg.list_backends`, or a loaded `Backend`.
        sites: As for `genseg.features`; None for the outputs and queries of all blocks, at most `ROWS` of them.
        timesteps: Whole numbers from 0 to 999; None for `TIMESTEPS` and the recipe's.
        scores: Whether each cell is scored as `genseg.calibrate` scores without ground truth: clusters of two seeds are
            modulated in one step. It takes most of the time.
        recipe: As for `genseg.Segmenter`. `QUICK` and the backend's own size are laid over a preset and the backend's
            calibration, and under the keys of a file or a mapping; a `Recipe` is taken as it is.
        seed: Fixes every random draw.
        model: As for `genseg.Segmenter`.
        device: As for `genseg.Segmenter`.
        dtype: As for `genseg.Segmenter`.
        progress: Progress callback: ``(stage, done, total)``.
        options: Recipe keys as ``key=value``, as on the command line.
        **overrides: Recipe keys as keywords, such as ``n_clusters=12``.

    Raises:
        GensegError: If the image, a site or the backend cannot be used.
    """
    seed, asked = checked_seed(seed), None if timesteps is None else whole_timesteps(timesteps)
    loaded = given_backend(backend, model=model, device=device, dtype=dtype)
    if not isinstance(recipe, Recipe):
        values = dict(recipe) if isinstance(recipe, Mapping) else read_recipe(recipe)
        recipe = {**QUICK, "size": loaded.image_size, **values}
    resolved = loaded.resolve(recipe, options, **overrides)
    check_margin(loaded, resolved)
    if resolved.n_clusters == "auto":
        raise GensegError("an atlas needs a number of clusters; give n_clusters=6")
    names = _in_order(loaded, loaded.site_names(sites)) if sites else _usual_sites(loaded, resolved)
    own = resolved.tap or next(iter(loaded.taps)), resolved.t_f
    steps = sorted({*(asked or (*TIMESTEPS, resolved.t_f))}) if loaded.capabilities.noise_axis else [resolved.t_f]
    reader = _CellReader(loaded, resolved, read(image, resolved, loaded.image_size, loaded.size_multiple), seed, scores)
    taps = {name: loaded.find_tap(name) for name in names}
    cells: dict[tuple[str, int], AtlasCell] = {}
    features = {step: reader.features(list(taps.values()), step) for step in steps}
    for row, name in enumerate(names):
        if progress is not None:
            progress("atlas", row, len(names))
        for cell in reader.row(name, {step: [each[row] for each in features[step]] for step in steps}):
            cells[name, cell.timestep] = cell
    return Atlas(loaded.name, reader.picture, resolved, own, taps, steps, cells)


def _usual_sites(backend: Backend, recipe: Recipe) -> list[str]:
    """Outputs and queries of blocks, with the backend's own tap; evenly spaced where there are many."""
    kinds, own = ("output", "query"), recipe.tap or next(iter(backend.taps))
    names = [name for name in backend.sites if name.rpartition(".")[2] in kinds and ".b" not in name]
    if len(names) > ROWS:
        names = [names[round(index)] for index in np.linspace(0, len(names) - 1, ROWS)]
    return _in_order(backend, [own, *(names or backend.taps)])


def _in_order(backend: Backend, names: Sequence[str]) -> list[str]:
    """Names of sites, each once, in the order in which the model runs them; paths of modules last."""
    order = {name: index for index, name in enumerate(backend.sites)}
    return sorted(dict.fromkeys(names), key=lambda name: order.get(name, len(order)))


class _CellReader:
    """Reads, clusters and scores the cells of one image; the image is encoded once a seed.

    Attributes:
        picture: The image at the model's size.
    """

    def __init__(self, backend: Backend, recipe: Recipe, reading: Reading, seed: int, scores: bool) -> None:
        self._backend, self._recipe, self._pixels = backend, recipe, reading.pixels
        self._criterion = UnsupervisedCriterion() if scores else None
        seeds = self._criterion.seeds if self._criterion else 1
        self._states = [encode(backend, reading.pixels, recipe, seed + number) for number in range(seeds)]
        self.picture = reading.picture.resize((reading.pixels.shape[3], reading.pixels.shape[2]))

    @exact_convolutions()
    def features(self, taps: Sequence[FeatureTap], step: int) -> list[list[Tensor]]:
        """Features of all sites at a timestep, by seed and site, by one pass a seed."""
        at_step = self._backend.resolve(self._recipe, t_f=step)
        by_seed = []
        for state in self._states:
            maps = zip(self._backend.read(state, taps, at_step), taps, strict=True)
            inside = [inner(each, self._recipe.margin // tap.stride) for each, tap in maps]
            by_seed.append([with_channels(each, self._recipe.channels).cpu() for each in inside])
        return by_seed

    def row(self, site: str, features: Mapping[int, Sequence[Tensor]]) -> list[AtlasCell]:
        """Cluster and score one site, whose features [C, h, w] are given by timestep and seed."""
        colors = principal_colors([by_seed[0] for by_seed in features.values()])
        cells = [AtlasCell(site, step, each, None) for step, each in zip(features, colors, strict=True)]
        try:
            clusters = [
                [cluster(each, self._recipe) for each in by_seed] for by_seed in zip(*features.values(), strict=True)
            ]
            cells = [replace(cell, grid_labels=each[0]) for cell, each in zip(cells, clusters[0], strict=True)]
            if self._criterion is None:
                return cells
            results = [self._modulated(*each) for each in zip(self._states, clusters, strict=True)]
            for index, by_seed in enumerate(zip(*results, strict=True)):
                score, terms = self._criterion.score([self._criterion.measure(0, self._pixels, by_seed)])
                cells[index] = replace(cells[index], score=score, terms=terms)
        except GensegError as error:  # this site fails; others may not
            cells = [replace(cell, reason="" if cell.score else str(error)) for cell in cells]
        return cells

    def _modulated(
        self, state: Any, clusters: Sequence[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]
    ) -> list[SeedResult]:
        """Modulate several clusterings of one state at once: the unmodified sample's passes are those of all."""
        backend, recipe, size = self._backend, self._recipe, (self._pixels.shape[2], self._pixels.shape[3])
        point = backend.find_point(recipe.point)
        masks = [masks_for(point, labels, len(means), size, recipe.margin) for labels, means in clusters]
        maps = inner(difference_maps(backend, state, torch.cat(masks), recipe), recipe.margin)
        parts = torch.split(maps, [len(each) for each in masks])
        return [
            SeedResult(labels, means, refined_maps(part, self._pixels, recipe).cpu())
            for (labels, means), part in zip(clusters, parts, strict=True)
        ]


def principal_colors(features: Sequence[Tensor]) -> list[npt.NDArray[np.uint8]]:
    """Color several feature maps by their first three principal components, the same for all.

    Args:
        features: float32 [C, h, w] each, of one shape; each is centered and scaled first, so that what they differ in
            altogether has no color.

    Returns:
        uint8 (h, w, 3) each.
    """
    channels, height, width = features[0].shape
    maps = torch.stack(
        [(each - each.mean((1, 2), keepdim=True)) / each.std(correction=0).clamp(min=1e-6) for each in features]
    )
    points = maps.flatten(2).transpose(1, 2).reshape(-1, channels).double().numpy()
    number = min(3, *points.shape)
    scores = np.zeros((len(points), 3))
    if points.any():
        scores[:, :number] = PCA(number, random_state=0).fit_transform(points)
    low, high = np.percentile(scores, (2, 98), axis=0)
    colors = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1)
    return list(np.round(255 * colors).astype(np.uint8).reshape(len(features), height, width, 3))
