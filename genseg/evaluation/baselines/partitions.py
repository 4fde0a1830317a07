"""Partitions that see nothing: what any number of segments scores by itself."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from genseg.evaluation.baselines.pooling import masks_with
from genseg.evaluation.method import Masks, Scene


def random(scene: Scene) -> Masks:
    """The Voronoi cells of K pixels drawn at random, by the scene's seed."""
    height, width = scene.size
    pixels = np.indices((height, width)).reshape(2, -1).T
    centres = np.random.default_rng(scene.seed).choice(len(pixels), size=scene.n_clusters, replace=False)
    nearest = cKDTree(pixels[centres]).query(pixels)[1]
    return masks_with(scene, nearest.reshape(height, width))


def grid(scene: Scene) -> Masks:
    """A regular grid of about K rectangles, as near to K as goes with cells that are nearly squares."""
    (height, width), wanted = scene.size, scene.n_clusters
    shapes = [(rows, max(round(wanted / rows), 1)) for rows in range(1, wanted + 1)]
    rows, columns = min(
        shapes, key=lambda s: abs(s[0] * s[1] - wanted) + abs(np.log(height / s[0]) - np.log(width / s[1]))
    )
    cell_rows, cell_columns = np.arange(height) * rows // height, np.arange(width) * columns // width
    return masks_with(scene, cell_rows[:, None] * columns + cell_columns)
