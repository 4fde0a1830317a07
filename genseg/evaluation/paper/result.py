"""Result of reproducing a paper's tables: our scores beside the published ones, as JSON and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genseg.evaluation.paper.published import PublishedRow, Table
from genseg.evaluation.results import Evaluation, in_latex
from genseg.files import write_whole
from genseg.fingerprint import recipe_id

HEADS = ("dataset", "split", "images", "protocol", "method", "K", "published", "ours", "difference")
SCORES = HEADS[-3:]


@dataclass(frozen=True)
class Reproduction:
    """Reproduction of a paper's tables. Scores are mIoU in per cent; differences are ours minus published.

    Attributes:
        source: Reference of the published scores.
        tables: ``title``, ``notes`` and ``rows`` of each table, by number. A row has ``dataset``, ``split``, ``images``
            (number measured), ``failures`` (number that could not be measured), ``protocol``, ``resolution``, ``name``
            (of the method in the paper), ``method``, ``model`` (with its weights), ``n_clusters``, ``recipe`` (see
            `genseg.fingerprint.recipe_id`), ``genseg`` (its version), ``published``, ``ours`` and ``difference``
            (``value`` and ``interval`` each), ``folder`` (of the evaluation, below the output folder), ``why`` (reason
            why there is no score; empty if there is one) and ``failed`` (whether that is although data and weights
            were there). Values that are not known or not measured are None.
    """

    source: str
    tables: Mapping[int, Mapping[str, Any]]

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """Rows of all tables."""
        return [row for table in self.tables.values() for row in table["rows"]]

    def to_json(self, path: str | Path) -> Path:
        """Write all fields as JSON."""
        return _write(
            path, json.dumps({"source": self.source, "tables": self.tables}, indent=2, allow_nan=False) + "\n"
        )

    def to_markdown(self, path: str | Path) -> Path:
        """Write the tables as Markdown, with their notes."""
        return _write(path, self.markdown())

    def to_latex(self, path: str | Path) -> Path:
        """Write the tables in LaTeX, for the package booktabs, with notes as comments above."""
        lines = []
        for number in self.tables:
            lines += [f"% {line}" for line in (self.caption(number), *self.notes(number))]
            lines += [rf"\begin{{tabular}}{{llrllr{'r' * len(SCORES)}}}", r"\toprule"]
            lines += [" & ".join(HEADS) + r" \\", r"\midrule"]
            lines += [" & ".join(map(in_latex, cells)) + r" \\" for cells in self.cells(number)]
            lines += [r"\bottomrule", r"\end{tabular}", ""]
        return _write(path, "\n".join(lines))

    def save(self, folder: str | Path) -> list[Path]:
        """Write reproduction.json, reproduction.md and reproduction.tex.

        Raises:
            GensegError: If the folder cannot be written to.
        """
        name = Path(folder) / "reproduction"
        return [
            self.to_json(name.with_suffix(".json")),
            self.to_markdown(name.with_suffix(".md")),
            self.to_latex(name.with_suffix(".tex")),
        ]

    def markdown(self) -> str:
        """Format the tables as Markdown, each with its notes."""
        parts = []
        for number in self.tables:
            lines = [HEADS, ["---"] * len(HEADS), *self.cells(number)]
            table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
            notes = "".join(f"- {note}\n" for note in self.notes(number))
            parts.append(f"**{self.caption(number)}**\n\n{table}\n{notes}")
        return "\n".join(parts)

    def caption(self, number: int) -> str:
        """Describe a table in one line."""
        return (
            f"Table {number}: {self.tables[number]['title']}; mIoU in per cent, in brackets 95 % bootstrap intervals "
            f"over images; published scores: {self.source}"
        )

    def cells(self, number: int) -> Iterator[Sequence[str]]:
        """Yield the cells of each row of a table, in the order of `HEADS`."""
        reasons = self._reasons(number)
        for row in self.tables[number]["rows"]:
            ours = f"not run ({reasons.index(row['why']) + 1})" if row["why"] else in_points(row["ours"])
            facts = (row["dataset"], row["split"], row["images"], row["protocol"], row["name"], row["n_clusters"])
            published = "–" if row["published"] is None else f"{row['published']:.1f}"
            yield [
                *("–" if fact is None else str(fact) for fact in facts), published, ours,
                in_points(row["difference"], sign="+"),
            ]  # fmt: skip

    def notes(self, number: int) -> list[str]:
        """List the notes of a table: why rows were not run, and differences from the paper's procedure."""
        table = self.tables[number]
        return [*(f"({i}) {why}" for i, why in enumerate(self._reasons(number), start=1)), *table["notes"]]

    def _reasons(self, number: int) -> list[str]:
        return list(dict.fromkeys(row["why"] for row in self.tables[number]["rows"] if row["why"]))


def described(table: Table, row: PublishedRow, folder: str) -> dict[str, Any]:
    """Describe a row before it is run, with all keys of `Reproduction`."""
    unknown = ("split", "images", "failures", "model", "n_clusters", "recipe", "genseg", "ours", "difference")
    return {
        "dataset": row.dataset, "protocol": table.protocol, "resolution": table.resolution, "name": row.name,
        "method": row.method, "published": row.published, "folder": folder, "why": "", "failed": False,
    } | dict.fromkeys(unknown)  # fmt: skip


def measured(evaluation: Evaluation, table: Table, row: PublishedRow) -> dict[str, Any]:
    """Return a row's results from its evaluation, including the reason if it has no score."""
    data, settings = evaluation.results["dataset"], evaluation.results["settings"]
    facts = {
        "split": data["split"], "images": data["images"], "failures": len(evaluation.results["failures"]),
        "model": settings["model"], "n_clusters": settings["recipe"]["n_clusters"],
        "recipe": recipe_id(settings["recipe"]), "genseg": settings["genseg"],
    }  # fmt: skip
    miou = evaluation.results["figures"][row.method].get(table.protocol, {}).get("miou")
    if miou is None:
        pairs = {(each["method"], each["protocol"]): each["why"] for each in evaluation.results["unmeasured"]}
        return facts | {"why": pairs[row.method, table.protocol]}
    if miou["value"] is None:
        return facts | {"why": f"no measured image of {row.dataset} has a labeled pixel"}
    ours = {"value": 100 * miou["value"], "interval": [100 * end for end in miou["interval"]]}
    if row.published is None:
        return facts | {"ours": ours}
    difference = {"value": ours["value"] - row.published, "interval": [end - row.published for end in ours["interval"]]}
    return facts | {"ours": ours, "difference": difference}


def in_points(entry: Mapping[str, Any] | None, sign: str = "") -> str:
    """Format a score in per cent with its interval, or a dash."""
    if entry is None:
        return "–"
    low, high = entry["interval"]
    return f"{entry['value']:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _write(path: str | Path, text: str) -> Path:
    write_whole(Path(path), lambda file: file.write(text.encode()))
    return Path(path)
