"""How good is a recipe? Judged by what the model does alone, or by ground truth (docs/calibration.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.color import rgb2lab
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from torch import Tensor

from genseg.cluster import masks_of
from genseg.errors import GensegError
from genseg.evaluation.mask_store import MethodMasks
from genseg.evaluation.method import Masks
from genseg.evaluation.metrics import IGNORE, Labels
from genseg.evaluation.protocols import check_protocols
from genseg.evaluation.scoring import scored
from genseg.modulate import labels_at

TruthMaps: TypeAlias = "npt.NDArray[np.integer[Any]] | Sequence[npt.NDArray[np.integer[Any]]]"
"""One map (H, W) of classes, 255 ignored; or one map of region numbers from each annotator."""


class SeedResult(NamedTuple):
    """What one seed's noise gives for an image.

    Attributes:
        grid_labels: int32 (h, w): the low-resolution clusters.
        embeddings: float32 (K, C): mean feature of each cluster.
        maps: float32 [K, H, W]: the difference maps as the argmax takes them.
    """

    grid_labels: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]
    maps: Tensor


class Criterion(Protocol):
    """Makes a score of what is found in images.

    Attributes:
        words: What the score is.
        seeds: With how many seeds each image is needed.
        digest: What sets this criterion apart from another with the same words.
    """

    words: str
    seeds: int
    digest: str

    def measure(self, index: int, pixels: Tensor, found: Sequence[SeedResult]) -> Any:
        """Measure one image: its number, float32 [1, 3, H, W] in [-1, 1], and what each seed gives for it."""

    def score(self, measured: Sequence[Any]) -> tuple[float, dict[str, float]]:
        """The score in [0, 1] and its terms, from what `measure` returned for each image.

        Raises:
            GensegError: If what was found cannot be scored.
        """


class UnsupervisedCriterion:
    """The geometric mean of three terms, so that none makes up for one that is 0; see `unsupervised_terms`."""

    words = "geometric mean of localisation, stability and explained colour variance"
    seeds = 2
    digest = ""

    def measure(self, index: int, pixels: Tensor, found: Sequence[SeedResult]) -> dict[str, float]:  # noqa: ARG002
        """The terms of one image."""
        return unsupervised_terms(pixels, found)

    def score(self, measured: Sequence[Mapping[str, float]]) -> tuple[float, dict[str, float]]:
        """The score and its terms, means over images."""
        terms = {name: float(np.mean([each[name] for each in measured])) for name in measured[0]}
        return float(np.prod(list(terms.values())) ** (1 / len(terms))), terms


class SupervisedCriterion:
    """The mean of mIoU and boundary F under a protocol, at the resolution of the model.

    Args:
        truths: The truth of each image: maps of classes for all, or annotators' maps for all.
        sizes: The (H, W) at which the model sees each image; truths are scaled to it, nearest pixel.
        protocol: One of `genseg.evaluation.protocols.PROTOCOLS`; one that learns from a set learns from these images.
        seed: Fixes its random draws.

    Raises:
        GensegError: If there are not as many truths as images, or one has no pixel that counts.
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
                maps = [np.where(each == 255, IGNORE, each) for each in maps]
            if not maps or any((each == IGNORE).all() for each in maps):
                raise GensegError(f"truth {number} has no pixel that counts; leave its image out")
            self._truths.append(maps)
        self._n_classes = 1 + max(int(maps[0].max()) for maps in self._truths) if classes else None
        content = b"".join(each.tobytes() for maps in self._truths for each in maps)
        self.digest = hashlib.sha256(content + f"{protocol} {self._n_classes}".encode()).hexdigest()
        self.words = f"mean of {protocol} mIoU and boundary F"
        self._protocol, self._seed = protocol, seed

    def measure(self, index: int, pixels: Tensor, found: Sequence[SeedResult]) -> MethodMasks:  # noqa: ARG002
        """One image's segments; the embedding of each is its cluster's."""
        return MethodMasks(Masks(found[0].maps.argmax(dim=0).int().numpy(), found[0].embeddings), None)

    def score(self, measured: Sequence[MethodMasks]) -> tuple[float, dict[str, float]]:
        """The score and its terms, over the set of images."""
        held, keys = _Held(self._truths, measured), [str(index) for index in range(len(measured))]
        found = scored(held, keys, [""], [self._protocol], self._n_classes, self._seed)
        for why in found.unmeasured.values():
            raise GensegError(why)
        (score,) = found.scores.values()
        terms = {f"{self._protocol}_{name}": float(score.values(name)[0]) for name in ("miou", "boundary_f")}
        return float(np.mean(list(terms.values()))), terms


