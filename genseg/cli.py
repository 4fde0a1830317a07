"""The command line: ``genseg segment``, ``evaluate``, ``compare``, ``calibrate`` and what goes with them.

Whatever needs torch is imported inside the commands, so that ``genseg --help`` does not wait for it.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genseg import _cli_backends
from genseg._cli_ablate import ablate
from genseg._cli_app import app as serve
from genseg._cli_bars import Bars
from genseg._cli_calibrate import calibrate
from genseg._cli_compare import compare
from genseg._cli_evaluate import datasets, evaluate
from genseg._cli_files import KINDS, check_writable, kinds_of, planned, sorted_out, write
from genseg._cli_generate import generate
from genseg._cli_names import in_words, naming
from genseg._cli_start import OFFLINE, go_offline, in_one_sentence, load_options
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
@in_one_sentence()
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
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="A branch, tag or commit of the model on the hub.")
    ] = None,
    load: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Another option of the backend, such as offload=true; repeatable."),
    ] = None,
    clusters: Annotated[
        str | None, typer.Option("--clusters", "-k", metavar="K|auto", help="Number of clusters: n_clusters=K.")
    ] = None,
    merge: Annotated[int | None, typer.Option(metavar="N", help="Merge into at most N segments.")] = None,
    names: Annotated[
        str | None, typer.Option(metavar="CLASSES", help="Name segments by these classes, such as 'sky,building,tree'.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model that names segments; maskclip unless given.")
    ] = None,
    embedder_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A local checkpoint or hub id in place of the embedder's.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where files go.")] = Path("genseg-output"),
    save: Annotated[
        str, typer.Option(metavar="KINDS", help=f"Comma-separated, any of {','.join(KINDS)}.")
    ] = "overlay,labels",
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    device: Annotated[str | None, typer.Option(help="A torch device; else CUDA where there is one.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 (the default), float16 or bfloat16.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make files again that exist already.")] = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
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
    further = load_options(load or [], revision)
    _check(recipe, options, merge, seed)

    broken: dict[Path, GensegError] = {}
    costs: list[Cost] = []
    with Bars(len(plan)) as bars:
        for image, files in plan:
            if not files:
                bars.next_image(f"{image}: skipped, its files exist; --overwrite makes them again")
        todo = [(image, files) for image, files in plan if files]
        if todo:
            bars.stage("load", 0, 1)
            named = naming(names, embedder, embedder_model, device, dtype)

            from genseg.recipe import load_recipe
            from genseg.registry import load_backend
            from genseg.segmenter import Segmenter

            loaded = load_backend(backend, model=model, device=device, dtype=dtype, **further)
            resolved = load_recipe(recipe or loaded.preset, calibration=loaded.recipe, options=options)
            _check_merge(merge, resolved)
            segmenter = Segmenter(loaded, resolved, seed=seed, progress=bars.stage)
        for image, files in todo:
            try:
                segmentation = segmenter(image)
                if merge is not None:
                    segmentation = segmentation.merge(min(merge, segmentation.n_segments))
                if named is not None:
                    segmentation = named(segmentation)
            except GensegError as error:
                if len(plan) == 1:
                    raise
                broken[image] = error
                bars.next_image(f"{image}: failed")
                continue
            write(segmentation, files)
            costs.append(segmentation.cost)
            bars.next_image(f"{image}: {segmentation.n_segments} segments, {_seconds([segmentation.cost]):.1f} s")
            if segmentation.names is not None:
                bars.say(f"  {in_words(segmentation)}")
        if costs:
            bars.say(f"cost{' per image' if len(plan) > 1 else ''}: {_spent(costs)}")
        if len(broken) < len(plan):
            bars.say(f"files in {out}: {', '.join('NAME' + KINDS[kind] for kind in kinds)}")
    for image, why in broken.items():
        typer.echo(f"genseg: {why}" if str(image) in str(why) else f"genseg: {image}: {why}", err=True)
    if broken:
        raise typer.Exit(1)


app.command(no_args_is_help=True)(in_one_sentence()(compare))
app.command(no_args_is_help=True)(in_one_sentence()(evaluate))
app.command(no_args_is_help=True)(in_one_sentence()(ablate))
app.command()(in_one_sentence()(datasets))
app.command()(generate)
app.command(no_args_is_help=True)(in_one_sentence()(calibrate))
app.command("app")(serve)


app.add_typer(_cli_backends.app, name="backends")


@app.command()
@in_one_sentence()
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


def _seconds(costs: list[Cost]) -> float:
    return sum(sum(cost.seconds.values()) for cost in costs) / len(costs)


def _spent(costs: list[Cost]) -> str:
    """Seconds, those of the stages that count, and model evaluations, on average."""
    whole = _seconds(costs)
    by_stage = {stage: sum(cost.seconds[stage] for cost in costs) / len(costs) for stage in costs[0].seconds}
    parts = ", ".join(f"{stage} {spent:.1f}" for stage, spent in by_stage.items() if spent >= max(whole / 20, 0.05))
    evaluations = sum(cost.evaluations for cost in costs) / len(costs)
    return f"{whole:.1f} s{f' ({parts})' if parts else ''}, {evaluations:.0f} model evaluations"
