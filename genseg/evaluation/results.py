"""Result of an evaluation: metrics by method and protocol, as JSON, tables, plots and a gallery."""

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

from genseg.cluster import AUTO_CLUSTERS
from genseg.display.palette import palette
from genseg.evaluation.berkeley import HEADINGS
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
TABLE_METRICS = {
    "miou": "mIoU", "accuracy": "accuracy",
    "boundary_f": "boundary F (2 px)", "boundary_f_diagonal": "boundary F (0.75 % of the diagonal)", **HEADINGS,
    "ari": "ARI", "covering": "covering", "pri": "PRI", "voi": "VoI", "components": "components",
}  # fmt: skip
"""The metrics of tables, with their headings; the JSON has all metrics."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics of methods under protocols.

    Attributes:
        results: The content of `to_json`: ``dataset``, ``settings`` (everything that masks depend on), ``figures`` (the
            metrics by method and protocol, each as ``{"value": number, "interval": [low, high]}``), ``gains`` (the 95 %
            interval of the paired difference between the first method and each other one), ``gains_of_modulation``
            (the same between ``modulation+jbu`` and ``jbu``, and so on), ``unmeasured``, ``failures``, ``gallery``,
            ``versions``, ``masks`` (SHA-256 of the masks and ground truth) and, under the rules of a published method,
            ``rules``. The rules' name is then that of the protocol everywhere.
        store: The masks.
        dataset: The images.
    """

    results: Mapping[str, Any]
    store: MaskStore
    dataset: Dataset

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        methods: Sequence[str],
        protocols: Sequence[str],
        measured: Scores,
        settings: Mapping[str, Any],
        store: MaskStore,
        keys: Sequence[str],
        failures: Mapping[str, str],
        rules: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """Collect the results."""
        scores = measured.scores
        metrics: dict[str, Any] = {
            m: {p: scores[m, p].metrics() for p in protocols if (m, p) in scores} for m in methods
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
            "figures": metrics,
            "gains": {other: _gains(scores, methods[0], other, protocols) for other in methods[1:]},
            "gains_of_modulation": {
                other: _gains(scores, f"modulation+{other}", other, protocols)
                for other in methods
                if f"modulation+{other}" in methods
            },
            "unmeasured": [{"method": m, "protocol": p, "why": why} for (m, p), why in measured.unmeasured.items()],
            "failures": [{"image": key, "problem": problem} for key, problem in failures.items()],
            "gallery": best_median_worst(measured.ranking),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            "masks": measured.digest.hexdigest(),
        } | ({} if rules is None else {"rules": dict(rules)})
        return cls(_plain(results), store, dataset)

    def rows(self, metrics: Sequence[str] = tuple(TABLE_METRICS)) -> list[dict[str, str]]:
        """Return a row for each method and protocol, with metrics such as ``0.483 [0.465, 0.502]`` by heading."""
        figures = self.results["figures"]
        protocols = dict.fromkeys(protocol for by_protocol in figures.values() for protocol in by_protocol)
        return [
            {"protocol": protocol, "method": method}
            | {
                head: formatted(by[protocol][name], name)
                for name, head in TABLE_METRICS.items()
                if name in metrics and name in by[protocol]
            }
            for protocol in protocols
            for method, by in figures.items()
            if protocol in by
        ]

    def to_json(self, path: str | Path) -> Path:
        """Write `results` as JSON; metrics that are NaN are null."""
        return _write(path, json.dumps(self.results, indent=2, allow_nan=False) + "\n")

    def to_markdown(self, path: str | Path) -> Path:
        """Write the table as Markdown."""
        rows = self.rows()
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        return _write(path, self.caption() + "\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines))

    def to_latex(self, path: str | Path) -> Path:
        """Write the table in LaTeX, for the package booktabs, with intervals in small type."""
        rows = self.rows()
        lines = [rf"% {self.caption()}", rf"\begin{{tabular}}{{ll{'r' * (len(rows[0]) - 2)}}}", r"\toprule"]
        lines += [" & ".join(map(in_latex, rows[0])) + r" \\", r"\midrule"]
        for row in rows:
            lines.append(" & ".join(map(in_latex, row.values())) + r" \\")
        return _write(path, "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]))

    def caption(self) -> str:
        """Describe dataset, rules, resolution, model and K in one line."""
        data, settings = self.results["dataset"], self.results["settings"]
        model = settings["model"].get("encoder") or settings["model"].get("backend") or "no model"
        measured_at = self._rules() if "rules" in self.results else f"resolution {settings['resolution']}"
        number = settings["recipe"]["n_clusters"]
        clusters = f"{AUTO_CLUSTERS}, not merged" if number == "auto" else number
        return (
            f"{data['name']} ({data['split']}), {data['images']} images, {measured_at}, {model}, "
            f"K = {clusters}; in brackets, 95 % bootstrap intervals over images"
        )

    def _rules(self) -> str:
        """Name the rules of a published method, and what differs from them."""
        rules = self.results["rules"]
        but = f" (but {'; '.join(rules['differences'])})" if rules["differences"] else ""
        return f"rules {rules['name']}{but}"

    def verdict(self) -> list[str]:
        """Say in which metrics the first method is ahead of each other one, and how certain that is.

        So it is said of upsamplers after modulation, beside the same upsampler without.

        Returns:
            Lines such as ``"oracle, modulation against naive: ahead in boundary F (+0.3 to +2.0 points), level in mIoU
            (-0.9 to +0.2)"``. The 95 % interval of the paired difference over images lies above 0 where a
            method is ahead, below 0 where it is behind, and around 0 where it is level.
        """
        first = next(iter(self.results["figures"]))
        gains = [(first, other, gain) for other, gain in self.results["gains"].items()]
        gains += [(f"modulation+{other}", other, gain) for other, gain in self.results["gains_of_modulation"].items()]
        return [
            f"{protocol}, {method} against {other}: {_compared(gain['boundary_f'], 'boundary F', ' points')}, "
            f"{_compared(gain['miou'], 'mIoU')}"
            for method, other, by_protocol in gains
            for protocol, gain in by_protocol.items()
        ]

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
                axis.set_title(f"{TABLE_METRICS[name]}, protocol {protocol}", fontsize=9)
                axis.grid(axis="x", alpha=0.3)
            row[0].invert_yaxis()
        return figure

    def gallery(self) -> Figure:
        """Draw the best, median and worst images with ground truth and all methods' segments, and return the figure."""
        import matplotlib.pyplot as plt

        methods, resolution = list(self.results["figures"]), self.results["settings"]["resolution"]
        images = [(place, key) for place, keys in self.results["gallery"].items() for key in keys]
        columns = ["image", "ground truth", *methods]
        size = (2.0 * len(columns), 2.1 * len(images))
        figure, axes = plt.subplots(len(images), len(columns), figsize=size, squeeze=False, layout="constrained")
        for line, (place, key) in zip(axes, images, strict=True):
            labels = [self.store.truths(key)[0], *(self.store.masks(method, key).masks.segments for method in methods)]
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
        files = [self.to_json(folder / "results.json")]
        files += [self.to_markdown(folder / "table.md"), self.to_latex(folder / "table.tex")]
        with mpl.rc_context({"backend": "agg"}):
            for name, figure in (("plot", self.plot()), ("gallery", self.gallery())):
                write_whole(folder / f"{name}.png", lambda file, figure=figure: figure.savefig(file, dpi=150))  # type: ignore[misc]
                files.append(folder / f"{name}.png")
        return files


def colored(labels: Any) -> Any:
    """Color labels [H, W]: uint8 [H, W, 3], with black where nothing is measured."""
    colors = np.concatenate([palette(max(int(labels.max()) + 1, 1)), np.zeros((1, 3), dtype=np.uint8)])
    return colors[np.where(labels == IGNORE, len(colors) - 1, labels)]


def formatted(entry: Mapping[str, Any], name: str = "") -> str:
    """Format a metric with its interval, as in tables."""
    digits = 0 if name == "components" else 3
    if entry["value"] is None:
        return "–"
    value, (low, high) = entry["value"], entry["interval"]
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _gains(scores: Mapping[Any, Score], first: str, other: str, protocols: Sequence[str]) -> dict[str, Any]:
    """Intervals of the paired differences of two methods, by protocol and metric."""
    return {
        p: {
            name: paired_interval(scores[first, p], scores[other, p], name)
            for name in scores[first, p].names
            if name in ("miou", "accuracy", "boundary_f", "berkeley_f")
        }
        for p in protocols
        if (first, p) in scores and (other, p) in scores
    }


def _compared(interval: Sequence[float | None], metric: str, unit: str = "") -> str:
    """Say what the interval of a paired difference means."""
    low, high = interval
    if low is None or high is None:
        return f"no {metric}"
    word = "ahead" if low > 0 else "behind" if high < 0 else "level"
    return f"{word} in {metric} ({100 * low:+.1f} to {100 * high:+.1f}{unit})"


def _plain(value: Any) -> Any:
    """Replace NaN and infinity by None, which JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _write(path: str | Path, text: str) -> Path:
    write_whole(Path(path), lambda file: file.write(text.encode()))
    return Path(path)


def in_latex(cell: str) -> str:
    """Format a cell for LaTeX, with its interval in small type."""
    value, bracket, rest = cell.replace("%", r"\%").replace("_", r"\_").replace("–", "--").partition(" [")
    return rf"{value} {{\scriptsize [{rest}}}" if bracket else value