@dataclass(frozen=True)
class _Held:
    """One setting's segments of each image, as `scored` reads them; images go by their number."""

    truths: Sequence[Sequence[Labels]]
    rows: Sequence[MethodMasks]

    def truth(self, key: str) -> Sequence[Labels]:
        """An image's truths."""
        return self.truths[int(key)]

    def row(self, method: str, key: str) -> MethodMasks:  # noqa: ARG002
        """An image's segments."""
        return self.rows[int(key)]


def check_protocol(protocol: str, truths: Sequence[TruthMaps] | None) -> None:
    """Refuse a protocol that `SupervisedCriterion` could not score by, before a model is loaded.

    Raises:
        GensegError: For an unknown protocol, or one that these truths cannot have.
    """
    given = () if truths is None else truths
    check_protocols([protocol], has_classes=all(isinstance(truth, np.ndarray) for truth in given))
    if truths is None and protocol != "oracle":
        raise GensegError("protocols measure against ground truth; give the truths too")


def unsupervised_terms(pixels: Tensor, found: Sequence[SeedResult]) -> dict[str, float]:
    """What can be said of one image's labels without ground truth.

    Args:
        pixels: float32 [1, 3, H, W] in [-1, 1].
        found: What each of two seeds gives for it, at the size of ``pixels``.

    Returns:
        ``localisation``: how well each difference map tells the pixels of its own mask from the others, 2 AUC - 1,
        the mean over masks; 0 for a map that has nothing to do with its mask.
        ``stability``: adjusted Rand index of the two seeds' labels.
        ``explained``: the share of the image's variance in Lab colours that lies between labels, not within them.
        The first and the last are means over seeds; all lie in [0, 1].
    """
    first, second = (each.maps.argmax(dim=0).flatten().numpy() for each in found)
    colours = rgb2lab((pixels[0].permute(1, 2, 0).numpy() + 1) / 2).reshape(-1, 3)
    return {
        "localisation": float(np.mean([_localisation(each) for each in found])),
        "stability": max(0.0, float(adjusted_rand_score(first, second))),
        "explained": float(np.mean([_explained(colours, labels) for labels in (first, second)])),
    }


def _localisation(found: SeedResult) -> float:
    height, width = found.maps.shape[1:]
    own = labels_at(masks_of(found.grid_labels, len(found.maps)), height, width).numpy().ravel()
    scores = np.zeros(len(found.maps))  # a mask without pixels has nothing to be told from
    for k in np.unique(own) if own.min() < own.max() else ():
        scores[k] = 2 * roc_auc_score(own == k, found.maps[k].numpy().ravel()) - 1
    return float(scores.clip(0).mean())


def _explained(colours: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """Of colours [N, 3], by labels [N]; 0 where there is one colour alone."""
    whole = ((colours - colours.mean(axis=0)) ** 2).sum()
    sizes = np.maximum(np.bincount(labels), 1)[:, None]
    means = np.stack([np.bincount(labels, weights=channel) for channel in colours.T], axis=1) / sizes
    within = ((colours - means[labels]) ** 2).sum()
    return float(max(0.0, 1 - within / whole)) if whole > 0 else 0.0


def _scaled(truth: Labels, size: tuple[int, int]) -> Labels:
    """A truth [H, W] at another size (height, width)."""
    picture = Image.fromarray(np.asarray(truth, dtype=np.int32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.NEAREST), dtype=np.int64)
