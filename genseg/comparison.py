"""What comes of a comparison: figures of each image, backend and pair, as tables, files and pictures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import genseg
from genseg.evaluation.agreement import ari, boundary_f, explains, matched_iou
from genseg.evaluation.metrics import ImageFigures, interval, measure_image, resamples, set_figures
from genseg.files import write_whole
from genseg.images import ImageLike
from genseg.recipe import Recipe
from genseg.segmentation import Segmentation

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROTOCOLS = {
    "segments": "clusters that at least one pixel has",
    "seconds": "wall time of segmenting one image, loading the model not counted",
    "evaluations": "rows sent through the network, each at one timestep",
    "decodes": "images decoded",
    "peak_memory": "bytes; on a GPU the most allocated for the image, on the CPU the process's largest size so far, "
    "so that a backend's is at least that of those before it",
    "reconstruction_rmse": "of what the model regenerates unperturbed, to its input image in [-1, 1]",
    "reconstruction_psnr": "likewise, in dB for a data range of 2",
    "oracle_accuracy": "share of measured pixels, each segment given the class that most of its pixels have",
    "oracle_miou": "mean IoU over classes, segments given classes likewise; a set's is of its accumulated confusion",
    "oracle_boundary_f": "F of boundaries within 2 pixels, segments given classes likewise",
    "ari": "adjusted Rand index over pixels",
    "matched_miou": "mean IoU over the one-to-one matching of segments, those left over counting as 0",
    "boundary_f": "F of boundaries within 2 pixels",
    "first_explains_second": "share of pixels right, each of the first's segments taking the second's it has most of",
    "second_explains_first": "the same the other way round",
}
"""What each figure is."""

ORACLE = {"accuracy": "oracle_accuracy", "miou": "oracle_miou", "boundary_f": "oracle_boundary_f"}
"""Names here of figures of `genseg.evaluation.metrics`."""


class Failure(NamedTuple):
    """What is left out: an image, or for ``image=""`` a backend; ``backend=""`` where no backend is at fault."""

    backend: str
    image: str
    problem: str


class Files(NamedTuple):
    """Where one result is kept: the segmentation, and beside it what it depends on and its reconstruction error."""

    result: Path
    sidecar: Path


class Photo(NamedTuple):
    """An image to compare on.

    Attributes:
        name: Its name.
        source: What the caller gave.
        digest: SHA-256 of its pixels.
        truth: Reads its ground truth, int64 [H, W]; None where there is none.
        classes: One more than the largest class in it.
    """

    name: str
    source: ImageLike
    digest: str
    truth: Callable[[], npt.NDArray[np.int64]] | None
    classes: int

    def files(self, folder: Path, backend: str) -> Files:
        """Where a backend's result is kept."""
        return Files(folder / backend / f"{self.name}.npz", folder / backend / f"{self.name}.json")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several models on the same images. `PROTOCOLS` says what each figure is.

    Attributes:
        images: A row for each image and backend: ``image``, ``backend``, ``segments``, ``seconds``, ``evaluations``,
            ``decodes``, ``peak_memory``, ``reconstruction_rmse``, ``reconstruction_psnr``; with ground truth also
            ``oracle_accuracy``, ``oracle_miou`` and ``oracle_boundary_f``.
        pairs: A row for each image and pair of backends: ``image``, ``first``, ``second``, ``ari``, ``matched_miou``,
            ``boundary_f``, ``first_explains_second``, ``second_explains_first``.
        summary: A row for each figure of a backend (``first``; ``second`` is empty) or pair over the images:
            ``mean``, the bootstrap's 95 % interval from ``low`` to ``high``, and its ``protocol``.
        failures: What was left out, and why: ``backend``, ``image``, ``problem``.
        recipes: The resolved recipe of each backend, in the order in which they ran.
        seed: The seed.
        folder: Where the segmentations are kept.
    """

    images: DataFrame
    pairs: DataFrame
    summary: DataFrame
    failures: DataFrame
    recipes: Mapping[str, Recipe]
    seed: int
    folder: Path
    _scratch: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def segmentation(self, image: str, backend: str) -> Segmentation:
        """One image's segments by one backend, read from `folder`."""
        return Segmentation.load(self.folder / backend / f"{image}.npz")

    def figures(self, first: str, second: str = "") -> dict[str, tuple[float, float, float]]:
        """Mean, low and high of each figure of a backend, or of a pair in the order in which they ran."""
        rows = self.summary[(self.summary["first"] == first) & (self.summary["second"] == second)]
        return {row.figure: (row.mean, row.low, row.high) for row in rows.itertuples()}

    def to_json(self, path: str | Path) -> Path:
        """Write everything but the pictures; figures that are not a number are null.

        Raises:
            GensegError: If the file cannot be written.
        """
        what = {
            "genseg": genseg.__version__,
            "seed": self.seed,
            "protocols": PROTOCOLS,
            "recipes": {name: asdict(recipe) for name, recipe in self.recipes.items()},
        }
        for name in ("summary", "images", "pairs", "failures"):
            what[name] = json.loads(getattr(self, name).to_json(orient="records", double_precision=15))
        text = json.dumps(what, indent=2) + "\n"
        write_whole(Path(path), lambda file: file.write(text.encode()))
        return Path(path)

    def to_html(self, path: str | Path) -> Path:
        """Write a page that needs no other file: agreement, cost, reconstruction, ground truth and the pictures.

        Raises:
            GensegError: If the file cannot be written.
        """
        from genseg.report import page

        text = page(self)
        write_whole(Path(path), lambda file: file.write(text.encode()))
        return Path(path)

    def plot(self) -> Figure:
        """Draw how the backends agree (ARI) beside what an image costs each, and return the figure."""
        import matplotlib.pyplot as plt

        from genseg.report import draw_agreement, draw_cost

        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 1.5 + 0.5 * len(self.recipes)), layout="constrained")
        draw_agreement(self, left)
        draw_cost(self, right)
        return figure

    def _repr_html_(self) -> str:
        """A row for each backend: what an image costs it, and how it agrees with each other one."""
        from genseg.markup import table

        rows, names = [], list(self.recipes)
        for name in names:
            own = self.figures(name)
            keys = [key for key in ("segments", "seconds", "evaluations", *ORACLE.values()) if key in own]
            row = {"backend": name} | {key.replace("_", " "): f"{own[key][0]:.3g}" for key in keys}
            for other in names:
                pair = self.figures(name, other) or self.figures(other, name)
                row[f"ARI to {other}"] = f"{pair['ari'][0]:.2f}" if pair else ""
            rows.append(row)
        left_out = f"; {len(self.failures)} left out, see failures" if len(self.failures) else ""
        images = self.images["image"].nunique()
        return table(rows, f"{len(names)} models, means over {images} images, seed {self.seed}{left_out}")


