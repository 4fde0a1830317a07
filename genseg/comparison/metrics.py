"""Metrics of a comparison: their descriptions, and measuring them on saved segmentations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from genseg.comparison.inputs import Failure, Photo
from genseg.evaluation.agreement import ari, boundary_f, explains, matched_iou
from genseg.evaluation.bootstrap import Means, weights
from genseg.evaluation.mask_store import MethodMasks
from genseg.evaluation.method import Masks
from genseg.evaluation.metrics import Floats, Labels, interval
from genseg.evaluation.protocols import PROTOCOLS, Record
from genseg.evaluation.scoring import Pair, scored
from genseg.segmentation import Segmentation

if TYPE_CHECKING:
    from pandas import DataFrame

METRICS = {
    "segments": "clusters that at least one pixel has",
    "seconds": "wall time of segmenting one image, loading the model not counted",
    "evaluations": "rows sent through the network, each at one timestep",
    "decodes": "images decoded",
    "peak_memory": "bytes; on a GPU the most allocated for the image, on the CPU the process's largest size so far, "
    "so that a backend's is at least that of those before it",
    "reconstruction_rmse": "of what the model regenerates unperturbed, to its input image in [-1, 1]",
    "reconstruction_psnr": "of the same, in dB for a data range of 2",
    "ari": "adjusted Rand index over pixels",
    "matched_miou": "mean IoU over the one-to-one matching of segments, those left over counting as 0",
    "boundary_f": "F of boundaries within 2 pixels",
    "first_explains_second": "share of pixels right, each of the first's segments taking the second's it has most of",
    "second_explains_first": "the same the other way round",
}
"""Descriptions of the metrics that need no ground truth."""

GROUND_TRUTH_METRICS = {
    "miou": "mean IoU over classes",
    "accuracy": "share of measured pixels that are right",
    "boundary_f": "F of boundaries within 2 pixels",
}
"""Descriptions of the metrics against ground truth, whose names have their protocol's before them: ``oracle_miou``."""

RANGE = 2.0  # of pixels in [-1, 1]

FLOOR = 2.0**-24  # float32's rounding at 1: an RMSE below it counts as it, so that the PSNR stays finite


def describe(name: str) -> str:
    """Describe a metric, and its protocol."""
    if name in METRICS:
        return METRICS[name]
    protocol, _, figure = name.partition("_")
    return f"{GROUND_TRUTH_METRICS[figure]}; {PROTOCOLS[protocol].rule}"


class Tables(NamedTuple):
    """Tables of `Comparison`."""

    images: DataFrame
    pairs: DataFrame
    summary: DataFrame
    failures: DataFrame


def measure(
    photos: Sequence[Photo],
    backends: Sequence[str],
    protocols: Sequence[str],
    failures: Sequence[Failure],
    seed: int,
    folder: Path,
) -> Tables:
    """Measure the segmentations saved in a folder; those of one image are in memory at a time."""
    from pandas import DataFrame

    own: dict[tuple[str, str], dict[str, Any]] = {}
    both: dict[tuple[str, str, str], dict[str, Any]] = {}
    for photo in photos:
        labels = {}
        for name in backends:
            files = photo.files(folder, name)
            segmentation = Segmentation.load(files.result)
            labels[name] = segmentation.labels
            own[photo.name, name] = _cost(segmentation) | _reconstruction(files.sidecar)
        for first, second in combinations(backends, 2):
            both[photo.name, first, second] = _agreement(labels[first], labels[second])
    keys = [photo.name for photo in photos]
    summary = [row for name in backends for row in _averaged(name, "", keys, [own[key, name] for key in keys], seed)]
    if protocols:
        true, unmeasured = _against_truth(photos, backends, protocols, seed, folder, own)
        summary, failures = [*summary, *true], [*failures, *unmeasured]
    for pair in combinations(backends, 2):
        summary += _averaged(*pair, keys, [both[key, *pair] for key in keys], seed)
    return Tables(
        images=DataFrame([{"image": key, "backend": name} | metrics for (key, name), metrics in own.items()]),
        pairs=DataFrame(
            [{"image": key, "first": first, "second": second} | row for (key, first, second), row in both.items()],
            columns=["image", "first", "second", *PAIRWISE],
        ),
        summary=DataFrame(summary),
        failures=DataFrame(failures, columns=list(Failure._fields)),
    )


