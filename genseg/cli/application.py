"""The commands, put together. Those that need torch import it as they run, so that ``--help`` does not wait."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from genseg.cli.commands import backends as backend_commands
from genseg.cli.commands import results as results_commands
from genseg.cli.commands.ablate import ablate
from genseg.cli.commands.app import app as show_app
from genseg.cli.commands.atlas import atlas
from genseg.cli.commands.calibrate import calibrate
from genseg.cli.commands.compare import compare
from genseg.cli.commands.concepts import concepts
from genseg.cli.commands.distill import distill
from genseg.cli.commands.evaluate import datasets, evaluate
from genseg.cli.commands.export import export
from genseg.cli.commands.features import features
from genseg.cli.commands.generate import generate
from genseg.cli.commands.name import name as name_masks
from genseg.cli.commands.reproduce import reproduce
from genseg.cli.commands.run import run
from genseg.cli.commands.segment import segment
from genseg.cli.commands.serve import serve
from genseg.cli.commands.synth import synth
from genseg.cli.completion import recipes as recipe_names
from genseg.cli.errors import EXIT_CODES, complain, report_errors
from genseg.version import __version__


class _Group(TyperGroup):
    """The commands; a shell leaves ``--out=~/masks`` as it is, so a leading ``~`` is expanded here."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_expand_home(arg) for arg in args])


def _expand_home(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    is_home = value.startswith("~") and not os.path.lexists(value)
    return option + equals + (os.path.expanduser(value) if is_home else value)  # noqa: PTH111


app = typer.Typer(
    cls=_Group,
    help="Segment images with what generative models already know: no training, no labels, no prompt.",
    no_args_is_help=True,
    epilog=EXIT_CODES,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
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
        warnings.filterwarnings("default", category=UserWarning, module=r"genseg(_backends)?\b")
    warnings.showwarning = lambda message, *_, **__: complain(f"warning: {message}")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be no text in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")


app.command(no_args_is_help=True)(report_errors()(segment))
app.command(no_args_is_help=True)(report_errors()(compare))
app.command(no_args_is_help=True)(report_errors()(evaluate))
app.command(no_args_is_help=True)(report_errors()(ablate))
app.command(no_args_is_help=True)(report_errors()(reproduce))
app.command(no_args_is_help=True)(report_errors()(run))
app.command(no_args_is_help=True)(report_errors()(synth))
app.command(no_args_is_help=True)(report_errors()(distill))
app.command()(report_errors()(datasets))
app.command()(generate)
app.command(no_args_is_help=True)(features)
app.command(no_args_is_help=True)(atlas)
app.command(no_args_is_help=True)(report_errors()(calibrate))
app.command(no_args_is_help=True)(report_errors()(export))
app.command("app")(show_app)
app.command()(serve)
app.command(no_args_is_help=True)(report_errors()(concepts))
app.command("name", no_args_is_help=True)(report_errors()(name_masks))


app.add_typer(backend_commands.app, name="backends")
app.add_typer(results_commands.app, name="results")


@app.command()
@report_errors()
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
