"""Figures of oracle labels computed plainly, from whole maps and confusions: what protocols and scores must equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from genseg.evaluation.metrics import IGNORE, boundary_scores, covering
from genseg.parts import components


class ImageFigures(NamedTuple):
    """One image's figures by name, and its confusion [C, C]; None where annotators number regions of their own."""

    scalars: dict[str, float]
    table: Any


def oracle_labels(segments: Any, truth: Any) -> Any:
    """Each segment as the class that most of its measured pixels have, the smallest on a tie; else `IGNORE`."""
    labels = np.full(segments.shape, IGNORE)
    for segment in np.unique(segments):
        votes = truth[(segments == segment) & (truth != IGNORE)]
        if votes.size:
            labels[segments == segment] = np.bincount(votes).argmax()
    return labels


def confusion(truth: Any, predicted: Any, n_classes: int) -> Any:
    """Measured pixels by true and predicted class: [C, C]."""
    measured = truth != IGNORE
    table = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(table, (truth[measured], predicted[measured]), 1)
    return table


def mean_iou(table: Any) -> float:
    """Over the classes that a confusion has."""
    hits, union = np.diag(table), table.sum(axis=0) + table.sum(axis=1) - np.diag(table)
    return float((hits[union > 0] / union[union > 0]).mean()) if union.any() else np.nan


def accuracy(table: Any) -> float:
    """Of a confusion."""
    return float(np.trace(table) / table.sum()) if table.any() else np.nan


def measure_image(segments: Any, truths: Sequence[Any], n_classes: int | None) -> ImageFigures:
    """One image: means over its truths, each of classes, or one annotator's regions for ``n_classes=None``."""
    parts = components(segments)
    rows, table = [], None
    for truth in truths:
        if n_classes is None:
            truth = np.unique(truth, return_inverse=True)[1].reshape(truth.shape)
        predicted = oracle_labels(segments, truth)
        table = confusion(truth, predicted, n_classes or int(truth.max()) + 1)
        precision, recall, f = boundary_scores(predicted, truth)
        row = {"miou": mean_iou(table), "accuracy": accuracy(table)}
        row |= {"boundary_f": f, "boundary_precision": precision, "boundary_recall": recall}
        rows.append(row | {"covering": covering(parts, truth)} if n_classes is None else row)
    scalars = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return ImageFigures(scalars | {"components": int(parts.max()) + 1}, None if n_classes is None else table)


def set_figures(images: Sequence[ImageFigures], counts: Sequence[int] | None = None) -> dict[str, float]:
    """A set in which each image counts so often: mIoU and accuracy of all pixels together, or means over images."""
    repeated = np.repeat(np.arange(len(images)), np.ones(len(images), int) if counts is None else counts)
    drawn = [images[i] for i in repeated]
    known = {name: [i.scalars[name] for i in drawn if np.isfinite(i.scalars[name])] for name in images[0].scalars}
    figures = {name: float(np.mean(values)) if values else np.nan for name, values in known.items()}
    if images[0].table is not None:
        total = sum(image.table for image in drawn)
        figures |= {"miou": mean_iou(total), "accuracy": accuracy(total)} if drawn else {}
    return figures