@dataclass(frozen=True)
class _Segmentations:
    """Masks and ground truth of a comparison, as `scored` reads them."""

    photos: Mapping[str, Photo]
    folder: Path

    def truths(self, key: str) -> Sequence[Labels]:
        """Return the ground truth of an image."""
        read = self.photos[key].truth
        assert read is not None
        return [read()]

    def masks(self, method: str, key: str) -> MethodMasks:
        """Return a backend's segments of an image, with the embeddings of their clusters."""
        segmentation = Segmentation.load(self.photos[key].files(self.folder, method).result)
        return MethodMasks(Masks(segmentation.labels, segmentation.embeddings), None)


def _against_truth(
    photos: Sequence[Photo],
    backends: Sequence[str],
    protocols: Sequence[str],
    seed: int,
    folder: Path,
    own: Mapping[tuple[str, str], dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Add metrics against ground truth to those of each image and backend.

    Returns:
        Rows of `Comparison.summary`, and the failures of backends under a protocol.
    """

    def add(key: str, pair: Pair, record: Record) -> None:
        backend, protocol = pair
        own[key, backend].update({f"{protocol}_{name}": record.metrics[name] for name in GROUND_TRUTH_METRICS})

    source = _Segmentations({photo.name: photo for photo in photos}, folder)
    n_classes = max(photo.classes for photo in photos)
    scores = scored(source, list(source.photos), backends, protocols, n_classes, seed, each=add)
    rows = [
        _summed(backend, "", f"{protocol}_{name}", score.values(name))
        for (backend, protocol), score in scores.scores.items()
        for name in GROUND_TRUTH_METRICS
    ]
    return rows, [
        Failure(backend, "", f"{protocol}: {reason}") for (backend, protocol), reason in scores.unmeasured.items()
    ]


def _cost(segmentation: Segmentation) -> dict[str, float]:
    cost = segmentation.cost
    counted = {"evaluations": cost.evaluations, "decodes": cost.decodes, "peak_memory": cost.peak_memory}
    return {"segments": segmentation.n_segments, "seconds": sum(cost.seconds.values())} | counted


def _reconstruction(sidecar: Path) -> dict[str, float]:
    return {f"reconstruction_{key}": value for key, value in json.loads(sidecar.read_bytes())["reconstruction"].items()}


PAIRWISE: dict[str, Callable[[Any, Any], float]] = {
    "ari": ari,
    "matched_miou": matched_iou,
    "boundary_f": boundary_f,
    "first_explains_second": explains,
    "second_explains_first": lambda first, second: explains(second, first),
}


def _agreement(first: Any, second: Any) -> dict[str, float]:
    return {name: measure(first, second) for name, measure in PAIRWISE.items()}


def _averaged(
    first: str, second: str, keys: Iterable[str], images: Sequence[Mapping[str, float]], seed: int
) -> list[dict[str, Any]]:
    """Return rows of `Comparison.summary`: means over images."""
    means = Means(images[0])
    for key, metrics in zip(keys, images, strict=True):
        means.add(metrics, weights(key, seed))
    return [_summed(first, second, figure, means.values(figure)) for figure in means.names]


def _summed(first: str, second: str, figure: str, values: Floats) -> dict[str, Any]:
    """Return a row of `Comparison.summary` from a metric of the set and of each resample, [1 + D]."""
    low, high = interval(values[1:])
    row = {"first": first, "second": second, "figure": figure, "mean": float(values[0]), "low": low, "high": high}
    return row | {"protocol": describe(figure)}


def reconstruction_error(image: Tensor, reconstruction: Tensor) -> tuple[float, float]:
    """RMSE and PSNR, in dB, of a reconstruction, which is clamped as a picture is.

    Args:
        image: float32 [1, 3, H, W] in [-1, 1]: what the model was given.
        reconstruction: Of the same shape, nominally in [-1, 1].

    Returns:
        The RMSE over pixels and channels, in units of [-1, 1], and the PSNR for a data range of 2; the same image has
        0 and 150.5 dB.
    """
    rmse = (reconstruction.clamp(-1, 1).double() - image.double()).square().mean().sqrt().item()
    return rmse, 20 * math.log10(RANGE / max(rmse, FLOOR))
