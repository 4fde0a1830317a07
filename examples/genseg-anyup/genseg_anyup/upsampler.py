"""AnyUp (Wimmer et al., ICLR 2026, arXiv 2510.12764) as an upsampler of genseg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genseg import GensegError, ModelCard
from genseg.interface import Upsampler

REPOSITORY = "wimmerth/anyup"
ENTRY = "anyup_multi_backbone"  # of its hubconf.py: trained on features of several encoders
WEIGHTS = f"https://github.com/{REPOSITORY}/releases/download/checkpoint_v2/anyup_multi_backbone.pth"

CARD = ModelCard(family="AnyUp", licence="CC BY 4.0", model=REPOSITORY)


class AnyUp(Upsampler):
    """An upsampler over a network that is called as AnyUp is.

    Args:
        network: Called with an image, standardized with ImageNet's statistics, features, ``output_size`` and
            ``q_chunk_size``.
        chunk: Queries that are attended to at once, as AnyUp counts them; None for all, which takes the most memory.
    """

    name, card = "anyup", CARD

    def __init__(self, network: torch.nn.Module, chunk: int | None = None) -> None:
        self.network, self.chunk = network.eval(), chunk

    @torch.inference_mode()
    def __call__(self, image: Tensor, features: Tensor) -> Tensor:
        weight = next(self.network.parameters())
        mean, deviation = (
            torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        pixels = (((image.cpu() + 1) / 2 - mean) / deviation).to(weight)
        size = (image.shape[2], image.shape[3])
        maps = self.network(pixels, features[None].to(weight), output_size=size, q_chunk_size=self.chunk)
        return maps[0].to(features)


def anyup(
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    weights: str | None = None,
    chunk: int | None = None,
) -> AnyUp:
    """AnyUp, trained for features of any model (CC BY 4.0).

    Args:
        model: A clone of AnyUp's repository; None for GitHub's, through torch.hub, which asks before it runs its code.
        device: A torch device; None for CUDA if it is available, else the CPU.
        dtype: Runs in float32.
        weights: The checkpoint; None for the released one, which is downloaded once.
        chunk: See `AnyUp`.

    Raises:
        GensegError: If the folder is no clone, or another dtype is asked for.
    """
    if dtype not in (None, "float32", "auto"):
        raise GensegError(f"anyup runs in float32; leave dtype={dtype} out")
    if model is not None and not (Path(model) / "hubconf.py").is_file():
        raise GensegError(f"{model} has no hubconf.py; clone https://github.com/{REPOSITORY} and give that folder")
    where: dict[str, Any] = {"source": "local"} if model else {}
    network = torch.hub.load(model or REPOSITORY, ENTRY, pretrained=False, **where)
    if weights is None:
        state = torch.hub.load_state_dict_from_url(WEIGHTS, map_location="cpu", weights_only=True)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    return AnyUp(network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), chunk)


anyup.card = CARD  # type: ignore[attr-defined]
