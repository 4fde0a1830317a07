"""From maps and labels to masks: segments numbered without gaps, and the mean of the features over each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.evaluation.method import Masks, MethodInput
from genseg.modulate import refined
from genseg.pipeline import find_labels


def masks_of_maps(scene: MethodInput, maps: Tensor) -> Masks:
    """Refine maps [K, h, w] and take their argmax at the scene's size, small parts merged, as the recipe says."""
    labels, _ = find_labels(refined(maps, scene.pixels, scene.recipe.refine), scene.size, scene.recipe)
    return masks_with(scene, labels)


def masks_with(scene: MethodInput, labels: npt.NDArray[np.integer[Any]]) -> Masks:
    """Labels [H, W] of a scene as its masks, with embeddings where the scene has features.

    Numbers that no pixel has are closed up, in order.
    """
    segments = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
    return Masks(segments, pooled(scene.clusters.features, segments) if scene.has_features else None)


def pooled(features: Tensor, segments: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """The mean over each segment of the features scaled bilinearly to the segments' resolution.

    Scaling and averaging are both linear, so it is the segments that are brought to the features' grid, as weights:
    features at the resolution of an image would take gigabytes.

    Args:
        features: float32 [C, h, w].
        segments: int32 [H, W] in 0..K-1, each number that of a pixel at least.

    Returns:
        float32 [K, C].
    """
    rows, columns = (_bilinear(*sizes) for sizes in zip(features.shape[1:], segments.shape, strict=True))
    labels = torch.from_numpy(segments).long()
    weights = torch.stack([rows.T @ (labels == k).double() @ columns for k in range(int(labels.max()) + 1)])
    weights /= weights.sum(dim=(1, 2), keepdim=True)
    return (weights.flatten(1) @ features.cpu().double().flatten(1).T).float().numpy()


def _bilinear(size: int, target: int) -> Tensor:
    """The matrix [target, size] by which one axis is scaled."""
    scaled = F.interpolate(torch.eye(size, dtype=torch.float64)[None], target, mode="linear", align_corners=False)
    return scaled[0].T.contiguous()
