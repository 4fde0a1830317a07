"""Overlapping masks at several levels of the merge tree: wholes, their parts, and the parts of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from genseg.checks import is_share
from genseg.errors import GensegError
from genseg.segmentation.masks import Mask
from genseg.segmentation.merging import merged
from genseg.segmentation.tree import NATURAL

if TYPE_CHECKING:
    from genseg.segmentation.result import Segmentation

LEVELS: Mapping[str, float] = MappingProxyType({"whole": NATURAL, "part": 0.4, "subpart": 0.0})


def hierarchy_of(segmentation: Segmentation, levels: Mapping[str, float]) -> list[Mask]:
    """Collect the masks of each level as `Segmentation.hierarchy` says."""
    heights = list(levels.values())
    if not all(map(is_share, heights)) or heights != sorted(heights, reverse=True):
        raise GensegError(f"levels need heights in [0, 1], the coarsest first, not {dict(levels)}")
    tree = segmentation.tree
    masks: dict[int, Mask] = {}
    above = None
    for level, height in levels.items():
        number = tree.number_at(height)
        nodes = tree.nodes(number)
        regions = np.sort(np.unique(nodes, return_index=True)[1]).tolist()  # the first region of each group
        for mask in merged(segmentation, tree.groups(number)).each_mask():
            region = regions[mask.label]
            node = int(nodes[region])
            if node in masks:
                continue
            parent = None if above is None else masks[int(above[region])]
            masks[node] = replace(mask, label=node, level=level, parent=parent, children=[])
            if parent is not None:
                parent.children.append(masks[node])
        above = nodes
    return sorted(masks.values(), key=lambda mask: -mask.area)
