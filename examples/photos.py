"""Photos for train_tiny.py: read once, drawn as random views with noise, with the teacher's tokens of each view."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from PIL import Image, ImageOps
from torch import Tensor

NOISIEST = 600  # timestep above which too little of the image is left for a teacher
READ = (100, 300)  # timesteps around the recipe's `t_f`


@dataclass(frozen=True)
class Batch:
    """Views of photos, with noise.

    Attributes:
        latents: float32 [N, 3·patch², H/patch, W/patch].
        target: Their v-prediction targets, alike.
        timesteps: int64 [N].
        group: int64 [N], the number of each photo's group, or the one that stands for none.
        clear: bool [N], what is compared with the teacher: all but the noisiest.
        tokens: The teacher's tokens of these, [n, C, H/8, W/8]; None without a teacher.
    """

    latents: Tensor
    target: Tensor
    timesteps: Tensor
    group: Tensor
    clear: Tensor
    tokens: Tensor | None


def load_images(folder: Path, size: int) -> tuple[Tensor, Tensor, list[str]]:
    """All photos below ``folder`` as uint8 [N, 3, size, size], their group numbers [N], and the groups' names."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    if len(files) < 16:
        raise SystemExit(f"only {len(files)} photos (.jpg, .png, .webp) below {folder}; at least 16 are needed")
    names = sorted({p.parent.name for p in files})

    def read(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = torch.from_numpy(np.stack(list(pool.map(read, files)))).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor([names.index(p.parent.name) for p in files]), names


def random_views(n: int, device: torch.device) -> Tensor:
    """Random flips, and for half of the images a random crop of 40 to 100 % of each side; affine maps [n, 2, 3]."""
    crop = torch.rand(n, 1, device=device) < 0.5
    scale = torch.where(crop, 0.4 + 0.6 * torch.rand(n, 1, device=device), 1.0)
    aspect = torch.where(crop, 0.2 * torch.rand(n, 1, device=device) - 0.1, 0.0).exp()
    side = torch.cat([scale * aspect, scale / aspect], dim=1).clamp(max=1.0)
    shift = (2 * torch.rand(n, 2, device=device) - 1) * (1 - side)
    flip = 1 - 2 * (torch.rand(n, device=device) < 0.5).float()
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side[:, 0] * flip, side[:, 1], shift
    return theta


def resampled(maps: Tensor, views: Tensor, side: int) -> Tensor:
    """Resample images or token grids [N, C, H, W] to their views: [N, C, side, side]."""
    grid = F.affine_grid(views, [*maps.shape[:2], side, side], align_corners=False)
    return F.grid_sample(maps, grid, padding_mode="reflection", align_corners=False)


def noised(images: Tensor, timesteps: Tensor, scheduler: DDIMScheduler, patch: int, generator: torch.Generator | None):
    """Noisy latents and their v-prediction targets, both [N, 3·patch², H/patch, W/patch]."""
    latents = F.pixel_unshuffle(images, patch)
    noise = torch.randn(latents.shape, device=latents.device, generator=generator)
    return scheduler.add_noise(latents, noise, timesteps), scheduler.get_velocity(latents, noise, timesteps)


@dataclass(frozen=True)
class Photos:
    """Photos to draw batches from.

    Attributes:
        images: uint8 [M, 3, size, size].
        groups: int64 [M].
        none: The number that stands for no group.
        no_group: Share of samples without their group.
        scheduler: Adds the noise.
        patch: Side of the pixel squares folded into channels.
        teacher: Gives tokens of photos by their rows; None for none.
    """

    images: Tensor
    groups: Tensor
    none: int
    no_group: float
    scheduler: DDIMScheduler
    patch: int
    teacher: Callable[[Tensor], Tensor] | None

    def draw(self, n: int, scale: int, pool: int, *, read: bool = False) -> Batch:
        """Draw views of ``n`` of the first ``pool`` photos, scaled; with ``read``, at the noise of segmentation."""
        device, side = self.images.device, scale * self.images.shape[-1]
        rows = torch.randint(pool, (n,), device=device)
        group = torch.where(torch.rand(n, device=device) < self.no_group, self.none, self.groups[rows])
        random = torch.rand(n, device=device)  # without ``read``, more of the low noise that segmentation uses
        timesteps = (READ[0] + (READ[1] - READ[0]) * random if read else 1000 * random**1.5).long()
        views = random_views(n, device)
        latents, target = noised(
            resampled(self.images[rows].float() / 127.5 - 1, views, side), timesteps, self.scheduler, self.patch, None
        )
        clear = timesteps < NOISIEST
        tokens = resampled(self.teacher(rows[clear]), views[clear], side // 8) if self.teacher else None
        return Batch(latents, target, timesteps, group, clear, tokens)
