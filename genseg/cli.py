"""The command line: ``genseg segment``, ``genseg backends``, ``genseg recipes``.

Whatever needs torch is imported inside the commands, so that ``genseg --help`` does not wait for it.
"""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from genseg._cli_files import KINDS, check_writable, kinds_of, planned, sorted_out, write
from genseg.errors import GensegError

if TYPE_CHECKING:
    from genseg.recipe import Recipe
    from genseg.segmentation import Cost

app = typer.Typer(
    help="Segment images with what generative models already know: no training, no labels, no prompt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console entry point."""
    app(prog_name="genseg")


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Turn what users can do something about into a sentence on stderr and an exit code."""
    try:
        yield
    except GensegError as error:
        code, sentence = 2, str(error)
    except KeyboardInterrupt:
        code, sentence = 130, "stopped; finished files are kept"
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        code, sentence = 2, "out of memory; choose a smaller batch_size, such as batch_size=2, or a smaller size"
    else:
        return
    typer.echo(f"genseg: {sentence}", err=True)
    raise typer.Exit(code)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether it is Python's, CUDA's (torch.OutOfMemoryError) or, a bare RuntimeError, torch's on the CPU."""
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def _show_version(wanted: bool) -> None:
    if wanted:
        from genseg import __version__

        typer.echo(f"genseg {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    for name in ("DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "critical")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=UserWarning, module=r"genseg\b")
    warnings.showwarning = lambda message, *_, **__: typer.echo(f"genseg: warning: {message}", err=True)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be no text in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")


@app.command(no_args_is_help=True)
@_in_one_sentence()
def segment(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT|KEY=VALUE",
            help="Images, folders of images, patterns such as 'photos/*.jpg', and recipe keys such as size=256.",
        ),
    ],
    backend: Annotated[str, typer.Option("--backend", "-b", help="See 'genseg backends'.")] = "tiny",
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="A preset (see 'genseg recipes') or a YAML file.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A local checkpoint or hub id in place of the backend's.")] = None,
    clusters: Annotated[
        str | None, typer.Option("--clusters", "-k", metavar="K|auto", help="Number of clusters: n_clusters=K.")
    ] = None,
    merge: Annotated[int | None, typer.Option(metavar="N", help="Merge into at most N segments.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where files go.")] = Path("genseg-output"),
    save: Annotated[
        str, typer.Option(metavar="KINDS", help=f"Comma-separated, any of {','.join(KINDS)}.")
    ] = "overlay,labels",
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    device: Annotated[str | None, typer.Option(help="A torch device; else CUDA where there is one.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 (the default), float16 or bfloat16.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make files again that exist already.")] = False,
) -> None:
    """Segment images; for each, write NAME.overlay.png, NAME.labels.png or NAME.npz.

    Files that exist are left alone. A broken image does not stop the others; the exit code is then 1.
    """
    kinds = kinds_of(save)
    images, options = sorted_out(inputs)
    plan = planned(images, out, kinds, overwrite)
    if clusters is not None:
        options.append(f"n_clusters={clusters}")
    check_writable(out)
    _check(recipe, options, merge, seed)

    broken: dict[Path, GensegError] = {}
    costs: list[Cost] = []
    with _Bars(len(plan)) as bars:
        for image, files in plan:
            if not files:
                bars.next_image(f"{image}: skipped, its files exist; --overwrite makes them again")
        todo = [(image, files) for image, files in plan if files]
        if todo:
            bars.stage("load", 0, 1)
            from genseg.recipe import load_recipe
            from genseg.registry import load_backend
            from genseg.segmenter import Segmenter

            loaded = load_backend(backend, model=model, device=device, dtype=dtype)
            resolved = load_recipe(recipe or loaded.preset, calibration=loaded.recipe, options=options)
            _check_merge(merge, resolved)
            segmenter = Segmenter(loaded, resolved, seed=seed, progress=bars.stage)
        for image, files in todo:
            try:
                segmentation = segmenter(image)
            except GensegError as error:
                if len(plan) == 1:
                    raise
                broken[image] = error
                bars.next_image(f"{image}: failed")
                continue
            if merge is not None:
                segmentation = segmentation.merge(min(merge, segmentation.n_segments))
            write(segmentation, files)
            costs.append(segmentation.cost)
            bars.next_image(f"{image}: {segmentation.n_segments} segments, {_spent([segmentation.cost])}")
        if costs:
            bars.say(f"cost per image: {_spent(costs)}")
        if len(broken) < len(plan):
            bars.say(f"files in {out}: {', '.join('NAME' + KINDS[kind] for kind in kinds)}")
    for image, why in broken.items():
        typer.echo(f"genseg: {why}" if str(image) in str(why) else f"genseg: {image}: {why}", err=True)
    if broken:
        raise typer.Exit(1)


