"""The command line: ``genseg segment``, ``evaluate``, ``compare``, ``calibrate`` and what goes with them.

Whatever needs torch is imported inside the commands, so that ``genseg --help`` does not wait for it.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Annotated

import typer

from genseg import _cli_backends
from genseg._cli_ablate import ablate
from genseg._cli_app import app as serve
from genseg._cli_calibrate import calibrate
from genseg._cli_compare import compare
from genseg._cli_complete import recipes as recipe_names
from genseg._cli_concepts import concepts
from genseg._cli_distill import distill
from genseg._cli_evaluate import datasets, evaluate
from genseg._cli_export import export
from genseg._cli_generate import generate
from genseg._cli_name import name as name_masks
from genseg._cli_reproduce import reproduce
from genseg._cli_run import run
from genseg._cli_segment import segment
from genseg._cli_start import EXIT_CODES, in_one_sentence
from genseg._cli_synth import synth

app = typer.Typer(
    help="Segment images with what generative models already know: no training, no labels, no prompt.",
    no_args_is_help=True,
    epilog=EXIT_CODES,
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


app.command(no_args_is_help=True)(in_one_sentence()(segment))
app.command(no_args_is_help=True)(in_one_sentence()(compare))
app.command(no_args_is_help=True)(in_one_sentence()(evaluate))
app.command(no_args_is_help=True)(in_one_sentence()(ablate))
app.command(no_args_is_help=True)(in_one_sentence()(reproduce))
app.command(no_args_is_help=True)(in_one_sentence()(run))
app.command(no_args_is_help=True)(in_one_sentence()(synth))
app.command(no_args_is_help=True)(in_one_sentence()(distill))
app.command()(in_one_sentence()(datasets))
app.command()(generate)
app.command(no_args_is_help=True)(in_one_sentence()(calibrate))
app.command(no_args_is_help=True)(in_one_sentence()(export))
app.command("app")(serve)
app.command(no_args_is_help=True)(in_one_sentence()(concepts))
app.command("name", no_args_is_help=True)(in_one_sentence()(name_masks))


app.add_typer(_cli_backends.app, name="backends")


@app.command()
@in_one_sentence()
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="A preset or a YAML file; none for the list of presets.", autocompletion=recipe_names),
    ] = None,
) -> None:
    """List the presets, or print one with all its values as YAML."""
    from omegaconf import OmegaConf

    from genseg.recipe import list_presets, load_recipe

    typer.echo("\n".join(list_presets()) if name is None else OmegaConf.to_yaml(load_recipe(name)).rstrip())
