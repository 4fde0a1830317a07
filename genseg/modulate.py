"""From clusters to labels: offsets at each mask, difference maps and their argmax (EmerDiff, sections 3.3 and 3.4).

The backend adds the offsets inside the model, by `genseg.sites.offset`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.cluster import masks_of
from genseg.errors import GensegError
from genseg.images import mirrored
from genseg.interface import Backend, ModulationPoint
from genseg.recipe import Recipe

ROUNDING = 1e-5  # numerical noise between identical elements of a batch, in pixels of [-1, 1]

DECODE_BATCH = 8  # images decoded at once, of each sign of the offset


def masks_for(
    point: ModulationPoint, grid_labels: npt.NDArray[np.int32], n_clusters: int, size: tuple[int, int], margin: int
) -> Tensor:
    """Resample low-resolution clusters to masks on a modulation point's grid, mirrored into the margin.

    Args:
        point: The point where the offset will be added.
        grid_labels: int32 (h, w): the clusters of the image without its margin.
        n_clusters: K.
        size: (H, W) of the image without its margin, in pixels.
        margin: The recipe's `margin`, in pixels.

    Returns:
        float32 [K, h', w'] in {0, 1}.
    """
    masks = F.interpolate(masks_of(grid_labels, n_clusters)[None], point.grid_for(*size), mode="nearest-exact")[0]
    return mirrored(masks, margin // point.stride)


def perturbed(backend: Backend, state: Any, masks: Tensor, recipe: Recipe) -> Tensor:
    """Regenerate the image with an offset at each mask.

    Args:
        backend: The model.
        state: The result of ``backend.encode``.
        masks: float32 [K, h, w] in {0, 1} on the modulation point's grid.
        recipe: Gives `point`, `strength` and `difference`.

    Returns:
        Estimates as the backend regenerates them: [2K, ...], with −λ at each mask and then with +λ, if `difference` is
        "two-sided"; [1 + K, ...], once without an offset and then with +λ, if it is "one-sided".
    """
    offsets = recipe.strength * masks.to(backend.device)
    other_side = -offsets if recipe.difference == "two-sided" else torch.zeros_like(offsets[:1])
    point = backend.find_point(recipe.point)
    return backend.regenerate(state, point, torch.cat([other_side, offsets]), recipe)


def differences(
    backend: Backend,
    estimates: Tensor,
    size: tuple[int, int],
    recipe: Recipe,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Decode the estimates of `perturbed` and measure their differences.

    Args:
        backend: The model.
        estimates: The result of `perturbed`.
        size: (H, W) of the result.
        recipe: Gives `difference`, `decoder` and `blur`.
        progress: Progress callback: ``(done, total)`` in masks.

    Returns:
        float32 [K, H, W], on the backend's device.

    Raises:
        GensegError: If no mask changes any pixel, or the differences are not finite.
    """
    view = backend.decode if recipe.decoder == "full" else partial(backend.preview, decoder=recipe.decoder)
    if recipe.difference == "two-sided":
        base, plus = estimates.chunk(2)
        bases: Iterable[Tensor] = (view(part) for part in torch.split(base, DECODE_BATCH))
    else:
        plus, bases = estimates[1:], repeat(view(estimates[:1]))
    maps: list[Tensor] = []
    for minus, part in zip(bases, torch.split(plus, DECODE_BATCH), strict=False):
        change = blurred(minus - view(part), recipe.blur)  # equal to the difference of the blurred images
        maps.extend(change.square().sum(dim=1).sqrt())  # on a CPU torch's norm takes 200 times as long
        if progress is not None:
            progress(len(maps), len(plus))
    result = torch.stack(maps)
    if result.shape[1:] != size:
        result = F.interpolate(result[None], size, mode="bilinear", align_corners=False)[0]
    largest = result.max().item()  # also where one is NaN; the only number that is waited for
    if not math.isfinite(largest):
        raise GensegError("the difference maps are not finite; try dtype='float32' or a smaller strength")
    if recipe.strength > 0 and largest < ROUNDING:
        raise GensegError("an offset at this point changes no pixel; choose another point or a larger strength")
    return result


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Blur images [N, 3, H, W] by a 3×3 Gaussian of standard deviation ``sigma`` in pixels, with reflected borders."""
    if sigma == 0:
        return images
    side = math.exp(-0.5 / sigma / sigma)  # sigma² may be too small a number
    kernel = torch.full((3,), side, device=images.device)
    kernel[1].fill_(1.0)
    kernel /= 1 + 2 * side
    channels = images.shape[1]
    window = (kernel[:, None] * kernel).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), window, groups=channels)


def normalized(maps: Tensor, how: str) -> Tensor:
    """Normalise difference maps [K, H, W] before the argmax.

    Args:
        maps: float32 [K, H, W].
        how: The recipe's `normalise`: "none" to leave the maps as they are, else each is divided by its RMS.
    """
    if how == "none":
        return maps
    return maps / maps.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=torch.finfo(maps.dtype).tiny)


def labels_at(maps: Tensor, height: int, width: int) -> Tensor:
    """Scale maps [K, H', W'] bilinearly and take the argmax over k: int32 [height, width]."""
    return labels_and_confidence(maps, height, width)[0]


def labels_and_confidence(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Take the argmax of maps over k, with the confidence in it.

    Maps are scaled one at a time, so that memory does not grow with K, on the device that they are on.

    Args:
        maps: float32 [K, H', W'], not negative; scaled bilinearly.
        height: Height of the result, in pixels.
        width: Width of the result, in pixels.

    Returns:
        A pair: labels, int32 [height, width], and confidence, float32 [height, width] in [0, 1]: (d₁ − d₂) / d₁ of the
        largest and the second largest of each pixel's d_k, 0 where none is above 0.
    """
    best, second = torch.full((2, height, width), -torch.inf, device=maps.device)
    labels = torch.zeros(height, width, dtype=torch.int32, device=maps.device)
    for k, d in enumerate(maps):
        scaled = F.interpolate(d[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        labels.masked_fill_(scaled > best, k)
        torch.maximum(second, torch.minimum(best, scaled), out=second)
        torch.maximum(best, scaled, out=best)
    return labels, ((best - second) / best.clamp(min=torch.finfo(best.dtype).tiny)).clamp(0, 1)


def pack_masks(masks: Tensor, reach: int | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Pack masks whose surroundings do not overlap into shared branches, so that fewer images are regenerated.

    A mask's surroundings are the grid cells at most ``reach`` from it. Masks whose surroundings overlap are neighbors
    in a graph, which is colored greedily; masks of the same color share a branch.

    Args:
        masks: float32 [K, h, w] in {0, 1}, disjoint.
        reach: Radius of the surroundings, in grid cells; None to give each mask a branch of its own.

    Returns:
        A pair: the branches' masks [B, h, w], B ≤ K, and a function from the difference maps [B, H, W] of the branches
        to those of the masks [K, H, W]. A mask has its branch's differences within its surroundings, and 0 elsewhere.
    """
    if reach is None:
        return masks, lambda maps: maps
    import networkx as nx

    reach = min(reach, max(masks.shape[1:]))  # no farther than the grid, or pooling takes as long
    around = F.max_pool2d(masks[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
    overlap = around.flatten(1) @ around.flatten(1).T > 0
    graph = nx.from_numpy_array(overlap.fill_diagonal_(False).cpu().numpy())
    color = nx.greedy_color(graph, strategy="DSATUR")
    branch = torch.tensor([color[k] for k in range(len(masks))])

    def attribute(maps: Tensor) -> Tensor:
        within = F.interpolate(around[None].to(maps.device), maps.shape[1:], mode="nearest-exact")[0]
        return maps[branch] * within

    return torch.stack([masks[branch == b].sum(dim=0) for b in range(max(color.values()) + 1)]), attribute