def compared(
    photos: Sequence[Photo],
    recipes: Mapping[str, Recipe],
    failures: Sequence[Failure],
    seed: int,
    folder: Path,
    scratch: tempfile.TemporaryDirectory[str] | None,
) -> Comparison:
    """Measure the segmentations that are kept in a folder; those of one image are in memory at a time."""
    from pandas import DataFrame

    own: dict[str, list[ImageFigures]] = {name: [] for name in recipes}
    both: dict[tuple[str, str], list[ImageFigures]] = {pair: [] for pair in combinations(recipes, 2)}
    n_classes = max(photo.classes for photo in photos)
    for photo in photos:
        truth = None if photo.truth is None else photo.truth()
        labels = {}
        for name in recipes:
            files = photo.files(folder, name)
            found = Segmentation.load(files.result)
            labels[name] = found.labels
            scalars = _cost(found) | _reconstruction(files.sidecar)
            measured = None if truth is None else measure_image(found.labels, [truth], n_classes)
            scalars |= {} if measured is None else {key: measured.scalars[key] for key in ORACLE}
            own[name].append(ImageFigures(scalars, None if measured is None else measured.table))
        for pair, figures in both.items():
            figures.append(ImageFigures(_agreement(*(labels[name] for name in pair)), None))
    names = [photo.name for photo in photos]
    subjects = {(name, ""): figures for name, figures in own.items()} | both
    return Comparison(
        images=DataFrame(
            [
                {"image": name, "backend": backend} | _named(figures[i].scalars)
                for i, name in enumerate(names)
                for backend, figures in own.items()
            ]
        ),
        pairs=DataFrame(
            [
                {"image": name, "first": first, "second": second} | figures[i].scalars
                for i, name in enumerate(names)
                for (first, second), figures in both.items()
            ],
            columns=["image", "first", "second", *PAIRWISE],
        ),
        summary=DataFrame([row for subject, figures in subjects.items() for row in _summary(*subject, figures)]),
        failures=DataFrame(failures, columns=list(Failure._fields)),
        recipes=recipes,
        seed=seed,
        folder=folder,
        _scratch=scratch,
    )


def _cost(found: Segmentation) -> dict[str, float]:
    cost = found.cost
    counted = {"evaluations": cost.evaluations, "decodes": cost.decodes, "peak_memory": cost.peak_memory}
    return {"segments": found.n_segments, "seconds": sum(cost.seconds.values())} | counted


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


def _named(scalars: Mapping[str, Any]) -> dict[str, Any]:
    return {ORACLE.get(key, key): value for key, value in scalars.items()}


def _summary(first: str, second: str, images: Sequence[ImageFigures]) -> list[dict[str, Any]]:
    """Rows of `Comparison.summary`."""
    weights = resamples(len(images))
    means, drawn = set_figures(images), set_figures(images, weights)
    if not second:
        means, drawn = _named(means), _named(drawn)
    rows = []
    for figure, mean in means.items():
        low, high = interval(drawn[figure])
        row = {"first": first, "second": second, "figure": figure, "mean": float(mean[0]), "low": low, "high": high}
        rows.append(row | {"protocol": PROTOCOLS[figure]})
    return rows
