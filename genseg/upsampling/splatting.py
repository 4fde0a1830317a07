"""Upsample Anything (Seo, Hamilton and Kim, arXiv 2511.16301): Gaussians that are fitted to each image.

Each cell of the grid has a Gaussian: its widths along two axes, their angle, and a width in color. Together they are
fitted so that the image is rebuilt from its own small copy. The features are then spread by the same weights.

Where the image is no multiple of the grid, it is scaled to one, and the result back.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 8  # cells that reach a pixel: those at most this far from its own, in cells (the authors')
STEPS, LEARNING_RATE = 51, 0.1  # of Adam, on the mean absolute error (the authors')
WIDTH, COLOR = 1.0, 0.12  # σ before the first step: in cells, and in RGB, each channel in [0, 1] (the authors')

OUTSIDE = 1e4  # squared distance in color to cells beyond the border: no weight
NEGLIGIBLE = 1e-20  # weights below are set to 0: products with them would be denormal numbers, which are slow

CHUNK = 2**20  # weights computed at once: with fewer, a CPU starts threads too often
CHUNK_ON_GPU = 2**26  # there fewer would leave it idle

OFFSETS = [
    (row, column)
    for row in range(-RADIUS, RADIUS + 1)
    for column in range(-RADIUS, RADIUS + 1)
    if row**2 + column**2 <= RADIUS**2
]


@torch.no_grad()
def upsample_anything(image: Tensor, features: Tensor) -> Tensor:
    """Fit Gaussians to an image, and upsample features by them.

    Args:
        image: float32 [1, 3, H, W] in [-1, 1].
        features: float32 [C, h, w].

    Returns:
        float32 [C, H, W].
    """
    size, grid = image.shape[2:], (features.shape[1], features.shape[2])
    sides = [math.ceil(side / cells) for side, cells in zip(size, grid, strict=True)]
    whole = (grid[0] * sides[0], grid[1] * sides[1])
    pixels = F.interpolate((image + 1) / 2, whole, mode="bilinear", align_corners=False)
    splats = Splats(pixels[0], grid)
    splats.fit()
    maps = splats.spread(features).reshape(-1, *grid, *sides).permute(0, 1, 3, 2, 4).reshape(1, -1, *whole)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]


class Splats:
    """A Gaussian for each cell of a grid over an image.

    Pixels are ordered by cell: s of them in each of h·w. A pixel gets the means of the cells at `OFFSETS` from its own,
    weighted by the softmax of the exponents of their Gaussians at this pixel (equation 3 of the paper).

    Args:
        image: float32 [3, H, W] in [0, 1]; H and W are multiples of the grid's sides.
        grid: (h, w).
    """

    def __init__(self, image: Tensor, grid: tuple[int, int]) -> None:
        rows, columns = image.shape[1] // grid[0], image.shape[2] // grid[1]
        cells = image.reshape(3, grid[0], rows, grid[1], columns).permute(0, 1, 3, 2, 4)
        small = F.interpolate(image[None], grid, mode="bilinear", align_corners=False)[0]
        self.pixels = cells.reshape(3, -1, rows * columns)
        self.colors = _neighbors(small)
        self.outside = _neighbors(torch.ones_like(small[:1]), beyond=0.0)[:, 0] == 0
        self.forms = _forms(rows, columns).to(image)
        self.gaussians = torch.zeros(4, *grid, device=image.device)  # logarithms of the widths, the angle, the color's
        self.gaussians[:2], self.gaussians[3] = math.log(WIDTH), math.log(COLOR)
        chunk = CHUNK if image.device.type == "cpu" else CHUNK_ON_GPU
        step = max(chunk // (len(OFFSETS) * rows * columns), 1)
        self.chunks = [slice(start, start + step) for start in range(0, grid[0] * grid[1], step)]

    def fit(self) -> None:
        """Fit the Gaussians so that the image is rebuilt from its small copy."""
        # A tensor made in inference mode takes no gradients.
        with torch.inference_mode(False), torch.enable_grad():
            gaussians = self.gaussians.clone().requires_grad_()
            optimizer = torch.optim.Adam([gaussians], lr=LEARNING_RATE)
            for _ in range(STEPS):
                optimizer.zero_grad()
                around = _neighbors(_precisions(gaussians))
                around.backward(self._gradient(around.detach()))  # type: ignore[no-untyped-call]
                optimizer.step()
        self.gaussians = gaussians.detach()

    def spread(self, features: Tensor) -> Tensor:
        """Spread features [C, h, w] over pixels: float32 [C, h·w, s]."""
        around, values = _neighbors(_precisions(self.gaussians)), _neighbors(features)
        parts = [_mean(self._weights(around, chunk)[0], values[:, :, chunk]) for chunk in self.chunks]
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def _gradient(self, around: Tensor) -> Tensor:
        """The gradient of the mean absolute error with respect to the cells' precisions ``around``: [n, 4, h·w].

        Written out, since a graph over all weights would be many times as large as a core's cache.
        """
        gradient = torch.empty_like(around)
        for chunk in self.chunks:
            colors = self.colors[:, :, chunk]
            weights, contrasts = self._weights(around, chunk)
            rebuilt = _mean(weights, colors)
            signs = (rebuilt - self.pixels[:, chunk]).sign() / self.pixels.numel()
            exponents = torch.einsum("cps,ncp->nps", signs, colors)  # the gradient with respect to these
            exponents.sub_((signs * rebuilt).sum(dim=0)).mul_(weights)
            gradient[:, :3, chunk] = torch.einsum("nps,nks->nkp", exponents, self.forms)
            gradient[:, 3, chunk] = exponents.mul_(contrasts).sum(dim=2)
        return gradient

    def _weights(self, around: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        """Weights of the cells around some cells' pixels, and squared distances in color to them: [n, p, s] each."""
        colors, pixels = self.colors[:, :, chunk, None], self.pixels[:, chunk]
        contrasts = (colors[:, 0] - pixels[0]).square_()
        for channel in (1, 2):
            contrasts += (colors[:, channel] - pixels[channel]).square_()
        contrasts[self.outside[:, chunk]] = OUTSIDE
        exponents = around[:, 3, chunk, None] * contrasts
        exponents.baddbmm_(around[:, :3, chunk].transpose(1, 2), self.forms)
        return F.threshold(torch.softmax(exponents, dim=0), NEGLIGIBLE, 0.0), contrasts


