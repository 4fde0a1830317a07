"""Masks from maps or labels: segments numbered without gaps, and the mean of the features over each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.evaluation.method import Masks, MethodInput
from genseg.parts import components
from genseg.pipeline import find_labels
from genseg.segmentation.cues import contrast_and_colors
from genseg.segmentation.tree import Tree, tree_of
from genseg.upsampling.upsample import refined


def masks_of_maps(
    method_input: MethodInput, maps: Tensor, refine: str | None = None, merge_tree: bool = False
) -> Masks:
    """Refine maps [K, h, w], take their argmax at the input's size and merge small parts, as the recipe says.

    Args:
        method_input: The input.
        maps: float32 [K, h, w].
        refine: An upsampler in place of the recipe's `refine`.
        merge_tree: Whether maps are those of the input's clusters, whose labels have a merge tree.
    """
    maps = refined(maps, method_input.pixels, refine or method_input.recipe.refine)
    labels, _ = find_labels(maps, method_input.size, method_input.recipe)
    masks = masks_with(method_input, labels)
    if not (merge_tree and method_input.with_tree):
        return masks
    return replace(masks, tree=_tree(method_input, labels))


def _tree(method_input: MethodInput, labels: npt.NDArray[np.int32]) -> Tree:
    """Build the merge tree as `genseg.Segmentation.tree` does."""
    parts = components(labels)
    cluster = labels.ravel()[np.unique(parts, return_index=True)[1]]
    image = np.asarray(method_input.resized_image())
    return tree_of(parts, method_input.clusters.embeddings[cluster], *contrast_and_colors(image))


def masks_with(method_input: MethodInput, labels: npt.NDArray[np.integer[Any]]) -> Masks:
    """Turn labels [H, W] into masks, with embeddings if the input has features.

    Labels are renumbered in order, without gaps.
    """
    segments = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
    return Masks(segments, pooled(method_input.clusters.features, segments) if method_input.has_features else None)


def pooled(features: Tensor, segments: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Average the features, scaled bilinearly to the segments' resolution, over each segment.

    As scaling and averaging are linear, the segments are brought to the features' grid as weights. Features at the
    resolution of an image would take gigabytes.

    Args:
        features: float32 [C, h, w].
        segments: int32 [H, W] in 0..K-1; each number occurs.

    Returns:
        float32 [K, C].
    """
    rows, columns = (_bilinear(*sizes) for sizes in zip(features.shape[1:], segments.shape, strict=True))
    labels = torch.from_numpy(segments).long()
    weights = torch.stack([rows.T @ (labels == k).double() @ columns for k in range(int(labels.max()) + 1)])
    weights /= weights.sum(dim=(1, 2), keepdim=True)
    return (weights.flatten(1) @ features.cpu().double().flatten(1).T).float().numpy()


def _bilinear(size: int, target: int) -> Tensor:
    """Compute the matrix [target, size] that scales one axis."""
    scaled = F.interpolate(torch.eye(size, dtype=torch.float64)[None], target, mode="linear", align_corners=False)
    return scaled[0].T.contiguous()
