"""``genseg calibrate``: search the recipe that suits a model, on a few photos."""

from __future__ import annotations

import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.files import check_writable, split_inputs
from genseg.errors import GensegError
from genseg.files import write_whole

if TYPE_CHECKING:
    from genseg.calibration.search import Calibration


def calibrate(
    backend: cli_options.BackendName,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|KEY=VALUE",
            help="Images, folders, patterns, and recipe keys that stay fixed, as for segment.",
            autocompletion=complete.keys,
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Ground truth: NAME.png of classes (255 is ignored), or NAME.0.png, NAME.1.png, ... of regions.",
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", metavar="NAME", help="How masks are given classes of the ground truth.")
    ] = "oracle",
    out: cli_options.Out = Path("genseg-output"),
    images: Annotated[int, typer.Option(metavar="N", help="How many of the images, evenly spaced.")] = 8,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B,...", help="Values to try of tap, channels, t_f, point, t_m or strength; repeatable."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", help="Times to go through all of them, at most.")] = 2,
    model: cli_options.Model = None,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be tried, and end.")] = False,
) -> None:
    """Find where to read features, where to add the offset, and how strong, for one model.

    Writes BACKEND.yaml, for --recipe, BACKEND.png, a plot, and BACKEND.jsonl, all that was tried. An
    interrupted search resumes.
    """
    paths, options = split_inputs(inputs)
    chosen = _spaced(paths, images)
    truths = None if labels is None else [_truth(labels, path) for path in chosen]
    factors = dict(_factor(each) for each in grid or [])
    check_writable(out)

    from genseg.calibration.criterion import check_protocol
    from genseg.calibration.search import calibrate as search
    from genseg.calibration.search import settings_to_try
    from genseg.recipe import load_recipe
    from genseg.registry import load_backend

    load_recipe(options=options)  # refuse a mistyped key before a model is loaded
    check_protocol(protocol, truths)
    loaded = load_backend(backend, model=model, device=device, dtype=dtype)
    recipe = loaded.resolve(options=options)
    tried = settings_to_try(loaded, recipe, factors)
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(_summary(tried, rounds, len(chosen)), soft_wrap=True)
    if dry_run:
        return
    with _Bar(console) as bar:
        calibration = search(
            loaded,
            chosen,
            truths=truths,
            protocol=protocol,
            recipe=recipe,
            grid=factors,
            rounds=rounds,
            seed=seed,
            out=out / f"{backend}.jsonl",
            model=model,
            dtype=dtype,
            progress=bar.on_progress,
        )
    console.print(_table(calibration))
    console.print(
        f"{calibration.criterion}: {calibration.best.score:.3f}, {calibration.trials[0].score:.3f} to begin with"
    )
    path = calibration.save(out / f"{backend}.yaml")
    figure = calibration.plot()
    write_whole(out / f"{backend}.png", lambda file: figure.savefig(file, format="png"))
    console.print(f"genseg segment IMAGE -b {backend} -r {path}", soft_wrap=True)


class _Bar(Progress):
    """A bar over images and settings on a terminal, and else a line for each setting."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:24}"), BarColumn(), TextColumn("at most"), TimeRemainingColumn())
        super().__init__(*columns, console=console, transient=True, disable=not sys.stdout.isatty())
        self._all, self._setting = self.add_task("load", total=None), ""

    def on_progress(self, setting: str, done: int, total: int) -> None:
        """Show the current setting, and how far the search is."""
        if self.disable and setting != self._setting:
            self.console.print(f"{setting}: image {done} of at most {total}")
        self._setting = setting
        self.update(self._all, description=setting, completed=done, total=total)


def _summary(tried: dict[str, list[Any]], rounds: int, images: int) -> str:
    """Say how many settings a search tries, and of which factors."""
    most = 1 + rounds * sum(map(len, tried.values()))
    factors = ", ".join(f"{len(values)} of {factor}" for factor, values in tried.items() if values)
    return f"{images} images; at most {most} settings in {rounds} rounds: the start, and {factors or 'none'} in each"


def _spaced(paths: list[Path], count: int) -> list[Path]:
    """``count`` of the paths, evenly spaced, or all where there are no more."""
    if count < 1:
        raise GensegError(f"--images must be at least 1, not {count}")
    count = min(count, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


def _factor(option: str) -> tuple[str, list[str]]:
    """``KEY=A,B,...`` as a factor and its values, which the recipe converts; ``KEY=`` for none."""
    key, equals, values = option.partition("=")
    if not equals:
        raise GensegError(f"--grid {option} is not KEY=A,B,..., such as strength=10,25,50")
    return key, values.split(",") if values else []


def _truth(folder: Path, image: Path) -> Any:
    """The ground truth of an image: an array of classes, or a list of annotators' arrays."""
    import numpy as np

    from genseg.images.files import open_image
    from genseg.recipe import Recipe

    def read(file: Path) -> Any:
        array = np.asarray(open_image(file, Recipe.max_pixels))
        if array.ndim != 2:
            raise GensegError(f"{file} has colors, not labels; give a PNG with one number per pixel")
        return array

    classes = folder / f"{image.stem}.png"
    if classes.exists():
        return read(classes)
    regions = sorted(folder.glob(f"{glob.escape(image.stem)}.*.png"))
    if not regions:
        raise GensegError(f"{folder} has neither {image.stem}.png nor {image.stem}.0.png; name the folder of labels")
    return [read(file) for file in regions]


def _table(calibration: Calibration) -> Table:
    """The best trial of each value of each factor; the chosen value is marked."""
    from genseg.calibration.trials import FACTORS

    table = Table("factor", "value", "score", *calibration.best.terms, "", box=None, pad_edge=False)
    for factor in FACTORS:
        for value in calibration.values(factor):
            trial = calibration.best_with(factor, value)
            terms = [f"{trial.terms[name]:.3f}" if trial.terms else "" for name in calibration.best.terms]
            note = "chosen" if value == calibration.best.setting[factor] else trial.reason
            table.add_row(factor, str(value), f"{trial.score:.3f}", *terms, note)
    return table