def _precisions(gaussians: Tensor) -> Tensor:
    """The inverse covariances (three entries of the matrix in the plane, and −½ σ⁻² in color) of `Splats.gaussians`."""
    across, down, color = torch.exp(-2 * gaussians[[0, 1, 3]])
    angle = math.pi * torch.tanh(gaussians[2])
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack(
        [
            cosine**2 * across + sine**2 * down,
            cosine * sine * (across - down),
            sine**2 * across + cosine**2 * down,
            -0.5 * color,
        ]
    )


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    """Weighted means [C, p, s] of values [n, C, p], by weights [n, p, s]."""
    return torch.einsum("nps,ncp->cps", weights, values)


def _forms(rows: int, columns: int) -> Tensor:
    """−½ (x², 2xy, y²) from each of `OFFSETS` to each pixel of the middle cell, in cells: [n, 3, rows·columns]."""
    down, right = torch.tensor(OFFSETS, dtype=torch.float32).T
    y = ((torch.arange(rows) + 0.5) / rows - 0.5 - down[:, None])[:, :, None].expand(-1, -1, columns)
    x = ((torch.arange(columns) + 0.5) / columns - 0.5 - right[:, None])[:, None, :].expand(-1, rows, -1)
    return -0.5 * torch.stack([x * x, 2 * x * y, y * y], dim=1).flatten(2)


def _neighbors(maps: Tensor, beyond: float | None = None) -> Tensor:
    """Maps [C, h, w] shifted to each of `OFFSETS`, with the nearest cell or a constant beyond borders: [n, C, h·w]."""
    height, width = maps.shape[1:]
    mode = {"mode": "replicate"} if beyond is None else {"value": beyond}
    padded = F.pad(maps[None], (RADIUS,) * 4, **mode)[0]
    shifts = [(RADIUS + row, RADIUS + column) for row, column in OFFSETS]
    return torch.stack([padded[:, top : top + height, left : left + width].flatten(1) for top, left in shifts])
