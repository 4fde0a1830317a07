"""Checks of taps and points, a part of `genseg.contract.checks`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.contract.context import CheckContext, ContractViolation, NotApplicable, require, synthetic_image
from genseg.errors import GensegError
from genseg.interface import FeatureTap, ModulationPoint

PARTS = 16  # of the image that are changed, one after the other
LEAST = 3.5  # standard errors that a displacement must stand out by
CLEARLY = 1.1  # how much more displaced tokens change than declared ones, where the declaration is wrong


def declarations(context: CheckContext) -> None:
    """Taps, points, sizes and the recipe are declared, and fit together."""
    backend = context.backend
    side, multiple = backend.image_size, backend.size_multiple
    require(isinstance(backend.name, str) and backend.name, "the backend has no name; pass one to super().__init__()")
    require(side % multiple == 0, f"image_size={side} is no multiple of size_multiple={multiple}")
    for kind, sites, cls in (("tap", backend.taps, FeatureTap), ("point", backend.points, ModulationPoint)):
        require(sites, f"there is no {kind}; declare at least one in {kind}s")
        for name, site in sites.items():
            require(isinstance(site, cls), f"{kind} {name} is a {type(site).__name__}; make it a {cls.__name__}")
            require(
                site.grid == site.grid_for(side, side) and multiple % site.stride == 0,
                f"{kind} {name} declares the grid {site.grid} and a stride of {site.stride} pixels, which do not "
                f"go with image_size={side} and size_multiple={multiple}",
            )
    backend.find_tap(context.recipe.tap)
    backend.find_point(context.recipe.point)


def sites_are_as_declared(context: CheckContext) -> None:
    """All sites have the channels and grids that they declare, also on an image that is not square."""
    backend, sizes = context.backend, [context.pixels]
    if context.recipe.resize != "square":
        height, width = context.pixels.shape[2:]
        sizes.append(synthetic_image(height, width + backend.size_multiple))
    sites = [*backend.points.items(), *backend.taps.items(), *backend.sites.items()]
    for pixels in sizes:
        state = backend.encode(pixels, context.recipe, 0)
        for (name, site), features in zip(
            sites, backend.read(state, [site for _, site in sites], context.recipe), strict=True
        ):
            expected = (site.channels, *site.grid_for(*pixels.shape[2:]))
            require(
                tuple(features.shape) == expected,
                f"{name} gives features {list(features.shape)} of an image of {list(pixels.shape[2:])} pixels, where "
                f"{list(expected)} are declared; correct its channels, stride or grid",
            )
            require(features.dtype == torch.float32, f"{name} gives {features.dtype}; give float32")
            require(features.isfinite().all(), f"{name} gives features that are not finite")
            if site in backend.taps.values() and features[0].numel() > 1:
                spread = features.flatten(1).std(dim=1).max()
                require(spread > 0, f"{name} gives the same features everywhere; read another module")


def sites_are_read_together_as_alone(context: CheckContext) -> None:
    """Reading several sites at once gives what reading each alone gives."""
    backend, recipe = context.backend, context.recipe
    taps = list(dict.fromkeys([*backend.taps.values()][:1] + [*backend.taps.values()][-1:] + [context.point]))
    for tap, together in zip(taps, backend.read(context.state, taps, recipe), strict=True):
        require(
            torch.equal(together, backend.features(context.state, tap, recipe)),
            f"{tap.module} gives other features when it is read together with other sites; copy what hooks collect, "
            "for the model may write into it",
        )


def another_grid_is_refused(context: CheckContext) -> None:
    """Offsets that are not on the point's grid raise a `GensegError`."""
    height, width = context.point.grid_for(*context.pixels.shape[2:])
    try:
        context.regenerated(torch.zeros(1, width + 1, height))
    except GensegError:
        return
    raise ContractViolation(
        f"offsets of {width + 1}×{height} are taken where {height}×{width} is the grid; refuse them"
    )


