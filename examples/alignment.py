"""Representation alignment for train_tiny.py: a U-Net's features learn to resemble a vision encoder's patch tokens.

After REPA (arXiv 2410.06940), U-REPA (2503.18414) and iREPA (2512.10794). The teacher's tokens are the targets of
two small heads, on the middle block and on the upward block that attends; both are dropped after training.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from transformers import Dinov2Model

COMPONENTS = 128  # principal components of the tokens that are learned; they explain 96 % of DINOv2-small's
MEAN_REMOVED = 0.8  # of the image's mean token: what counts is how the cells of an image differ
NOISIEST = 600  # timestep above which too little of the image is left
COSINE, SIMILARITY = 0.5, 1.0  # weights of the losses, beside 1 for the prediction's
FIRST_PHOTOS, SAMPLES_PER_PHOTO = 2048, 8
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)


class Teacher:
    """Patch tokens of photos, each computed when first asked for and cached in a file.

    Args:
        folder: A checkpoint of `transformers.Dinov2Model`.
        photos: uint8 [N, 3, H, W].
        cache: Folder that gets a sub-folder for these photos and this teacher.
    """

    def __init__(self, folder: Path, photos: Tensor, cache: Path) -> None:
        network = Dinov2Model.from_pretrained(
            folder, dtype=torch.bfloat16, use_safetensors=True, trust_remote_code=False
        )
        self.network = network.to(photos.device).eval()
        self.photos, self.side = photos, self.network.config.image_size // self.network.config.patch_size
        digest = hashlib.blake2b(photos.cpu().numpy(), digest_size=4)
        for file in sorted(folder.glob("*.safetensors")):
            digest.update(file.read_bytes())
        cache = cache / f"tokens-{digest.hexdigest()}"
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / "basis.npy").exists():
            self._begin(cache)
        mean_and_basis = torch.from_numpy(np.load(cache / "basis.npy")).to(photos.device)
        self.mean, self.basis = mean_and_basis[:1], mean_and_basis[1:]
        self.tokens = np.load(cache / "tokens.npy", mmap_mode="r+")
        self.known = np.load(cache / "known.npy", mmap_mode="r+")

    def _begin(self, cache: Path) -> None:
        """Make empty files, and the principal components of the tokens of some photos."""
        count = len(self.photos)
        rows = torch.linspace(0, count - 1, min(count, 320)).long()
        tokens = torch.cat([self._encode(part) for part in rows.split(32)]).flatten(0, 1)
        mean = tokens.mean(0, keepdim=True)
        basis = torch.linalg.eigh(torch.cov((tokens - mean).mT)).eigenvectors.flip(1)[:, :COMPONENTS]
        open_memmap(cache / "tokens.npy", "w+", np.float16, (count, basis.shape[1], self.side, self.side))
        open_memmap(cache / "known.npy", "w+", np.bool_, (count,))
        np.save(cache / "basis.npy", torch.cat([mean, basis.mT]).cpu().numpy())

    @torch.inference_mode()
    def _encode(self, rows: Tensor) -> Tensor:
        """Tokens of the patches of some photos: float32 [n, side², C]."""
        mean, deviation = IMAGENET.to(self.photos.device)
        pixels = (self.photos[rows].float() / 255 - mean) / deviation
        pixels = F.interpolate(pixels, size=self.network.config.image_size, mode="bicubic", align_corners=False)
        return self.network(pixels.bfloat16()).last_hidden_state[:, 1:].float()

    def pool(self, samples: int) -> int:
        """Number of photos in use after ``samples``: it grows, because computing their tokens takes time."""
        return min(len(self.photos), FIRST_PHOTOS + samples // SAMPLES_PER_PHOTO)

    def __call__(self, rows: Tensor) -> Tensor:
        """Principal components of the tokens of the photos ``rows`` [n]: float32 [n, C, side, side]."""
        missing = rows[torch.from_numpy(~self.known[rows.cpu().numpy()])].unique()
        if len(missing):
            components = (self._encode(missing) - self.mean) @ self.basis.mT
            self.tokens[missing.cpu().numpy()] = components.mT.unflatten(2, (self.side, self.side)).half().cpu().numpy()
            self.known[missing.cpu().numpy()] = True
        return torch.from_numpy(self.tokens[rows.cpu().numpy()]).to(self.photos.device).float()


class Heads(nn.Module):
    """A convolution on the middle block and one on the upward block that attends, dropped after training."""

    def __init__(self, unet: UNet2DConditionModel, components: int) -> None:
        super().__init__()
        attention = next(block for block in unet.up_blocks if hasattr(block, "attentions")).attentions[1]
        self.middle = nn.Conv2d(unet.config["block_out_channels"][-1], components, 3, padding=1)
        self.up = nn.Conv2d(attention.in_channels, components, 3, padding=1)
        self._features: dict[str, Tensor] = {}
        unet.mid_block.register_forward_hook(lambda *call: self._features.update(middle=call[-1]))
        attention.register_forward_hook(lambda *call: self._features.update(up=call[-1][0]))

    def forward(self) -> dict[str, Tensor]:
        """Projections of the features of the last pass: [N, components, h, w] each."""
        return {name: getattr(self, name)(feature) for name, feature in self._features.items()}


def alignment_loss(projected: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Compare a head's output with the teacher's tokens, cell by cell and pair of cells by pair of cells.

    Args:
        projected: [N, C, h', w'], brought to the tokens' grid.
        tokens: [N, C, h, w].

    Returns:
        The loss, and the mean cosine of the cells.
    """
    student = F.interpolate(projected.float(), size=tokens.shape[2:], mode="bilinear", align_corners=False)
    teacher = tokens - MEAN_REMOVED * tokens.mean((2, 3), keepdim=True)
    student, teacher = (F.normalize(grid.flatten(2), dim=1) for grid in (student, teacher))
    cosine = (student * teacher).sum(1).mean()
    similarity = F.mse_loss(student.mT @ student, teacher.mT @ teacher)
    return COSINE * (1 - cosine) + SIMILARITY * similarity, cosine
