"""Upsample Anything (Seo, Hamilton and Kim, arXiv 2511.16301): Gaussians that are fitted to each image.

Each cell of the grid has a Gaussian: its widths along two axes, their angle, and a width in color. Together they are
fitted so that the image is rebuilt from its own small copy. The features are then spread by the same weights.

Two departures from the authors' code, for speed on a CPU: cells farther than `RADIUS` have no weight, and sides that
are no multiples of the grid's are scaled to multiples and back.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 4  # cells that reach a pixel: those at most this far from its own, in cells
STEPS, LEARNING_RATE = 51, 0.1  # of Adam, on the mean absolute error
WIDTH, COLOR = 1.0, 0.12  # σ before the first step: in cells, and in RGB, each channel in [0, 1]

OUTSIDE = 1e4  # squared distance in color to cells beyond the border: no weight

OFFSETS = [
    (row, column)
    for row in range(-RADIUS, RADIUS + 1)
    for column in range(-RADIUS, RADIUS + 1)
    if row**2 + column**2 <= RADIUS**2
]


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
    with torch.inference_mode(False), torch.enable_grad():
        pixels = (image.clone() + 1) / 2  # a clone takes gradients, in inference mode too
        pixels = F.interpolate(pixels, whole, mode="bilinear", align_corners=False)
        weights = fitted(pixels[0], grid)
    spread = torch.einsum("nps,ncp->cps", weights, _neighbors(features))
    maps = spread.reshape(-1, *grid, *sides).permute(0, 1, 3, 2, 4).reshape(1, -1, *whole)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]


def fitted(image: Tensor, grid: tuple[int, int]) -> Tensor:
    """Fit the Gaussians so that the image is rebuilt from its small copy (section 3).

    Args:
        image: float32 [3, H, W] in [0, 1]; H and W are multiples of the grid's sides.
        grid: (h, w).

    Returns:
        float32 [n, h·w, s]: the weight of each of `OFFSETS` in each of a cell's s pixels; their sum over n is 1.
    """
    rows, columns = image.shape[1] // grid[0], image.shape[2] // grid[1]
    blocks = image.reshape(3, grid[0], rows, grid[1], columns).permute(0, 1, 3, 2, 4).reshape(3, -1, rows * columns)
    small = F.interpolate(image[None], grid, mode="bilinear", align_corners=False)[0]
    colors = _neighbors(small)
    contrasts = sum((colors[:, c, :, None] - blocks[c]).square() for c in range(3))
    assert isinstance(contrasts, Tensor)
    contrasts[_neighbors(torch.ones_like(small[:1]), beyond=0.0)[:, 0] == 0] = OUTSIDE
    forms = _forms(rows, columns).to(image)
    gaussians = torch.zeros(4, *grid, device=image.device)  # the logarithms of both widths, the angle, the color's
    gaussians[:2], gaussians[3] = math.log(WIDTH), math.log(COLOR)
    gaussians.requires_grad_()
    optimizer = torch.optim.Adam([gaussians], lr=LEARNING_RATE)
    for _ in range(STEPS):
        rebuilt = torch.einsum("nps,ncp->cps", _weights(gaussians, forms, contrasts), colors)
        optimizer.zero_grad()
        F.l1_loss(rebuilt, blocks).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return _weights(gaussians.detach(), forms, contrasts)


def _weights(gaussians: Tensor, forms: Tensor, contrasts: Tensor) -> Tensor:
    """The softmax over cells of the exponents of their Gaussians (equation 3): [n, h·w, s]."""
    across, down, color = torch.exp(-2 * gaussians[[0, 1, 3]])
    angle = math.pi * torch.tanh(gaussians[2])
    cosine, sine = angle.cos(), angle.sin()
    precisions = [
        cosine**2 * across + sine**2 * down,
        cosine * sine * (across - down),
        sine**2 * across + cosine**2 * down,
        -0.5 * color,
    ]
    around = _neighbors(torch.stack(precisions))
    exponents = torch.bmm(around[:, :3].transpose(1, 2), forms) + around[:, 3, :, None] * contrasts
    return torch.softmax(exponents, dim=0)


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
