"""Segments from colours alone: k-means and superpixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from scipy.spatial import cKDTree
from skimage import segmentation

from genseg.cluster import cluster
from genseg.evaluation.baselines.pooling import masks_with
from genseg.evaluation.method import Masks, MethodInput

FITTED = 128 * 128  # pixels that k-means is fitted to at most

TRIES = 6  # of SLIC in search of K segments, with either argument

COMPACTNESS = 10.0  # of SLIC, scikit-image's


def rgb_kmeans(scene: MethodInput) -> Masks:
    """The paper's k-means on colours in place of features, K and restarts those of the recipe.

    Centres are fitted to an image of at most `FITTED` pixels, for the restarts' sake, and are then every pixel's.
    """
    colours = scene.colours()
    scale = min((FITTED / (colours.width * colours.height)) ** 0.5, 1.0)
    fitted = colours.resize((round(scale * colours.width), round(scale * colours.height)), Image.Resampling.LANCZOS)
    points = torch.from_numpy(np.asarray(fitted, dtype=np.float32)).permute(2, 0, 1)
    labels, centres = cluster(points, replace(scene.recipe, position=0.0))
    if fitted.size != colours.size:
        labels = cKDTree(centres).query(np.asarray(colours, dtype=np.float32))[1]
    return masks_with(scene, labels)


def slic(scene: MethodInput) -> Masks:
    """SLIC superpixels (Achanta et al., 2012) by scikit-image, as near to K of them as was found.

    SLIC gives another number of segments than it is asked for. What to ask for is found by bisection, and where one
    number gives too few and the next too many, so is the compactness (10 unless needed, and less with fewer segments).
    """
    image, wanted = np.asarray(scene.colours()), scene.n_clusters
    found = []

    def excess(asked: float, compactness: float) -> int:
        labels = segmentation.slic(image, n_segments=round(asked), compactness=compactness, start_label=0)
        found.append((abs(int(labels.max()) + 1 - wanted), labels))
        return int(labels.max()) + 1 - wanted

    asked = _bisected(lambda n: excess(n, COMPACTNESS), wanted / 2, 4 * wanted)
    if all(away for away, _ in found):
        _bisected(lambda compactness: excess(asked, compactness), COMPACTNESS / 100, COMPACTNESS)
    return masks_with(scene, min(found, key=lambda one: one[0])[1])


def _bisected(excess: Callable[[float], int], low: float, high: float) -> float:
    """The lowest value between ``low`` and ``high`` with a nonnegative excess, as far as `TRIES` halvings tell."""
    for _ in range(TRIES):
        middle = math.sqrt(low * high)
        over = excess(middle)
        if over == 0:
            return middle
        low, high = (low, middle) if over > 0 else (middle, high)
    return high


def random(scene: MethodInput) -> Masks:
    """The Voronoi cells of K pixels drawn at random, by the scene's seed."""
    height, width = scene.size
    pixels = np.indices((height, width)).reshape(2, -1).T
    centres = np.random.default_rng(scene.seed).choice(len(pixels), size=scene.n_clusters, replace=False)
    nearest = cKDTree(pixels[centres]).query(pixels)[1]
    return masks_with(scene, nearest.reshape(height, width))


def grid(scene: MethodInput) -> Masks:
    """A regular grid of about K rectangles, as near to K as goes with cells that are nearly squares."""
    (height, width), wanted = scene.size, scene.n_clusters
    shapes = [(rows, max(round(wanted / rows), 1)) for rows in range(1, wanted + 1)]
    rows, columns = min(
        shapes, key=lambda s: abs(s[0] * s[1] - wanted) + abs(np.log(height / s[0]) - np.log(width / s[1]))
    )
    cell_rows, cell_columns = np.arange(height) * rows // height, np.arange(width) * columns // width
    return masks_with(scene, cell_rows[:, None] * columns + cell_columns)
