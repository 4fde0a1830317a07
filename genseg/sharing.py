"""Several masks in one branch, where what they change does not overlap."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import torch
import torch.nn.functional as F
from torch import Tensor


def shared(masks: Tensor, reach: int | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Unite masks whose surroundings do not overlap.

    A mask's surroundings are the grid cells at most ``reach`` from it. Masks whose surroundings overlap are neighbours
    in a graph, which is coloured greedily; masks of one colour share a branch.

    Args:
        masks: float32 [K, h, w] in {0, 1}, disjoint.
        reach: In grid cells; None for a branch of its own for each mask.

    Returns:
        The branches' masks [B, h, w], B ≤ K, and what turns the difference maps [B, H, W] of the branches into those
        of the masks [K, H, W]: each has its branch's differences within its surroundings, and nothing elsewhere.
    """
    if reach is None:
        return masks, lambda maps: maps
    around = F.max_pool2d(masks[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
    overlap = around.flatten(1) @ around.flatten(1).T > 0
    graph = nx.from_numpy_array(overlap.fill_diagonal_(False).cpu().numpy())
    colour = nx.greedy_color(graph, strategy="DSATUR")
    branch = torch.tensor([colour[k] for k in range(len(masks))])

    def attribute(maps: Tensor) -> Tensor:
        within = F.interpolate(around[None].to(maps.device), maps.shape[1:], mode="nearest-exact")[0]
        return maps[branch] * within

    return torch.stack([masks[branch == b].sum(dim=0) for b in range(max(colour.values()) + 1)]), attribute
