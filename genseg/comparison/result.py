"""Result of a comparison: metrics of each image, backend and pair, as tables, files and pictures."""

from __future__ import annotations

import io
import json
import math
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from genseg.comparison.metrics import GROUND_TRUTH_METRICS, METRICS, describe
from genseg.display.html import data_uri, embedded, rendered, table
from genseg.evaluation.agreement import matched_colors
from genseg.files import write_whole
from genseg.recipe import Recipe
from genseg.segmentation import Segmentation
from genseg.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTH = 320  # pixels, at most, of a picture
SHOWN = 8  # images whose pictures are open, so that the tables are near

MATRICES = {
    "ari": "Adjusted Rand index",
    "matched_miou": "Matched mIoU",
    "boundary_f": "Boundary F",
    "explains": "How well the row's segments explain the column's",
}

TABLES = {
    "Cost of an image": ("seconds", "evaluations", "decodes", "segments", "peak_memory"),
    "Reconstruction": ("reconstruction_rmse", "reconstruction_psnr"),
}

Interval = tuple[float, float, float]  # mean, and the 95 % interval


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several models on the same images. `genseg.comparison.metrics.describe` describes each metric.

    Attributes:
        images: A row for each image and backend: ``image``, ``backend``, ``segments``, ``seconds``, ``evaluations``,
            ``decodes``, ``peak_memory``, ``reconstruction_rmse``, ``reconstruction_psnr``; with ground truth also,
            for each protocol, such as ``oracle_miou``, ``oracle_accuracy`` and ``oracle_boundary_f``.
        pairs: A row for each image and pair of backends: ``image``, ``first``, ``second``, ``ari``, ``matched_miou``,
            ``boundary_f``, ``first_explains_second``, ``second_explains_first``.
        summary: A row for each metric of a backend (``first``; ``second`` is empty) or pair over the images:
            ``mean``, the bootstrap's 95 % interval from ``low`` to ``high``, and a description, ``protocol``. mIoU
            and accuracy against ground truth are of all pixels of the set together, but for the protocols that
            average over images.
        failures: A row for each skipped image or backend: ``backend``, ``image``, ``problem``.
        recipes: The resolved recipe of each backend, in the order in which they ran.
        protocols: Protocols of the metrics against ground truth; none without ground truth.
        seed: The seed.
        folder: Where the segmentations are saved.
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
        """Return mean, low and high of each metric of a backend, or of a pair in the order in which they ran."""
        rows = self.summary[(self.summary["first"] == first) & (self.summary["second"] == second)]
        return {row.figure: (row.mean, row.low, row.high) for row in rows.itertuples()}

    def to_json(self, path: str | Path) -> Path:
        """Write everything but the pictures; metrics that are not a number are null.

        Raises:
            GensegError: If the file cannot be written.
        """
        what = {
            "genseg": __version__,
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
        """Write a page that needs no other file: pictures, agreement, cost, reconstruction and ground truth.

        Raises:
            GensegError: If the file cannot be written.
        """
        text = page(self)
        write_whole(Path(path), lambda file: file.write(text.encode()))
        return Path(path)

    def plot(self) -> Figure:
        """Draw how the backends agree (ARI) beside what an image costs each, and return the figure."""
        import matplotlib.pyplot as plt

        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 1.5 + 0.5 * len(self.recipes)), layout="constrained")
        draw_agreement(self, left)
        draw_cost(self, right)
        return figure

    def _repr_html_(self) -> str:
        """Return a table with cost and agreement of each backend."""
        rows, names = [], list(self.recipes)
        for name in names:
            own = self.figures(name)
            true = [f"{protocol}_{name}" for protocol in self.protocols for name in GROUND_TRUTH_METRICS]
            keys = [key for key in ("segments", "seconds", "evaluations", *true) if key in own]
            row = {"backend": name} | {key.replace("_", " "): f"{own[key][0]:.3g}" for key in keys}
            for other in names:
                pair = self.figures(name, other) or self.figures(other, name)
                row[f"ARI to {other}"] = f"{pair['ari'][0]:.2f}" if pair else ""
            rows.append(row)
        left_out = f"; {len(self.failures)} left out, see failures" if len(self.failures) else ""
        images = self.images["image"].nunique()
        return table(rows, f"{len(names)} models, means over {images} images, seed {self.seed}{left_out}")


class Cell(NamedTuple):
    """A cell of a table: its text, its tooltip, and the depth of its color, in [0, 1]."""

    text: str
    title: str = ""
    depth: float = 0.0