@app.command()
@_in_one_sentence()
def backends(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the backends, who provides them, and whether they are usable here."""
    from genseg.registry import list_backends

    infos = list_backends()
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in infos], indent=2))
        return
    table = Table("name", "description", "provider", "usable", box=None, pad_edge=False)
    for info in infos:
        table.add_row(info.name, info.description, info.provider, "yes" if info.usable else f"no: {info.problem}")
    Console(markup=False, emoji=False).print(table)


@app.command()
@_in_one_sentence()
def recipes(
    name: Annotated[str | None, typer.Argument(help="A preset or a YAML file; none for the list of presets.")] = None,
) -> None:
    """List the presets, or print one with all its values as YAML."""
    from omegaconf import OmegaConf

    from genseg.recipe import list_presets, load_recipe

    typer.echo("\n".join(list_presets()) if name is None else OmegaConf.to_yaml(load_recipe(name)).rstrip())


def _check(recipe: str | None, options: list[str], merge: int | None, seed: int) -> None:
    """Refuse what can be refused before a model is loaded, the quickest to see first."""
    if seed < 0:
        raise GensegError(f"seed must be at least 0, not {seed}")

    from genseg.recipe import load_recipe

    # A calibration lies below what the caller gave: "auto" is left where that names no n_clusters.
    _check_merge(merge, load_recipe(recipe or "paper", calibration={"n_clusters": "auto"}, options=options))


def _check_merge(merge: int | None, recipe: Recipe) -> None:
    most = recipe.n_clusters
    if merge is not None and (merge < 1 or (isinstance(most, int) and merge > most)):
        what = f"from 1 to n_clusters={most}" if isinstance(most, int) else "of at least 1"
        raise GensegError(f"--merge needs a number {what}, not {merge}")


def _spent(costs: list[Cost]) -> str:
    """Seconds and model evaluations, on average."""
    seconds = sum(sum(cost.seconds.values()) for cost in costs) / len(costs)
    evaluations = sum(cost.evaluations for cost in costs) / len(costs)
    return f"{seconds:.1f} s, {evaluations:.0f} model evaluations"


class _Bars(Progress):
    """Plain lines, and on a terminal a bar over images and one for the stage of the current image."""

    def __init__(self, images: int) -> None:
        columns = (TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.fields[count]}"))
        console = Console(markup=False, emoji=False, highlight=False)
        super().__init__(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not sys.stdout.isatty()
        )
        self._total, self._finished = images, 0
        self._images = self.add_task("images", total=images, count=f"0/{images}")
        self._stage = self.add_task("", total=None, count="")
        self._name = ""

    def say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def next_image(self, line: str) -> None:
        self.say(line)
        self._finished += 1
        self.update(self._images, completed=self._finished, count=f"{self._finished}/{self._total}")

    def stage(self, name: str, done: int, total: int) -> None:
        """Show how far a stage is; one of a single step pulses, for nothing says how far it is."""
        if name != self._name:
            self._name = name
            self.remove_task(self._stage)
            self._stage = self.add_task(name, total=total if total > 1 else None, count="")
        if total > 1:
            self.update(self._stage, completed=done, count=f"{done}/{total}")
        if name == "modulate":  # where nearly all of an image's time goes
            self.update(self._images, completed=self._finished + done / total)
