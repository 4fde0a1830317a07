"""Output of ``genseg segment``: plain lines, a picture in the terminal, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genseg.cli.errors import complain
from genseg.cli.files import files_of
from genseg.cli.progress import Bars
from genseg.files import KINDS

if TYPE_CHECKING:
    from genseg.cost import Cost
    from genseg.segmentation import Segmentation
if TYPE_CHECKING:
    from genseg.segmentation import Segmentation


PICTURE = (48, 32)  # the largest picture, in half characters: columns, and two to a line

BESIDE = 26  # columns for what stands beside the picture

WITHOUT: dict[str, Any] = dict.fromkeys(
    ("width", "height", "segments", "sizes", "names", "seconds", "evaluations", "backend", "seed", "recipe")
)
"""Reasons, in JSON, why an image was not segmented in this run."""


class Report:
    """Reports the result of each image as soon as it is known; failures are repeated at the end, on stderr.

    Args:
        bars: Where lines go.
        images: How many there are.
        out: Where files go.
        kinds: Those of the files.
        as_json: Whether to print a JSON object a line in place of everything else; docs/command-line.md has its keys.
    """

    def __init__(self, bars: Bars, images: int, out: Path, kinds: Iterable[str], as_json: bool) -> None:
        self._bars, self._images, self._out, self._kinds, self._json = bars, images, out, list(kinds), as_json
        self._costs: list[Cost] = []
        self._failed: dict[str, str] = {}
        self._here = 0  # images whose files are there

    def skipped(self, image: Path) -> None:
        """An image whose files exist."""
        self._here += 1
        self._bars.next_image(f"{image}: skipped, its files exist; --overwrite makes them again")
        self._record(str(image), "skipped", files=self._files(image))

    def failed(self, image: str, problem: str) -> None:
        """An image, or a line of a list, of which nothing came."""
        self._failed[image] = problem
        self._bars.next_image(f"{image}: failed")
        self._record(image, "failed", error=problem)

    def done(self, image: Path, segmentation: Segmentation) -> None:
        """An image whose files are written."""
        self._here += 1
        self._costs.append(segmentation.cost)
        if self._images == 1 and can_show(self._bars.console) and not self._json:
            self._bars.console.print(pictured(segmentation, self._bars.console.width))
        self._bars.next_image(f"{image}: {segmentation.n_segments} segments, {_seconds([segmentation.cost]):.1f} s")
        if segmentation.names is not None:
            self._bars.say(f"  {in_words(segmentation)}")
        if self._json:
            self._record(str(image), "done", files=self._files(image), **_facts(segmentation))

    def nothing_to_do(self, backend: str, all_exist: bool) -> None:
        """A dry run that leaves no image; ``all_exist`` where the files of those that can be used are there."""
        if self._json:
            amounts = {"images": 0, "seconds": 0.0, "evaluations": 0, "bytes": 0, "probe": None, "per_image": None}
            typer.echo(json.dumps(amounts | {"loading": 0.0, "backend": backend, "recipe": None}))
        elif all_exist:
            self._bars.say(f"nothing to do: all files exist in {self._out}; --overwrite makes them again")

    def end(self) -> None:
        """Tell the cost, where the files are, and what is known of failures once more.

        Raises:
            typer.Exit: With 1 if an image failed.
        """
        if self._costs:
            self._bars.say(f"cost{' per image' if self._images > 1 else ''}: {spent(self._costs)}")
        if self._here:
            names = ", ".join("NAME" + KINDS[kind] for kind in self._kinds)
            self._bars.say(f"files in {self._out}: {names}")
        self._bars.stop()
        for image, problem in self._failed.items():
            complain(problem if image in problem else f"{image}: {problem}")
        if self._failed:
            raise typer.Exit(1)

    def _files(self, image: Path) -> dict[str, str]:
        return {kind: str(file) for kind, file in files_of(image, self._out, self._kinds).items()}

    def _record(self, image: str, status: str, error: str | None = None, files: Any = None, **facts: Any) -> None:
        if self._json:
            what = {"image": image, "status": status, "error": error, "files": files or {}}
            typer.echo(json.dumps(what | WITHOUT | facts))


def _facts(segmentation: Segmentation) -> dict[str, Any]:
    import numpy as np

    height, width = segmentation.labels.shape
    return {
        "width": width,
        "height": height,
        "segments": segmentation.n_segments,
        "sizes": np.bincount(segmentation.labels.ravel(), minlength=len(segmentation.colors)).tolist(),
        "names": segmentation.names,
        "seconds": round(_seconds([segmentation.cost]), 3),
        "evaluations": segmentation.cost.evaluations,
        "backend": segmentation.backend,
        "seed": segmentation.seed,
        "recipe": asdict(segmentation.recipe),
    }


def can_show(console: Console) -> bool:
    """Whether a picture can be seen: on a real terminal that is wide enough, with colors and half blocks."""
    colors = console.color_system in ("256", "truecolor") and not console.no_color
    return colors and console.file.isatty() and console.encoding.startswith("utf") and console.width >= 2 * BESIDE


def pictured(segmentation: Segmentation, width: int) -> Table:
    """The overlay in half characters, and beside it the segments, the largest first."""
    import numpy as np
    from rich_pixels import Pixels

    picture = replace(segmentation, names=None).overlay()  # captions would be too small to read
    picture.thumbnail((min(PICTURE[0], width - BESIDE), PICTURE[1]))
    labels, sizes = np.unique(segmentation.labels, return_counts=True)
    shown = np.argsort(-sizes, kind="stable")[: max(picture.height // 2 - 1, 1)]
    beside = Text()
    for label, size in zip(labels[shown].tolist(), sizes[shown].tolist(), strict=True):
        color = "#{:02x}{:02x}{:02x}".format(*segmentation.colors[label].tolist())
        name = segmentation.names[label] if segmentation.names else label
        beside.append("██", style=color).append(f" {size / segmentation.labels.size:4.0%}  {name}\n")
    if len(shown) < len(labels):
        beside.append(f"and {len(labels) - len(shown)} more")
    table = Table.grid(padding=(0, 2))
    table.add_column(width=picture.width)
    table.add_row(Pixels.from_image(picture), beside)
    return table


def _seconds(costs: list[Cost]) -> float:
    return sum(sum(cost.seconds.values()) for cost in costs) / len(costs)


def spent(costs: list[Cost]) -> str:
    """Seconds, those of the stages that count, and model evaluations, on average."""
    by_stage = {stage: sum(cost.seconds[stage] for cost in costs) / len(costs) for stage in costs[0].seconds}
    return cost_in_words(by_stage, sum(cost.evaluations for cost in costs) / len(costs))


def cost_in_words(seconds: Mapping[str, float], evaluations: float) -> str:
    """The cost of an image: seconds, those of the stages that count, and model evaluations."""
    whole = sum(seconds.values())
    parts = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items() if spent >= max(whole / 20, 0.05))
    return f"{whole:.1f} s{f' ({parts})' if parts else ''}, {evaluations:.0f} model evaluations"


def in_words(segmentation: Segmentation) -> str:
    """Each segment's label, name and share of the image, the largest first, in one line."""
    import numpy as np

    assert segmentation.names is not None
    labels, sizes = np.unique(segmentation.labels, return_counts=True)
    parts = sorted(zip((-sizes).tolist(), labels.tolist(), strict=True))
    return ", ".join(
        f"{label} {segmentation.names[label]} {-size / segmentation.labels.size:.0%}" for size, label in parts
    )
