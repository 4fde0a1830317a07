"""A fully connected conditional random field over labels, colors and positions (Krähenbühl and Koltun, NIPS 2011).

Mean field as published, with one other approximation: its Gaussian filter over position and color runs on a bilateral
grid (Chen et al., 2007) in place of the permutohedral lattice. Vertices that no pixel is near are left out of it.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

ITERATIONS = 10
CERTAINTY = 0.7
CELL = 1.1  # of the grid, in σ: linear interpolation in and out and [1, 2, 1] / 4 between have a variance of 5/6 cells²

Floats = npt.NDArray[np.float64]


class Parameters(NamedTuple):
    """Weights of the labels and of the two Gaussian parameters.

    Attributes:
        smoothness: Weight of the kernel over positions alone.
        near: Its σ in pixels.
        appearance: Weight of the kernel over positions and colors.
        far: Its σ in pixels.
        color: Its σ in levels of 0..255.
        margin: Log odds of a pixel's label before refinement against each other one; None for a probability of
            `CERTAINTY`, of which the others share the rest.
    """

    smoothness: float = 3.0
    near: float = 3.0
    appearance: float = 10.0
    far: float = 80.0
    color: float = 13.0
    margin: float | None = None


PUBLISHED = Parameters()
STEGO = Parameters(smoothness=3, near=1, appearance=4, far=67, color=3, margin=2)
"""Those of STEGO's code, which CAUSE shares: probabilities of clusters are there the softmax of twice a cosine."""


def crf(
    segments: npt.NDArray[np.int32], colors: npt.NDArray[np.uint8], parameters: Parameters = PUBLISHED
) -> npt.NDArray[np.int32]:
    """Refine labels by `ITERATIONS` of mean field, with the Potts model and symmetric normalisation.

    Args:
        segments: int32 [H, W] in 0..K-1.
        colors: uint8 [H, W, 3].
        parameters: Weights and widths.

    Returns:
        int32 [H, W] in 0..K-1.
    """
    count = int(segments.max()) + 1
    if count == 1:
        return segments
    shape = (*segments.shape, count)
    certain = np.log(CERTAINTY / (1 - CERTAINTY) * (count - 1))
    margin = certain if parameters.margin is None else parameters.margin
    unary = np.zeros(shape)
    np.put_along_axis(unary, segments[..., None].astype(np.intp), margin, axis=2)
    grid = BilateralGrid(colors, parameters.far, parameters.color)
    ones = np.ones((*segments.shape, 1))
    far, near = 1 / np.sqrt(grid.filtered(ones)), 1 / np.sqrt(_blurred(ones, parameters.near))
    belief = softmax(unary, axis=2)
    for _ in range(ITERATIONS):
        appearance = parameters.appearance * far * grid.filtered(far * belief)
        smoothness = parameters.smoothness * near * _blurred(near * belief, parameters.near)
        belief = softmax(unary + appearance + smoothness, axis=2)
    labels: npt.NDArray[np.int32] = belief.argmax(axis=2).astype(np.int32)
    return labels


def _blurred(maps: Floats, deviation: float) -> Floats:
    """Filter maps [H, W, K] by the kernel over positions, with zeros beyond the borders."""
    blurred: Floats = gaussian_filter(maps, (deviation, deviation, 0), mode="constant")
    return blurred


class BilateralGrid:
    """A Gaussian filter over positions and colors, on a sparse grid in these five dimensions.

    Args:
        colors: uint8 [H, W, 3].
        position: σ in pixels.
        color: σ in levels of 0..255.
    """

    def __init__(self, colors: npt.NDArray[np.uint8], position: float, color: float) -> None:
        height, width, _ = colors.shape
        pixels = np.concatenate([np.indices((height, width)).reshape(2, -1), colors.reshape(-1, 3).T]) / CELL
        pixels /= np.array([position, position, color, color, color])[:, None]
        lowest = np.floor(pixels).astype(np.int64)
        shape = tuple(lowest.max(axis=1) + 4)  # a cell beyond each border, and the upper corners
        keys, weights = [], []
        for corner in product((0, 1), repeat=5):
            bits = np.array(corner)[:, None]
            keys.append(np.ravel_multi_index(tuple(lowest + bits + 1), shape))
            weights.append(np.abs(1 - bits - (pixels - lowest)).prod(axis=0))
        vertices, columns = np.unique(np.concatenate(keys), return_inverse=True)
        rows = np.tile(np.arange(height * width), len(keys))
        self._slice = sparse.csr_array((np.concatenate(weights), (rows, columns)), (height * width, len(vertices)))
        self._blurs = [_along(vertices, int(np.prod(shape[axis + 1 :]))) for axis in range(5)]

    def filtered(self, maps: Floats) -> Floats:
        """Filter maps [H, W, K]: float64 [H, W, K], up to a factor that is the same for all."""
        values = self._slice.T @ maps.reshape(-1, maps.shape[2])
        for blur in self._blurs:
            values = blur @ values
        filtered: Floats = (self._slice @ values).reshape(maps.shape)
        return filtered


def _along(vertices: npt.NDArray[np.int64], step: int) -> sparse.csr_array:
    """Build the filter [1, 2, 1] / 4 along one axis of the grid, where neighbors' keys differ by ``step``."""
    upper = np.searchsorted(vertices, vertices + step).clip(max=len(vertices) - 1)
    (has,) = np.nonzero(vertices[upper] == vertices + step)
    shape = (len(vertices), len(vertices))
    pairs = sparse.csr_array((np.full(len(has), 0.25), (has, upper[has])), shape)
    return sparse.csr_array(pairs + pairs.T + sparse.diags_array(np.full(len(vertices), 0.5)))