def positions_are_the_images(context: CheckContext) -> None:
    """Taps and points address the image's own positions: no text tokens, no transposed grid."""
    backend, recipe = context.backend, context.recipe
    if backend.capabilities.reconstructs != "exact":
        raise NotApplicable("an approximate inversion may move everything when one part of the image changes")
    if not context.locality:
        raise NotApplicable("untrained weights need not be local")
    before = {name: backend.features(context.state, tap, recipe) for name, tap in backend.taps.items()}
    coarse = max(site.stride for site in (*backend.taps.values(), *backend.points.values()))
    height, width = (side // coarse for side in context.pixels.shape[2:])
    for row, column in ((0, width - 1), (height - 1, 0)):
        corner = torch.zeros(1, 1, height, width)
        corner[..., row, column] = 1
        where = F.interpolate(corner, context.pixels.shape[2:], mode="nearest-exact")
        state = backend.encode(context.pixels * (1 - 2 * where), recipe, 0)
        for name, tap in backend.taps.items():
            change = (backend.features(state, tap, recipe) - before[name]).norm(dim=0).cpu()
            require(
                _mostly_inside(change, corner),
                f"changing a corner of the image changes what {name} reads elsewhere more than there; skip the text or "
                "class tokens with `first`, and check the order of the tokens; untrained weights need not be local "
                "(locality=False)",
            )
        for name, point in backend.points.items():
            grid = point.grid_for(*context.pixels.shape[2:])
            offsets = torch.cat([torch.zeros(1, *grid), F.interpolate(corner, grid, mode="nearest-exact")[0]])
            change = context.changes(context.regenerated(recipe.strength * offsets, point))[1]
            require(
                _mostly_inside(change, corner),
                f"an offset at a corner of {name} changes pixels elsewhere more than there; skip the text or class "
                "tokens with `first`, and check the order of the tokens",
            )


def tokens_are_where_they_are_declared(context: CheckContext) -> None:
    """Where a part of the image changes, its own tokens change most: `first` skips all others. Untrained weights do."""
    backend, recipe = context.backend, context.recipe
    if backend.capabilities.reconstructs != "exact":
        raise NotApplicable("an approximate inversion may move everything when one part of the image changes")
    sites = {**backend.taps, **backend.points}
    stride = max(site.stride for site in sites.values())
    height, width = (side // stride for side in context.pixels.shape[2:])
    cells = torch.linspace(0, height * width - 1, min(PARTS, height * width)).long()
    masks = F.one_hot(cells, height * width).float().reshape(-1, 1, height, width)
    before = backend.read(context.state, list(sites.values()), recipe)
    changes: list[list[Tensor]] = [[] for _ in sites]
    for mask in masks:
        where = F.interpolate(mask[None], context.pixels.shape[2:], mode="nearest-exact")
        state = backend.encode(context.pixels * (1 - 2 * where), recipe, 0)
        for of_site, old, new in zip(changes, before, backend.read(state, list(sites.values()), recipe), strict=True):
            of_site.append((new - old).norm(dim=0).cpu())
    alike: dict[tuple[int, int, str, str], dict[str, Tensor]] = {}
    for (name, site), each in zip(sites.items(), changes, strict=True):
        kind = name.split(".")[-1]
        for key in (kind, "any"):
            alike.setdefault((site.first, site.stride, site.module.split(".")[0], key), {})[name] = torch.stack(each)
    for (first, *_), group in alike.items():
        if len(group) == 1:
            continue  # one site alone says too little
        by = _displacement(list(group.values()), masks, first)
        require(
            not by,
            f"{', '.join(group)} read tokens {abs(by)} places {'before' if by > 0 else 'behind'} the image's; declare "
            f"first={first + by}, the number of all tokens before them: text, class, registers "
            "(for a stack of blocks by text_first and extra_tokens)",
        )


def _displacement(sites: list[Tensor], masks: Tensor, first: int) -> int:
    """Find by how many tokens the changes [N, h, w] at some sites lie behind their masks [N, 1, h', w'].

    Returns:
        The displacement that goes with most change, over all sites; 0 unless it is clearly more than at 0.
    """
    inside = F.interpolate(masks, sites[0].shape[1:], mode="nearest-exact").flatten(1)
    changes = torch.stack(sites).flatten(2).clamp(min=1e-12).log()  # [sites, N, tokens]
    changes -= changes.mean(dim=1, keepdim=True)  # some tokens change whatever part does,
    changes -= changes.mean(dim=2, keepdim=True)  # and some parts change all tokens
    changes = changes.mean(dim=0)

    def strength(by: int) -> float:
        """Mean change of the displaced tokens, in standard errors."""
        displaced = F.pad(inside, (by, -by)).bool()
        count = int(displaced.sum())
        mean = float(changes[displaced].mean() / changes.std()) if 3 * count >= inside.sum() else 0.0
        return mean * math.sqrt(count)

    best = max(range(-min(first, inside.shape[1] - 1), inside.shape[1]), key=strength)
    return best if strength(best) > max(LEAST, CLEARLY * strength(0)) else 0


def _mostly_inside(change: Tensor, mask: Tensor) -> bool:
    """Whether the mean of a map [H, W] is larger within the mask [1, 1, h, w] than outside."""
    inside = F.interpolate(mask, change.shape, mode="nearest-exact")[0, 0].bool()
    return bool(inside.all()) or bool(change[inside].mean() > change[~inside].mean())
