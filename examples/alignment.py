"""Representation alignment for train_tiny.py: a U-Net's features learn to resemble a vision encoder's patch tokens.

After REPA (arXiv 2410.06940), U-REPA (2503.18414) and iREPA (2512.10794). The teacher's tokens are the targets of
two small heads, on the middle block and at the end of the upward block that attends; both are dropped after training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from transformers import Dinov2Model

from genseg.sites import recorded

COMPONENTS = 128  # principal components of the tokens that are learned; they explain 96 % of DINOv2-small's
MEAN_REMOVED = 0.8  # of the image's mean token: what counts is how the cells of an image differ
COSINE, SIMILARITY = 0.5, 1.0  # weights of the losses, beside 1 for the prediction's
ENLARGED = 2  # photos are shown to the teacher at so many times its own size, for finer tokens
RIDGE = 1e-3  # of the least squares that the heads begin with, relative to the mean variance of a feature
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
        self.photos, self.pixels = photos, ENLARGED * self.network.config.image_size
        self.side = self.pixels // self.network.config.patch_size
        digest = hashlib.blake2b(photos.cpu().numpy(), digest_size=4, salt=bytes([ENLARGED]))
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
        pixels = F.interpolate(pixels, size=self.pixels, mode="bicubic", align_corners=False)
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
    """A convolution on the middle block and one on the last attention of the upward block that attends.

    They see the features of the U-Net's last pass, and are dropped after training.
    """

    def __init__(self, unet: UNet2DConditionModel, components: int) -> None:
        super().__init__()
        index = next(i for i, block in enumerate(unet.up_blocks) if hasattr(block, "attentions"))
        attention = unet.up_blocks[index].attentions[-1]
        self._last = f"up_blocks.{index}.attentions.{len(unet.up_blocks[index].attentions) - 1}"
        self.middle = nn.Conv2d(unet.config["block_out_channels"][-1], components, 3, padding=1)
        self.up = nn.Conv2d(attention.in_channels, components, 3, padding=1)
        self.features: dict[str, Tensor] = {}
        unet.mid_block.register_forward_hook(lambda *call: self.features.update(middle=call[-1]))
        attention.register_forward_hook(lambda *call: self.features.update(up=call[-1][0]))

    def read(self, unet: UNet2DConditionModel, *inputs: Tensor) -> None:
        """Run the U-Net as far as the features, and no further."""
        with recorded(unet, self._last, stop=True):
            unet(*inputs)

    def loss(self, rows: Tensor, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare the features of the last pass with the teacher's tokens.

        Args:
            rows: bool [N], the images of the pass that count, n of them.
            tokens: [n, C, h, w].

        Returns:
            The sum of both heads' losses, and the mean cosine of each.
        """
        total, cosines = tokens.new_zeros(()), {}
        for name, features in self.features.items():
            aligned, cosines[name] = alignment_loss(features[rows], getattr(self, name)(features)[rows], tokens)
            total = total + aligned
        return total, cosines

    @torch.no_grad()
    def fit(self, passes: Iterable[Tensor]) -> None:
        """Begin with the least squares solution, since weights that are trained further come without heads.

        Args:
            passes: Tokens [N, C, h, w] of each batch, yielded after the batch's pass.
        """
        sums: dict[str, list[Tensor]] = {}
        for tokens in passes:
            for name, features in self.features.items():
                inputs = F.unfold(features.float(), 3, padding=1).mT.flatten(0, 1)
                inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
                targets = F.adaptive_avg_pool2d(_centered(tokens), features.shape[2:]).flatten(2).mT.flatten(0, 1)
                products = [inputs.mT @ inputs, inputs.mT @ targets]
                sums[name] = [a + b for a, b in zip(sums[name], products, strict=True)] if name in sums else products
        for name, (gram, cross) in sums.items():
            gram.diagonal().add_(RIDGE * gram.diagonal().mean())
            solution = torch.linalg.solve(gram.double(), cross.double()).float()
            head = getattr(self, name)
            head.weight.copy_(solution[:-1].mT.unflatten(1, head.weight.shape[1:]))
            head.bias.copy_(solution[-1])


def _centered(maps: Tensor) -> Tensor:
    """Maps [N, C, h, w] less most of their mean over the cells."""
    return maps - MEAN_REMOVED * maps.mean((2, 3), keepdim=True)


def alignment_loss(features: Tensor, projected: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Compare a head's output with the teacher's tokens cell by cell, and the features themselves by pairs of cells.

    K-means sees the features and no head: which cells are alike must show in them.

    Args:
        features: [N, D, h', w'], brought to the tokens' grid.
        projected: [N, C, h', w'], alike.
        tokens: [N, C, h, w].

    Returns:
        The loss, and the mean cosine of the cells.
    """
    size = tokens.shape[2:]
    own, student = (
        F.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False) for maps in (features, projected)
    )
    own, student, teacher = (
        F.normalize(maps.flatten(2), dim=1) for maps in (_centered(own), student, _centered(tokens))
    )
    cosine = (student * teacher).sum(1).mean()
    similarity = F.mse_loss(own.mT @ own, teacher.mT @ teacher)
    return COSINE * (1 - cosine) + SIMILARITY * similarity, cosine
