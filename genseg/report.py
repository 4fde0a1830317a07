"""The page of a comparison: one file with everything in it, pictures and plots as data."""

from __future__ import annotations

import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.optimize import linear_sum_assignment

import genseg
from genseg.comparison.metrics import FIGURES, TRUE, meaning
from genseg.comparison.result import Comparison
from genseg.display.html import data_uri, embedded, rendered, small
from genseg.evaluation.metrics import overlaps
from genseg.segmentation import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 320  # pixels, at most, of a picture
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

Figure = tuple[float, float, float]  # mean, and the 95 % interval


class Cell(NamedTuple):
    """A cell of a table: what it shows, what it says when pointed at, and how deep its colour is, in [0, 1]."""

    text: str
    title: str = ""
    depth: float = 0.0


def page(comparison: Comparison) -> str:
    """The whole page as HTML; every text in it escaped."""
    figures = {name: comparison.figures(name) for name in comparison.recipes}
    shared, own = _recipes({name: asdict(recipe) for name, recipe in comparison.recipes.items()})
    names = list(comparison.images["image"].unique())
    true = {"Ground truth": [f"{protocol}_{figure}" for protocol in comparison.protocols for figure in TRUE]}
    return rendered(
        "report.html",
        backends=list(comparison.recipes),
        images=names,
        versions={"genseg": genseg.__version__, "torch": version("torch"), "Python": platform.python_version()},
        seed=comparison.seed,
        shared=shared,
        own=own,
        matrices=[(MATRICES[key], _protocol(key), _matrix(comparison, key)) for key in MATRICES],
        tables=[
            (title, [(meaning(key), _heading(key), [_cell(key, f.get(key)) for f in figures.values()]) for key in keys])
            for title, keys in (TABLES | (true if comparison.protocols else {})).items()
        ],
        cost=_plotted_cost(comparison),
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


def matched_colours(labels: npt.NDArray[np.int32], reference: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.uint8]:
    """The palette of ``n`` colours, ordered so that segments look like those of another label map that they match.

    Args:
        labels: int32 (H, W) in 0..n-1.
        reference: int32 (H, W) in 0..n-1, whose label k has the palette's colour k.
        n: Number of colours.

    Returns:
        uint8 (n, 3): the colour of each of ``labels``, by the one-to-one matching with the most pixels in common.
    """
    _, partners = linear_sum_assignment(overlaps(labels, reference, n, n), maximize=True)
    colours: npt.NDArray[np.uint8] = palette(n)[partners]
    return colours


def _pictures(comparison: Comparison, image: str) -> list[tuple[str, str]]:
    """The photo and each backend's overlay, small: what is seen and the picture as a data URI."""
    found = {name: small(comparison.segmentation(image, name), WIDTH) for name in comparison.recipes}
    first = next(iter(found.values()))
    n = max(len(segmentation.colors) for segmentation in found.values())
    pictures = [("photo", embedded(Image.fromarray(first.image)))]
    for name, segmentation in found.items():
        coloured = replace(segmentation, colors=matched_colours(segmentation.labels, first.labels, n))
        pictures.append((f"{name}: {segmentation.n_segments} segments", embedded(coloured.overlay())))
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
    """A cell for each backend beside each other."""
    names = list(comparison.recipes)
    found: dict[tuple[str, str], Figure] = {(name, name): (1.0, 1.0, 1.0) for name in names}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            pair = comparison.figures(first, second)
            forward, back = ("first_explains_second", "second_explains_first") if key == "explains" else (key, key)
            found[first, second], found[second, first] = pair[forward], pair[back]
    return [[_graded(found[first, second]) for second in names] for first in names]


def _graded(figure: Figure) -> Cell:
    mean, low, high = figure
    return Cell(f"{mean:.2f}", f"95 %: {low:.3f} to {high:.3f}", min(max(mean, 0.0), 1.0))


def _protocol(key: str) -> str:
    return FIGURES["first_explains_second" if key == "explains" else key]


def _heading(key: str) -> str:
    words = key.replace("reconstruction_", "").replace("_", " ")
    for plain, proper in (("rmse", "RMSE"), ("psnr", "PSNR, dB"), ("miou", "mIoU"), ("boundary f", "boundary F")):
        words = words.replace(plain, proper)
    return f"{words}, MB" if key == "peak_memory" else words


def _cell(key: str, figure: Figure | None) -> Cell:
    """A mean and its interval, in the unit of `_heading`; a dash where a backend has none."""
    if figure is None:
        return Cell("–")
    mean, low, high = (number / 1e6 if key == "peak_memory" else number for number in figure)
    return Cell(_number(mean), "" if low == high else f"{_number(low)} to {_number(high)}")


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
