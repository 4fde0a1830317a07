"""What comes of a comparison: figures of each image, backend and pair, as tables, files and pictures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

import genseg
from genseg.files import write_whole
from genseg.images import ImageLike
from genseg.recipe import Recipe
from genseg.segmentation import Segmentation

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


class Failure(NamedTuple):
    """What is left out: an image, or for ``image=""`` a backend or its figures under a protocol.

    ``backend=""`` where no backend is at fault.
    """

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
    """Several models on the same images. `genseg.comparison.metrics.meaning` says what each figure is.

    Attributes:
        images: A row for each image and backend: ``image``, ``backend``, ``segments``, ``seconds``, ``evaluations``,
            ``decodes``, ``peak_memory``, ``reconstruction_rmse``, ``reconstruction_psnr``; with ground truth also,
            for each protocol, such as ``oracle_miou``, ``oracle_accuracy`` and ``oracle_boundary_f``.
        pairs: A row for each image and pair of backends: ``image``, ``first``, ``second``, ``ari``, ``matched_miou``,
            ``boundary_f``, ``first_explains_second``, ``second_explains_first``.
        summary: A row for each figure of a backend (``first``; ``second`` is empty) or pair over the images:
            ``mean``, the bootstrap's 95 % interval from ``low`` to ``high``, and its ``protocol``: what it is. mIoU
            and accuracy against ground truth are of all pixels of the set together, but for the protocols that
            average over images.
        failures: What was left out, and why: ``backend``, ``image``, ``problem``.
        recipes: The resolved recipe of each backend, in the order in which they ran.
        protocols: By which ground truth was measured; none without.
        seed: The seed.
        folder: Where the segmentations are kept.
    """

    images: DataFrame
    pairs: DataFrame
    summary: DataFrame
    failures: DataFrame
    recipes: Mapping[str, Recipe]
    protocols: Sequence[str]
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
            "protocols": dict(zip(self.summary["figure"], self.summary["protocol"], strict=True)),
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
        from genseg.comparison.metrics import TRUE
        from genseg.display.html import table

        rows, names = [], list(self.recipes)
        for name in names:
            own = self.figures(name)
            true = [f"{protocol}_{name}" for protocol in self.protocols for name in TRUE]
            keys = [key for key in ("segments", "seconds", "evaluations", *true) if key in own]
            row = {"backend": name} | {key.replace("_", " "): f"{own[key][0]:.3g}" for key in keys}
            for other in names:
                pair = self.figures(name, other) or self.figures(other, name)
                row[f"ARI to {other}"] = f"{pair['ari'][0]:.2f}" if pair else ""
            rows.append(row)
        left_out = f"; {len(self.failures)} left out, see failures" if len(self.failures) else ""
        images = self.images["image"].nunique()
        return table(rows, f"{len(names)} models, means over {images} images, seed {self.seed}{left_out}")
