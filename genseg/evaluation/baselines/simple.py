"""Baselines without features: color k-means, superpixels, a grid and random cells."""

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

MAX_FITTED = 128 * 128  # pixels to which k-means is fitted

TRIES = 6  # runs of SLIC in each search for K segments

COMPACTNESS = 10.0  # scikit-image's default of SLIC


def rgb_kmeans(method_input: MethodInput) -> Masks:
    """Cluster colors in place of features by k-means, with the recipe's K and number of starts.

    For speed, centres are fitted to an image of at most `MAX_FITTED` pixels. Each pixel then takes the nearest centre.
    """
    image = method_input.resized_image()
    scale = min((MAX_FITTED / (image.width * image.height)) ** 0.5, 1.0)
    fitted = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.LANCZOS)
    points = torch.from_numpy(np.asarray(fitted, dtype=np.float32)).permute(2, 0, 1)
    labels, centers = cluster(points, replace(method_input.recipe, position=0.0))
    if fitted.size != image.size:
        labels = cKDTree(centers).query(np.asarray(image, dtype=np.float32))[1]
    return masks_with(method_input, labels)


def slic(method_input: MethodInput) -> Masks:
    """Compute SLIC superpixels (Achanta et al., 2012) with scikit-image, as close to K of them as possible.

    SLIC does not return exactly the number of segments of its argument. The argument is found by bisection. If no
    argument gives K segments, the compactness, 10 by default, is lowered by bisection too.
    """
    image, n_clusters = np.asarray(method_input.resized_image()), method_input.n_clusters
    tries = []

    def excess(n_segments: float, compactness: float) -> int:
        labels = segmentation.slic(image, n_segments=round(n_segments), compactness=compactness, start_label=0)
        tries.append((abs(int(labels.max()) + 1 - n_clusters), labels))
        return int(labels.max()) + 1 - n_clusters

    n_segments = _bisected(lambda n: excess(n, COMPACTNESS), n_clusters / 2, 4 * n_clusters)
    if all(deviation for deviation, _ in tries):
        _bisected(lambda compactness: excess(n_segments, compactness), COMPACTNESS / 100, COMPACTNESS)
    return masks_with(method_input, min(tries, key=lambda pair: pair[0])[1])


def _bisected(excess: Callable[[float], int], low: float, high: float) -> float:
    """Find the lowest value between ``low`` and ``high`` with a nonnegative excess, by `TRIES` halvings."""
    for _ in range(TRIES):
        middle = math.sqrt(low * high)
        over = excess(middle)
        if over == 0:
            return middle
        low, high = (low, middle) if over > 0 else (middle, high)
    return high


def random(method_input: MethodInput) -> Masks:
    """Compute the Voronoi cells of K pixels drawn at random."""
    height, width = method_input.size
    pixels = np.indices((height, width)).reshape(2, -1).T
    centers = np.random.default_rng(method_input.seed).choice(len(pixels), size=method_input.n_clusters, replace=False)
    nearest = cKDTree(pixels[centers]).query(pixels)[1]
    return masks_with(method_input, nearest.reshape(height, width))


def grid(method_input: MethodInput) -> Masks:
    """Divide the image into a regular grid of about K nearly square cells."""
    (height, width), n_clusters = method_input.size, method_input.n_clusters
    shapes = [(rows, max(round(n_clusters / rows), 1)) for rows in range(1, n_clusters + 1)]
    rows, columns = min(
        shapes, key=lambda s: abs(s[0] * s[1] - n_clusters) + abs(np.log(height / s[0]) - np.log(width / s[1]))
    )
    cell_rows, cell_columns = np.arange(height) * rows // height, np.arange(width) * columns // width
    return masks_with(method_input, cell_rows[:, None] * columns + cell_columns)
