"""Report of `speed`: ratios between its measurements, tables and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from genseg.evaluation.agreement import agreement
from genseg.files import write_whole


def completed(
    report: Mapping[str, Any], labels: Mapping[str, list[Any]], given: Mapping[str, list[Any]]
) -> dict[str, Any]:
    """The report with every figure that follows from what was measured.

    The reference, to which speed-up and agreement are, is the first published procedure, in order of measurement. None
    stands for what cannot be said, such as a ratio to a procedure that was not run.

    Args:
        report: With ``procedures`` and ``sweep`` as measured.
        labels: By procedure, the labels of every photo.
        given: By procedure, those it makes of the reference's low-resolution clusters; empty for the reference.
    """
    procedures = {name: _timed(entry) for name, entry in report["procedures"].items()}
    published = [name for name in procedures if name.startswith("published:")]
    reference = published[0] if published else None
    for name, entry in procedures.items():
        dtype = name.split(",")[0].partition(":")[2]
        same = [p for p in published if p.split(",")[0] == f"published:{dtype}"]
        entry["speedup"] = procedures[reference]["seconds"] / entry["seconds"] if reference else None
        entry["speedup_same_dtype"] = procedures[same[0]]["seconds"] / entry["seconds"] if same else None
        entry["agreement"] = None
        if reference:
            pairs = [agreement(a, b) for a, b in zip(labels[reference], labels[name], strict=True)]
            entry["agreement"] = {key: fmean(pair[key] for pair in pairs) for key in pairs[0]}
            alike = [agreement(a, b)["equal"] for a, b in zip(labels[reference], given.get(name, ()), strict=False)]
            entry["agreement"]["given"] = fmean(alike) if alike else None
        rate, first = report["matmul"].get(dtype), next(iter(entry["photos"].values()))
        entry["utilisation"] = entry["flops"] / (first["seconds"] * rate) if entry["flops"] and rate else None
    sweep = {name: _timed(entry) for name, entry in report["sweep"].items()}
    for entry in sweep.values():
        masks = entry["stages"]["modulate"] + entry["stages"].get("decode", 0.0)
        entry["seconds_per_mask"] = masks / entry["recipe"]["n_clusters"]
    return {**report, "reference": reference, "procedures": procedures, "sweep": sweep}


def _timed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A procedure's entry with the medians over its photos."""
    photos = list(entry["photos"].values())
    stages = {stage: median(photo["stages"][stage] for photo in photos) for stage in photos[0]["stages"]}
    counts = {key: median(photo[key] for photo in photos) for key in ("passes", "evaluations", "decodes")}
    return {**entry, "seconds": median(photo["seconds"] for photo in photos), "stages": stages, **counts}


def tables(report: Mapping[str, Any]) -> Iterator[Table | str]:
    """The procedures, their stages, and the sweep over K."""
    where = report["machine"].get("gpu") or f"{report['machine']['cpu']}, {report['machine']['cores']} cores"
    columns = ["procedure", "s/image", "speed-up", "same dtype", "passes", "evaluations", "decodes", "TFLOP"]
    columns += ["utilisation", "peak MB", "over model", "equal, given clusters", "agreement", "ARI"]
    title = f"{report['backend']}, K = {report['clusters']}, {where}"
    about = (
        f"speed-up and agreement: to {report['reference']}, given its clusters, then end to end after matching segments"
    )
    table = Table(*columns, title=title, caption=about)
    for name, entry in report["procedures"].items():
        same = entry["agreement"] or {}
        cells = [f"{entry['seconds']:.2f}", *(_cell(entry[k], "{:.1f}×") for k in ("speedup", "speedup_same_dtype"))]
        cells += [f"{entry[key]:.0f}" for key in ("passes", "evaluations", "decodes")]
        cells += [_cell(entry["flops"] and entry["flops"] / 1e12, "{:.2f}"), _cell(entry["utilisation"], "{:.0%}")]
        cells += [f"{entry['peak_memory'] / 1e6:.0f}", f"{(entry['peak_memory'] - entry['loaded_memory']) / 1e6:.0f}"]
        table.add_row(name, *cells, *(_cell(same.get(key), "{:.4f}") for key in ("given", "matched", "ari")))
    yield table
    stages = list(dict.fromkeys(s for entry in report["procedures"].values() for s in entry["stages"]))
    table = Table("procedure", *stages, title="seconds by stage")
    for name, entry in report["procedures"].items():
        table.add_row(name, *(_cell(entry["stages"].get(stage), "{:.2f}") for stage in stages))
    yield table
    if report["sweep"]:
        table = Table("K", "s a mask", "evaluations", "decodes", "peak MB", title="`paper`, one draw, over K")
        for entry in report["sweep"].values():
            cells = [f"{entry['seconds_per_mask']:.3f}", f"{entry['evaluations']:.0f}", f"{entry['decodes']:.0f}"]
            table.add_row(str(entry["recipe"]["n_clusters"]), *cells, f"{entry['peak_memory'] / 1e6:.0f}")
        yield table
    rates = ", ".join(f"{dtype} {rate / 1e9:.0f} GFLOP/s" for dtype, rate in report["matmul"].items())
    yield f"best square matrix product: {rates}"


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def plot(report: Mapping[str, Any], file: Path) -> None:
    """Seconds of every procedure, by stage, and seconds a mask over K."""
    procedures, sweep = report["procedures"], list(report["sweep"].values())
    figure = Figure(figsize=(11, 1.5 + 0.5 * len(procedures)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    places = range(len(procedures))
    left.barh(places, [entry["seconds"] for entry in procedures.values()], color="#4c78a8")
    for place, entry in zip(places, procedures.values(), strict=True):
        times = f" ({entry['speedup']:.1f}×)" if entry["speedup"] else ""
        left.text(entry["seconds"], place, f" {entry['seconds']:.1f} s{times}", va="center")
    left.set_yticks(places, list(procedures))
    left.invert_yaxis()
    left.set(xlabel="seconds an image", title=f"{report['backend']}, K = {report['clusters']}")
    left.margins(x=0.25)
    for axes, what, scale in ((right, "seconds_per_mask", 1), (right.twinx(), "peak_memory", 1e6)):
        color = "#4c78a8" if axes is right else "#e45756"
        values = [entry[what] / scale for entry in sweep]
        axes.plot([entry["recipe"]["n_clusters"] for entry in sweep], values, "o-", color=color)
        axes.set_ylim(0, 1.15 * max(values, default=1))
        axes.set_ylabel("seconds a mask" if axes is right else "peak memory, MB", color=color)
    right.set(xlabel="K, number of masks", title="`paper` over K")
    write_whole(file, lambda stream: figure.savefig(stream, format="png", dpi=120))
