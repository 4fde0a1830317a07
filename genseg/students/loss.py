"""Loss of a student, and its agreement with the masks that it learns from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.evaluation.metrics import mean_iou, ratio


def weighted_loss(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy, the mean over a batch's pixels, each counting as its weight says: Σ w·ce / Σ w.

    Args:
        logits: float [N, C, h, w]; scaled bilinearly to the pixels.
        classes: int64 [N, H, W]; those of pixels with weight 0 are of no matter.
        weights: float32 [N, H, W], not negative; 0 for pixels to ignore.

    Returns:
        float32 []; 0 where all pixels are ignored.
    """
    entropy = F.cross_entropy(upsampled(logits, classes), classes.clamp(min=0), reduction="none")
    return (weights * entropy).sum() / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)


def upsampled(logits: Tensor, classes: Tensor) -> Tensor:
    """Logits at the resolution of a map of classes: float32 [N, C, H, W]."""
    return F.interpolate(logits.float(), classes.shape[-2:], mode="bilinear", align_corners=False)


def agreement(pairs: Iterable[tuple[Tensor, Tensor]], n_classes: int) -> dict[str, float]:
    """Measure how well predictions agree with masks, over all pixels together.

    Args:
        pairs: Predictions and targets, int64 of one shape each, -1 for no target.
        n_classes: C.

    Returns:
        ``miou``, the mean over the classes that either has, and ``accuracy``; NaN where there is no pixel.
    """
    table = torch.zeros(n_classes * n_classes, dtype=torch.int64)
    for predicted, target in pairs:
        known = target >= 0
        cells = target[known] * n_classes + predicted[known]
        table += torch.bincount(cells.cpu(), minlength=len(table))
    confusion = table.reshape(n_classes, n_classes).numpy()
    hits, target_all, predicted_all = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "miou": float(mean_iou(hits, target_all, predicted_all)),
        "accuracy": float(ratio(hits.sum(), target_all.sum())),
    }
