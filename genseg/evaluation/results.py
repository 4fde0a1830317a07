"""What comes of an evaluation: figures with their protocol and interval, as JSON, tables, plots and a gallery."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genseg.display.palette import palette
from genseg.evaluation.datasets import Dataset
from genseg.evaluation.mask_store import MaskStore
from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.protocols import Score, paired_interval
from genseg.evaluation.resolution import at_resolution
from genseg.evaluation.scoring import Scores, best_median_worst
from genseg.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("genseg", "torch", "diffusers", "numpy", "scipy", "scikit-learn", "scikit-image", "pillow")
SHOWN = {
    "miou": "mIoU",
    "accuracy": "accuracy",
    "boundary_f": "boundary F (2 px)",
    "boundary_f_diagonal": "boundary F (0.75 % of the diagonal)",
    "ari": "ARI",
    "covering": "covering",
    "pri": "PRI",
    "voi": "VoI",
    "components": "components",
}
"""The figures of tables, and their headings; the JSON has all."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of methods under protocols.

    Attributes:
        results: What `to_json` writes: ``dataset``, ``settings`` (what masks depend on), ``figures`` (by method, then
            by protocol, each as ``{"value": number, "interval": [low, high]}``), ``gains`` (of the first method over
            each other one, the 95 % interval of the paired difference), ``unmeasured``, ``failures``, ``gallery``,
            ``versions`` and ``masks`` (SHA-256 of what was measured).
        kept: The masks.
        dataset: The images.
    """

    results: Mapping[str, Any]
    kept: MaskStore
    dataset: Dataset

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        methods: Sequence[str],
        protocols: Sequence[str],
        found: Scores,
        settings: Mapping[str, Any],
        kept: MaskStore,
        keys: Sequence[str],
        failures: Mapping[str, str],
    ) -> Evaluation:
        """Gather the figures."""
        scores = found.scores
        figures: dict[str, Any] = {
            m: {p: scores[m, p].figures() for p in protocols if (m, p) in scores} for m in methods
        }
        results = {
            "dataset": {
                "name": dataset.name,
                "split": dataset.split,
                "licence": dataset.licence,
                "classes": list(dataset.classes),
                "images": len(keys),
            },
            "settings": dict(settings),
            "figures": figures,
            "gains": {
                other: {
                    p: _gain(scores[methods[0], p], scores[other, p])
                    for p in protocols
                    if _both(scores, methods[0], other, p)
                }
                for other in methods[1:]
            },
            "unmeasured": [{"method": m, "protocol": p, "why": why} for (m, p), why in found.unmeasured.items()],
            "failures": [{"image": key, "problem": problem} for key, problem in failures.items()],
            "gallery": best_median_worst(found.ranking),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            "masks": found.digest.hexdigest(),
        }
        return cls(_plain(results), kept, dataset)

    def rows(self) -> list[dict[str, str]]:
        """A row for each method and protocol, each figure as ``0.483 [0.465, 0.502]``, by the table's headings."""
        figures = self.results["figures"]
        protocols = dict.fromkeys(protocol for by_protocol in figures.values() for protocol in by_protocol)
        return [
            {"protocol": protocol, "method": method}
            | {head: written(by[protocol][name], name) for name, head in SHOWN.items() if name in by[protocol]}
            for protocol in protocols
            for method, by in figures.items()
            if protocol in by
        ]

    def to_json(self, path: str | Path) -> Path:
        """Write everything but the pictures; figures that are not a number are null."""
        return _write(path, json.dumps(self.results, indent=2, allow_nan=False) + "\n")

    def to_markdown(self, path: str | Path) -> Path:
        """Write the table in Markdown."""
        rows = self.rows()
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        return _write(path, self.caption() + "\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines))

    def to_latex(self, path: str | Path) -> Path:
        """Write the table in LaTeX, for the package booktabs; intervals stand below their figures in small type."""
        rows = self.rows()
        lines = [rf"% {self.caption()}", rf"\begin{{tabular}}{{ll{'r' * (len(rows[0]) - 2)}}}", r"\toprule"]
        lines += [" & ".join(map(in_latex, rows[0])) + r" \\", r"\midrule"]
        for row in rows:
            lines.append(" & ".join(map(in_latex, row.values())) + r" \\")
        return _write(path, "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]))

    def caption(self) -> str:
        """What was measured, in a line."""
        data, settings = self.results["dataset"], self.results["settings"]
        model = settings["model"].get("encoder") or settings["model"].get("backend") or "no model"
        return (
            f"{data['name']} ({data['split']}), {data['images']} images, resolution {settings['resolution']}, {model}, "
            f"K = {settings['recipe']['n_clusters']}; in brackets, 95 % bootstrap intervals over images"
        )

    def _repr_html_(self) -> str:
        from genseg.display.html import table

        return table(self.rows(), self.caption())

    def plot(self) -> Figure:
        """Draw mIoU and boundary F of each method with intervals, protocols side by side, and return the figure."""
        import matplotlib.pyplot as plt

        methods = list(self.results["figures"])
        protocols = list(dict.fromkeys(p for by in self.results["figures"].values() for p in by))
        height = 1.2 + 0.35 * len(methods)
        figure, axes = plt.subplots(
            len(protocols), 2, figsize=(9, height * len(protocols)), squeeze=False, sharey=True, layout="constrained"
        )
        for row, protocol in zip(axes, protocols, strict=True):
            for axis, name in zip(row, ("miou", "boundary_f"), strict=True):
                for place, method in enumerate(methods):
                    entry = self.results["figures"][method].get(protocol, {}).get(name)
                    if entry and entry["value"] is not None:
                        (low, high), value = entry["interval"], entry["value"]
                        axis.errorbar(
                            value, place, xerr=[[max(value - low, 0)], [max(high - value, 0)]], fmt="o", capsize=3
                        )
                axis.set_yticks(range(len(methods)), methods)
                axis.set_title(f"{SHOWN[name]}, protocol {protocol}", fontsize=9)
                axis.grid(axis="x", alpha=0.3)
            row[0].invert_yaxis()
        return figure

    def gallery(self) -> Figure:
        """Show the best, median and worst images with truth and every method's segments, and return the figure."""
        import matplotlib.pyplot as plt

        methods, resolution = list(self.results["figures"]), self.results["settings"]["resolution"]
        shown = [(place, key) for place, keys in self.results["gallery"].items() for key in keys]
        columns = ["image", "truth", *methods]
        size = (2.0 * len(columns), 2.1 * len(shown))
        figure, axes = plt.subplots(len(shown), len(columns), figsize=size, squeeze=False, layout="constrained")
        for line, (place, key) in zip(axes, shown, strict=True):
            labels = [self.kept.truth(key)[0], *(self.kept.row(method, key).masks.segments for method in methods)]
            pictures = [np.asarray(at_resolution(self.dataset[key], resolution).image), *map(colored, labels)]
            for axis, head, picture in zip(line, columns, pictures, strict=True):
                axis.imshow(picture)
                axis.set_title(f"{place}: {key}" if head == "image" else head, fontsize=8)
                axis.set_axis_off()
        return figure

    def save(self, folder: str | Path) -> list[Path]:
        """Write results.json, table.md, table.tex, plot.png and gallery.png.

        Raises:
            GensegError: If the folder cannot be written to.
        """
        import matplotlib as mpl

        folder = Path(folder)
        written = [self.to_json(folder / "results.json")]
        written += [self.to_markdown(folder / "table.md"), self.to_latex(folder / "table.tex")]
        with mpl.rc_context({"backend": "agg"}):
            for name, figure in (("plot", self.plot()), ("gallery", self.gallery())):
                write_whole(folder / f"{name}.png", lambda file, figure=figure: figure.savefig(file, dpi=150))  # type: ignore[misc]
                written.append(folder / f"{name}.png")
        return written


def colored(labels: Any) -> Any:
    """Labels [H, W] as a picture, uint8 [H, W, 3]; black where nothing is measured."""
    colors = np.concatenate([palette(max(int(labels.max()) + 1, 1)), np.zeros((1, 3), dtype=np.uint8)])
    return colors[np.where(labels == IGNORE, len(colors) - 1, labels)]


def written(entry: Mapping[str, Any], name: str = "") -> str:
    """A figure with its interval, as tables have it."""
    digits = 0 if name == "components" else 3
    if entry["value"] is None:
        return "–"
    value, (low, high) = entry["value"], entry["interval"]
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _both(scores: Mapping[Any, Score], first: str, other: str, protocol: str) -> bool:
    return (first, protocol) in scores and (other, protocol) in scores


def _gain(first: Score, other: Score) -> dict[str, list[float]]:
    return {name: paired_interval(first, other, name) for name in ("miou", "accuracy", "boundary_f")}


def _plain(what: Any) -> Any:
    """With None for what is no number, as JSON has none."""
    if isinstance(what, Mapping):
        return {str(key): _plain(value) for key, value in what.items()}
    if isinstance(what, (list, tuple)):
        return [_plain(value) for value in what]
    if isinstance(what, float):
        return float(what) if math.isfinite(what) else None
    return what


def _write(path: str | Path, text: str) -> Path:
    write_whole(Path(path), lambda file: file.write(text.encode()))
    return Path(path)


def in_latex(cell: str) -> str:
    """A cell of a table, its interval in small type."""
    value, bracket, rest = cell.replace("%", r"\%").replace("_", r"\_").replace("–", "--").partition(" [")
    return rf"{value} {{\scriptsize [{rest}}}" if bracket else value
