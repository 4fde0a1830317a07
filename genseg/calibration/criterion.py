"""Criteria that score a recipe, with or without ground truth (docs/calibration.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.stats import rankdata
from skimage.color import rgb2lab
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from genseg.cluster import masks_of
from genseg.errors import GensegError
from genseg.evaluation.datasets.files import check_map
from genseg.evaluation.mask_store import MethodMasks
from genseg.evaluation.method import Masks
from genseg.evaluation.metrics import IGNORE, Labels
from genseg.evaluation.protocols import check_protocols
from genseg.evaluation.scoring import scored
from genseg.modulate import labels_at

TruthMaps: TypeAlias = "npt.NDArray[np.integer[Any]] | Sequence[npt.NDArray[np.integer[Any]]]"
"""Ground truth of an image: a map (H, W) of classes, 255 and numbers below 0 ignored; or a map of region numbers from
each annotator."""


class SeedResult(NamedTuple):
    """Clusters and difference maps of an image under one seed.

    Attributes:
        grid_labels: int32 (h, w): the low-resolution clusters.
        embeddings: float32 (K, C): mean feature of each cluster.
        maps: float32 [K, H, W]: the difference maps, normalised for the argmax.
    """

    grid_labels: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]
    maps: Tensor


class Criterion(Protocol):
    """Scores a recipe by its results on images.

    Attributes:
        description: Description of the score, in a few words.
        seeds: Number of seeds with which each image is segmented.
        digest: Digest that distinguishes criteria with the same description.
    """

    description: str
    seeds: int
    digest: str

    def measure(self, index: int, pixels: Tensor, results: Sequence[SeedResult]) -> Any:
        """Measure one image.

        Args:
            index: The image's number.
            pixels: float32 [1, 3, H, W] in [-1, 1].
            results: The result under each seed.
        """

    def score(self, measured: Sequence[Any]) -> tuple[float, dict[str, float]]:
        """Score a recipe.

        Args:
            measured: The result of `measure` for each image.

        Returns:
            The score in [0, 1], and its terms by name.

        Raises:
            GensegError: If the results cannot be scored.
        """


class UnsupervisedCriterion:
    """Scores a recipe without ground truth: the geometric mean of `unsupervised_terms`, which is 0 if one term is."""

    description = "geometric mean of localisation, stability and explained colour variance"
    seeds = 2
    digest = ""

    def measure(self, index: int, pixels: Tensor, results: Sequence[SeedResult]) -> dict[str, float]:  # noqa: ARG002
        """Compute the terms of one image."""
        return unsupervised_terms(pixels, results)

    def score(self, measured: Sequence[Mapping[str, float]]) -> tuple[float, dict[str, float]]:
        """Average the terms over images and score them."""
        terms = {name: float(np.mean([each[name] for each in measured])) for name in measured[0]}
        return float(np.prod(list(terms.values())) ** (1 / len(terms))), terms


class SupervisedCriterion:
    """Scores a recipe by ground truth: the mean of mIoU and boundary F under a protocol, at the model's resolution.

    Args:
        truths: The ground truth of each image: maps of classes for all, or annotators' maps for all.
        sizes: (H, W) of each image at the model's resolution, to which its ground truth is scaled (nearest pixel).
        protocol: One of `genseg.evaluation.protocols.PROTOCOLS`; protocols that learn from a dataset learn from these
            images.
        seed: Fixes the protocol's random draws.

    Raises:
        GensegError: If the numbers of images and ground truths differ, or a ground truth has no labeled pixel.
    """

    seeds = 1

    def __init__(
        self, truths: Sequence[TruthMaps], sizes: Sequence[tuple[int, int]], protocol: str = "oracle", seed: int = 0
    ) -> None:
        if len(truths) != len(sizes):
            raise GensegError(f"{len(sizes)} images need as many truths, not {len(truths)}; give one for each")
        classes = isinstance(truths[0], np.ndarray)
        self._truths: list[list[Labels]] = []
        for number, (truth, size) in enumerate(zip(truths, sizes, strict=True)):
            if isinstance(truth, np.ndarray) != classes:
                raise GensegError("truths must all be maps of classes, or all be lists of annotators' maps; not both")
            maps = [_scaled(each, size) for each in ([truth] if isinstance(truth, np.ndarray) else truth)]
            if classes:
                maps = [np.where((each == 255) | (each < 0), IGNORE, each) for each in maps]
            if not maps or any((each == IGNORE).all() for each in maps):
                raise GensegError(f"truth {number} has no labeled pixel; leave its image out")
            self._truths.append(maps)
        self._n_classes = 1 + max(int(maps[0].max()) for maps in self._truths) if classes else None
        content = b"".join(each.tobytes() for maps in self._truths for each in maps)
        self.digest = hashlib.sha256(content + f"{protocol} {self._n_classes}".encode()).hexdigest()
        self.description = f"mean of {protocol} mIoU and boundary F"
        self._protocol, self._seed = protocol, seed

    def measure(self, index: int, pixels: Tensor, results: Sequence[SeedResult]) -> MethodMasks:  # noqa: ARG002
        """Return the segments of one image, with the embeddings of their clusters."""
        return MethodMasks(Masks(results[0].maps.argmax(dim=0).int().numpy(), results[0].embeddings), None)

    def score(self, measured: Sequence[MethodMasks]) -> tuple[float, dict[str, float]]:
        """Score the segments of all images."""
        source, keys = _MasksInMemory(self._truths, measured), [str(index) for index in range(len(measured))]
        result = scored(source, keys, [""], [self._protocol], self._n_classes, self._seed)
        for why in result.unmeasured.values():
            raise GensegError(why)
        (score,) = result.scores.values()
        terms = {f"{self._protocol}_{name}": float(score.values(name)[0]) for name in ("miou", "boundary_f")}
        return float(np.mean(list(terms.values()))), terms


@dataclass(frozen=True)
class _MasksInMemory:
    """Segments of each image under one recipe, as a `genseg.evaluation.scoring.MaskSource`; keys are numbers."""

    maps: Sequence[Sequence[Labels]]
    segments: Sequence[MethodMasks]

    def truths(self, key: str) -> Sequence[Labels]:
        """Return the ground truth of an image."""
        return self.maps[int(key)]

    def masks(self, method: str, key: str) -> MethodMasks:  # noqa: ARG002
        """Return the segments of an image."""
        return self.segments[int(key)]


def check_protocol(protocol: str, truths: Sequence[TruthMaps] | None) -> None:
    """Check that `SupervisedCriterion` can score by a protocol, before a model is loaded.

    Raises:
        GensegError: If the protocol is unknown, or does not fit the ground truth.
    """
    check_protocols([protocol], has_classes=all(isinstance(truth, np.ndarray) for truth in truths or ()))
    if truths is None and protocol != "oracle":
        raise GensegError("protocols measure against ground truth; give the truths too")


def check_truths(truths: Sequence[TruthMaps], sizes: Sequence[tuple[int, int]]) -> None:
    """Check that ground truths are maps of their images, whose sizes (H, W) are their own.

    Raises:
        GensegError: If a map is of another kind or size; the message says which.
    """
    for number, (truth, size) in enumerate(zip(truths, sizes, strict=False)):
        for each in [truth] if isinstance(truth, np.ndarray) else truth:
            check_map(np.asarray(each), size, f"truth {number}")


def unsupervised_terms(pixels: Tensor, results: Sequence[SeedResult]) -> dict[str, float]:
    """Measure the labels of one image without ground truth.

    Args:
        pixels: float32 [1, 3, H, W] in [-1, 1].
        results: The results under two seeds, at the size of ``pixels``.

    Returns:
        Three terms in [0, 1]. ``localisation``: how well each difference map separates the pixels of its own mask from
        the others, 2 AUC - 1, averaged over masks and seeds; 0 for a map unrelated to its mask. ``stability``: adjusted
        Rand index between the labels of the two seeds. ``explained``: the share of the image's variance in Lab colors
        that lies between labels, not within them, averaged over seeds.
    """
    first, second = (each.maps.argmax(dim=0).flatten().numpy() for each in results)
    colors = rgb2lab((pixels[0].permute(1, 2, 0).numpy() + 1) / 2).reshape(-1, 3)
    return {
        "localisation": float(np.mean([_localisation(each) for each in results])),
        "stability": max(0.0, float(adjusted_rand_score(first, second))),
        "explained": float(np.mean([_explained(colors, labels) for labels in (first, second)])),
    }


def _localisation(result: SeedResult) -> float:
    height, width = result.maps.shape[1:]
    own = labels_at(masks_of(result.grid_labels, len(result.maps)), height, width).numpy().ravel()
    # The area under the curve is the sum of the mask's ranks, the Mann-Whitney statistic, and cheaper than the curve.
    ranks, scores = rankdata(result.maps.flatten(1).numpy(), axis=1), np.zeros(len(result.maps))
    for k in np.unique(own) if own.min() < own.max() else ():  # a mask without pixels, or with all of them, scores 0
        inside = own == k
        pixels, others = int(inside.sum()), int((~inside).sum())
        scores[k] = 2 * (ranks[k, inside].sum() - pixels * (pixels + 1) / 2) / (pixels * others) - 1
    return float(scores.clip(0).mean())


def _explained(colors: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """Share of the variance of colors [N, 3] that labels [N] explain; 0 if there is only one color."""
    whole = ((colors - colors.mean(axis=0)) ** 2).sum()
    sizes = np.maximum(np.bincount(labels), 1)[:, None]
    means = np.stack([np.bincount(labels, weights=channel) for channel in colors.T], axis=1) / sizes
    within = ((colors - means[labels]) ** 2).sum()
    return float(max(0.0, 1 - within / whole)) if whole > 0 else 0.0


def _scaled(truth: Labels, size: tuple[int, int]) -> Labels:
    """Scale a ground truth [H, W] to a size (height, width)."""
    picture = Image.fromarray(np.asarray(truth, dtype=np.int32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.NEAREST), dtype=np.int64)
