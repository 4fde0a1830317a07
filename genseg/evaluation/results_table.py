"""One table of many evaluations: model × rule × dataset, kept as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from genseg.errors import GensegError
from genseg.files import write_text
from genseg.fingerprint import recipe_id

IDENTITY = ("dataset", "split", "resolution", "rule", "model", "weights", "method", "recipe", "clusters", "images")


@dataclass(frozen=True, order=True)
class ResultRow:
    """Scores of one method of one model on one dataset.

    Scores are between 0 and 1; each has the ends of its 95 % bootstrap interval over images. What was not measured is
    None, an empty cell of the file.

    Attributes:
        dataset: Name of the dataset.
        split: Its split.
        resolution: Resolution at which the scores were measured.
        rule: The rule or protocol that gave the segments classes, with what was applied to all methods after it.
        model: Name of the backend or encoder; empty for a method that needs none.
        weights: Checkpoint, if it was not the model's own.
        method: Name of the method.
        recipe: Identifier of the recipe's settings; see `genseg.fingerprint.recipe_id`.
        clusters: The recipe's ``n_clusters``.
        images: Number of images that were measured.
        miou: Mean intersection over union.
        miou_low: Lower end of its interval.
        miou_high: Upper end of its interval.
        accuracy: Share of correct pixels.
        boundary_f: F score of boundaries within 2 pixels.
        covering: Covering of the true regions.
        version: Version of genseg that measured it.
    """

    dataset: str
    split: str
    resolution: str
    rule: str
    model: str
    weights: str
    method: str
    recipe: str
    clusters: str
    images: int
    miou: float | None
    miou_low: float | None
    miou_high: float | None
    accuracy: float | None
    boundary_f: float | None
    covering: float | None
    version: str

    @property
    def identity(self) -> tuple[Any, ...]:
        """The facts that identify a measurement: two rows with the same identity measured the same."""
        return tuple(getattr(self, name) for name in IDENTITY)


def rows_of(file: str | Path, dataset: str | None = None) -> list[ResultRow]:
    """Read the rows of a result of ``genseg evaluate`` or ``genseg reproduce``.

    Args:
        file: ``results.json`` or ``reproduction.json``, or a folder that holds one of them.
        dataset: Name of the dataset in the table, in place of the file's: for data of one's own, which are all called
            ``folder``.

    Raises:
        GensegError: If the file is missing or holds no such results.
    """
    path = _result_file(Path(file))
    try:
        results = json.loads(path.read_bytes())
        rows = list((_of_reproduction if "tables" in results else _of_evaluation)(results))
    except OSError as error:
        raise GensegError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GensegError(
            f"{path} holds no results; give the results.json of 'genseg evaluate' or the reproduction.json of "
            f"'genseg reproduce'"
        ) from error
    return [replace(row, dataset=dataset) for row in rows] if dataset else rows


def read_table(path: str | Path) -> list[ResultRow]:
    """Read a table; one that does not exist has no rows.

    Raises:
        GensegError: If the file is no table of results.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        return [_parsed(cells) for cells in csv.DictReader(io.StringIO(path.read_text("utf-8")))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GensegError(f"{path} is no table of results; give another file with --table") from error


def write_table(path: str | Path, rows: Iterable[ResultRow]) -> None:
    """Write a table as CSV, sorted, with a header.

    Raises:
        GensegError: If the folder cannot be written to.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(ResultRow))
    writer.writerows(map(_cells, sorted(rows, key=_by_score)))
    write_text(Path(path), text.getvalue())


def merged(table: Iterable[ResultRow], added: Iterable[ResultRow]) -> list[ResultRow]:
    """Add rows to a table; a row replaces that with the same identity."""
    rows = {row.identity: row for row in table}
    return list((rows | {row.identity: row for row in added}).values())


def to_markdown(rows: Iterable[ResultRow], level: int = 3) -> str:
    """Format a table as Markdown: a heading for each dataset and rule, the best method first.

    Scores are in per cent. Only rows below one heading can be compared.
    """
    parts = []
    for (dataset, split, resolution, rule), group in groupby(sorted(rows, key=_by_score), lambda row: row.identity[:4]):
        at = "" if resolution == rule.split("+")[0] else f", resolution {resolution}"  # which rules have of their own
        lines = [
            f"{'#' * level} {dataset} ({split}), {rule}{at}\n",
            "| model | method | K | images | mIoU | accuracy | boundary F | covering | recipe |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in group:
            model = (
                row.weights if row.model and row.weights.startswith(row.model) else f"{row.model} {row.weights}".strip()
            )
            low, high = _percent(row.miou_low), _percent(row.miou_high)
            interval = "" if row.miou_low is None else f" [{low},\N{NO-BREAK SPACE}{high}]"
            scores = (_percent(row.miou) + interval, *map(_percent, (row.accuracy, row.boundary_f, row.covering)))
            cells = (model or "no model", row.method, row.clusters, str(row.images), *scores, f"`{row.recipe}`")
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _result_file(path: Path) -> Path:
    names = ("results.json", "reproduction.json")
    return next((path / name for name in names if (path / name).is_file()), path / names[0]) if path.is_dir() else path


def _of_evaluation(results: Mapping[str, Any]) -> Iterator[ResultRow]:
    data, settings = results["dataset"], results["settings"]
    model, weights = _model(settings["model"])
    extras = [settings["refine"], f"parts of {settings['min_pixels']} pixels" if settings["min_pixels"] else None]
    if "rules" in settings:  # whose name says it
        extras = []
    for method, by_protocol in results["figures"].items():
        for protocol, figures in by_protocol.items():
            low, high = figures["miou"]["interval"]
            yield ResultRow(
                dataset=data["name"],
                split=data["split"],
                resolution=settings["resolution"],
                rule=" + ".join(filter(None, (protocol, *extras))),
                model=model,
                weights=weights,
                method=method,
                recipe=recipe_id(settings["recipe"]),
                clusters=str(settings["recipe"]["n_clusters"]),
                images=data["images"],
                miou=figures["miou"]["value"],
                miou_low=low,
                miou_high=high,
                **{name: figures[name]["value"] for name in ("accuracy", "boundary_f", "covering")},
                version=settings["genseg"],
            )


def _of_reproduction(results: Mapping[str, Any]) -> Iterator[ResultRow]:
    for row in (row for table in results["tables"].values() for row in table["rows"] if row["ours"]):
        (low, high), (model, weights) = row["ours"]["interval"], _model(row["model"])
        yield ResultRow(
            dataset=row["dataset"],
            split=row["split"],
            resolution=row["resolution"],
            rule=row["protocol"],
            model=model,
            weights=weights,
            method=row["method"],
            recipe=row["recipe"],
            clusters=str(row["n_clusters"]),
            images=row["images"],
            miou=row["ours"]["value"] / 100,
            miou_low=low / 100,
            miou_high=high / 100,
            accuracy=None,
            boundary_f=None,
            covering=None,
            version=row["genseg"],
        )


def _model(source: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name of the encoder or backend, with its embedder, and that of a caller's checkpoint."""
    name = source.get("encoder") or source.get("backend") or ""
    named = f" + {source['names']['embedder']}" if source.get("names") else ""
    return name + named, Path(source["model"]).name if "files" in source else ""


def _by_score(row: ResultRow) -> tuple[Any, ...]:
    return *row.identity[:4], -(row.miou or 0.0), row.identity


def _cells(row: ResultRow) -> list[str]:
    return [
        "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value) for value in astuple(row)
    ]


def _parsed(cells: Mapping[str, str]) -> ResultRow:
    scores = {name: float(cells[name]) if cells[name] else None for name in _SCORES}
    words = {field.name: cells[field.name] for field in fields(ResultRow) if field.name not in {*_SCORES, "images"}}
    return ResultRow(images=int(cells["images"]), **scores, **words)  # type: ignore[arg-type]


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.1f}"


_SCORES = ("miou", "miou_low", "miou_high", "accuracy", "boundary_f", "covering")
