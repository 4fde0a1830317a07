"""Segments from colours alone: k-means and superpixels."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from scipy.spatial import cKDTree
from skimage import segmentation

from genseg.cluster import cluster
from genseg.evaluation.baselines.pooling import masks_with
from genseg.evaluation.scene import Masks, Scene

FITTED = 128 * 128  # pixels that k-means is fitted to at most
TRIES = 8  # of SLIC, until its number of segments is K


def rgb_kmeans(scene: Scene) -> Masks:
    """The paper's k-means on colours in place of features, K and restarts those of the recipe.

    Centres are fitted to an image of at most `FITTED` pixels, for the restarts' sake, and are then every pixel's.
    """
    colours = scene.colours()
    scale = min((FITTED / (colours.width * colours.height)) ** 0.5, 1.0)
    fitted = colours.resize((round(scale * colours.width), round(scale * colours.height)), Image.Resampling.LANCZOS)
    points = torch.from_numpy(np.asarray(fitted, dtype=np.float32)).permute(2, 0, 1)
    labels, centres = cluster(points, scene.recipe)
    if fitted.size != colours.size:
        labels = cKDTree(centres).query(np.asarray(colours, dtype=np.float32))[1]
    return masks_with(scene, labels)


def slic(scene: Scene) -> Masks:
    """SLIC superpixels (Achanta et al., 2012) by scikit-image, asked for as many as make their number nearest to K.

    SLIC gives fewer segments than it is asked for, the more so the more it is asked for; the number to ask for is
    found by bisection.
    """
    image, wanted = np.asarray(scene.colours()), scene.n_clusters
    found, low, high = [], 1, 4 * wanted
    for asked in (wanted, *[0] * (TRIES - 1)):
        asked = asked or (low + high) // 2
        labels = segmentation.slic(image, n_segments=asked, start_label=0)
        found.append(labels)
        excess = int(labels.max()) + 1 - wanted
        low, high = (low, asked - 1) if excess > 0 else (asked + 1, high)
        if excess == 0 or low > high:
            break
    return masks_with(scene, min(found, key=lambda labels: abs(int(labels.max()) + 1 - wanted)))
