"""Ablations: one evaluation for each value of recipe keys, one factor at a time, for any backend."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genseg.errors import GensegError, unknown
from genseg.evaluation.datasets import Dataset
from genseg.evaluation.evaluate import evaluate
from genseg.evaluation.results import TABLE_METRICS, formatted
from genseg.files import write_whole
from genseg.interface import Backend
from genseg.recipe import KEYS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTTED = ("miou", "boundary_f")


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """Parse ``key=value,value,...`` into the key and its values.

    Raises:
        GensegError: If the text has another form, or the key is no recipe key.
    """
    key, equals, values = text.partition("=")
    if not equals or not values:
        raise GensegError(f"a sweep reads key=value,value,..., such as t_m=181,281,381, not {text!r}")
    if key not in KEYS:
        raise unknown("recipe key", key, KEYS)
    return key, list(dict.fromkeys(values.split(",")))


@dataclass(frozen=True)
class Ablation:
    """Metrics of every setting.

    Attributes:
        rows: For each setting ``key``, ``value`` and ``figures``: the metrics, as in
            `genseg.evaluation.results.Evaluation`.
    """

    rows: Sequence[Mapping[str, Any]]

    def save(self, folder: Path) -> list[Path]:
        """Write ablation.json, ablation.md and ablation.png.

        Raises:
            GensegError: If the folder cannot be written to.
        """
        import matplotlib as mpl

        texts = {"ablation.json": json.dumps(self.rows, indent=2) + "\n", "ablation.md": self.table()}
        for name, text in texts.items():
            write_whole(folder / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
        with mpl.rc_context({"backend": "agg"}):
            write_whole(folder / "ablation.png", lambda file: self.plot().savefig(file, dpi=150))
        return [folder / name for name in (*texts, "ablation.png")]

    def table(self) -> str:
        """Format the metrics as a Markdown table, with a row for each setting, protocol and method."""
        heads = ["setting", "protocol", "method", *TABLE_METRICS.values()]
        lines = [heads, ["---"] * len(heads)]
        for row in self.rows:
            for method, by_protocol in row["figures"].items():
                for protocol, metrics in by_protocol.items():
                    cells = [formatted(metrics[name], name) if name in metrics else "" for name in TABLE_METRICS]
                    lines.append([f"{row['key']}={row['value']}", protocol, method, *cells])
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def plot(self) -> Figure:
        """Draw mIoU and boundary F over each key's values, with intervals, and return the figure."""
        import matplotlib.pyplot as plt

        keys = list(dict.fromkeys(row["key"] for row in self.rows))
        figure, axes = plt.subplots(len(keys), 2, figsize=(9, 3 * len(keys)), squeeze=False, layout="constrained")
        for line, key in zip(axes, keys, strict=True):
            rows = [row for row in self.rows if row["key"] == key]
            pairs = [(m, p) for m, by_protocol in rows[0]["figures"].items() for p in by_protocol]
            for axis, name in zip(line, PLOTTED, strict=True):
                for method, protocol in pairs:
                    entries = [row["figures"].get(method, {}).get(protocol, {}).get(name) for row in rows]
                    places = [i for i, entry in enumerate(entries) if entry and entry["value"] is not None]
                    values = [entries[i]["value"] for i in places]
                    ends = [[abs(entries[i]["value"] - entries[i]["interval"][end]) for i in places] for end in (0, 1)]
                    axis.errorbar(places, values, yerr=ends, marker="o", capsize=3, label=f"{method}, {protocol}")
                axis.set_xticks(range(len(rows)), [row["value"] for row in rows])
                axis.set_xlabel(key)
                axis.set_ylabel(TABLE_METRICS[name])
                axis.grid(alpha=0.3)
            line[0].legend(fontsize=7)
        return figure


def ablate(
    dataset: Dataset,
    out: str | Path,
    sweeps: Sequence[str],
    *,
    backend: Backend,
    options: Sequence[str] = (),
    **settings: Any,
) -> Ablation:
    """Evaluate each value of each key, with all other keys unchanged.

    Args:
        dataset: As for `genseg.evaluation.evaluate.evaluate`.
        out: A folder; each setting's masks are saved below it, so that an interrupted run resumes.
        sweeps: Sweeps, each as ``key=value,value,...``.
        backend: The model.
        options: Recipe keys that all settings share.
        **settings: Further arguments of `evaluate`.

    Returns:
        The metrics, in the order of sweeps and values.

    Raises:
        GensegError: If a sweep cannot be parsed, or the recipe refuses a value; raised before the first setting runs.
    """
    runs = [(key, value) for key, values in map(parse_sweep, sweeps) for value in values]
    for key, value in runs:
        backend.resolve(settings.get("recipe"), [*options, f"{key}={value}"])
    rows = []
    for key, value in runs:
        name = hashlib.sha256(f"{key}={value}".encode()).hexdigest()[:12]
        evaluation = evaluate(
            dataset, Path(out) / "settings" / name, backend=backend, options=[*options, f"{key}={value}"], **settings
        )
        rows.append({"key": key, "value": value} | {name: evaluation.results[name] for name in ("figures", "failures")})
    return Ablation(rows)