def page(comparison: Comparison) -> str:
    """Return the whole page as HTML; every text in it escaped."""
    means = {name: comparison.figures(name) for name in comparison.recipes}
    shared, own = _recipes({name: asdict(recipe) for name, recipe in comparison.recipes.items()})
    names = list(comparison.images["image"].unique())
    against_truth = [f"{protocol}_{name}" for protocol in comparison.protocols for name in GROUND_TRUTH_METRICS]
    tables = TABLES | ({"Ground truth": against_truth} if against_truth else {})
    return rendered(
        "report.html",
        backends=list(comparison.recipes),
        images=names,
        versions={"genseg": __version__, "torch": version("torch"), "Python": platform.python_version()},
        seed=comparison.seed,
        shared=shared,
        own=own,
        matrices=[(MATRICES[key], _protocol(key), _matrix(comparison, key)) for key in MATRICES],
        tables=[
            (title, [(_heading(key), [_cell(key, f.get(key)) for f in means.values()], _meaning(key)) for key in keys])
            for title, keys in tables.items()
        ],
        cost=_plotted_cost(comparison),
        shown=SHOWN,
        pictures=((name, _pictures(comparison, name)) for name in names),  # one image at a time in memory
        failures=list(comparison.failures.itertuples(index=False)),
    )


def draw_cost(comparison: Comparison, ax: Axes) -> None:
    """Draw the seconds that an image takes each backend, with their 95 % intervals, as bars."""
    names = list(comparison.recipes)
    mean, low, high = np.array([comparison.figures(name)["seconds"] for name in names]).T
    ax.barh(names, mean, xerr=[mean - low, high - mean], color="#7aa6c2", ecolor="#333333", capsize=3)
    ax.invert_yaxis()
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("seconds an image")
    ax.spines[["top", "right"]].set_visible(False)


def draw_agreement(comparison: Comparison, ax: Axes) -> None:
    """Draw the adjusted Rand index of every two backends as a matrix."""
    names, cells = list(comparison.recipes), _matrix(comparison, "ari")
    ax.imshow([[cell.depth for cell in row] for row in cells], vmin=0, vmax=1, cmap="Blues")
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
    ax.set_yticks(range(len(names)), names)
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            ax.text(x, y, cell.text, ha="center", va="center", color="white" if cell.depth > 0.6 else "black")
    ax.set_title("adjusted Rand index")


def _pictures(comparison: Comparison, image: str) -> list[tuple[str, str]]:
    """Return the photo and each backend's overlay, small: caption and data URI."""
    segmentations = {name: comparison.segmentation(image, name).resized(WIDTH) for name in comparison.recipes}
    first = next(iter(segmentations.values()))
    n = max(len(segmentation.colors) for segmentation in segmentations.values())
    pictures = [("photo", embedded(Image.fromarray(first.image)))]
    for name, segmentation in segmentations.items():
        colored = replace(segmentation, colors=matched_colors(segmentation.labels, first.labels, n))
        pictures.append((f"{name}: {segmentation.n_segments} segments", embedded(colored.overlay())))
    return pictures


def _plotted_cost(comparison: Comparison) -> str:
    """`draw_cost` as an SVG in a data URI."""
    from matplotlib import figure

    drawing = figure.Figure(figsize=(6, 0.8 + 0.4 * len(comparison.recipes)), layout="constrained")
    draw_cost(comparison, drawing.subplots())
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="svg", metadata={"Date": None})
    return data_uri("image/svg+xml", buffer.getvalue())


def _matrix(comparison: Comparison, key: str) -> list[list[Cell]]:
    """Return a cell for each two backends."""
    names = list(comparison.recipes)
    intervals: dict[tuple[str, str], Interval] = {(name, name): (1.0, 1.0, 1.0) for name in names}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            pair = comparison.figures(first, second)
            forward, back = ("first_explains_second", "second_explains_first") if key == "explains" else (key, key)
            intervals[first, second], intervals[second, first] = pair[forward], pair[back]
    return [[_graded(intervals[first, second]) for second in names] for first in names]


def _graded(figure: Interval) -> Cell:
    mean, low, high = figure
    return Cell(f"{mean:.2f}", f"95 %: {low:.3f} to {high:.3f}", min(max(mean, 0.0), 1.0))


def _protocol(key: str) -> str:
    return METRICS["first_explains_second" if key == "explains" else key]


def _heading(key: str) -> str:
    words = key.replace("reconstruction_", "").replace("_", " ")
    for plain, proper in (("rmse", "RMSE"), ("psnr", "PSNR, dB"), ("miou", "mIoU"), ("boundary f", "boundary F")):
        words = words.replace(plain, proper)
    return f"{words}, MB" if key == "peak_memory" else words


def _meaning(key: str) -> str:
    """Describe a metric, but for the unit, which is that of `_heading`."""
    return describe(key).removeprefix("bytes; ")


def _cell(key: str, figure: Interval | None) -> Cell:
    """Return a mean and its interval, in the unit of `_heading`; a dash if a backend has none."""
    if figure is None:
        return Cell("–")
    mean, low, high = (number / 1e6 if key == "peak_memory" else number for number in figure)
    ends = _number(low), _number(high)
    return Cell(_number(mean), "" if ends[0] == ends[1] else " to ".join(ends))


def _number(value: float) -> str:
    """Three significant digits, or all those before the point."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _recipes(recipes: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Sequence[Any]]]:
    """Keys of the same value in all recipes, and those that differ with each backend's."""
    rows = {key: [recipe[key] for recipe in recipes.values()] for key in next(iter(recipes.values()))}
    shared = {key: values[0] for key, values in rows.items() if all(value == values[0] for value in values)}
    return shared, {key: values for key, values in rows.items() if key not in shared}
