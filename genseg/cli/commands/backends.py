"""``genseg backends``: list them, show one, check it against the contract, and begin a new one."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.errors import complain, report_errors
from genseg.cli.options import go_offline, load_options
from genseg.errors import GensegError

if TYPE_CHECKING:
    from genseg.interface import Backend
    from genseg.plugins import PluginInfo

app = typer.Typer(help="List, show and check backends, or begin a new one.", invoke_without_command=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str | None, typer.Option(help="A local checkpoint or hub id in place of the backend's.")]


@app.callback()
def backends(context: typer.Context, as_json: Json = False) -> None:
    """List, show and check backends, or begin a new one; by itself, list them."""
    if context.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
@report_errors()
def list_(as_json: Json = False) -> None:
    """List the backends, who provides them, and whether they are usable here."""
    from genseg.registry import list_backends

    infos = list_backends()
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in infos], indent=2))
        return
    table = Table("name", "family", "description", "provider", "usable here", box=None, pad_edge=False)
    for info in infos:
        table.add_row(info.name, info.card.family if info.card else "", info.description, info.provider, _usable(info))
    _console().print(table)


@app.command()
@report_errors()
def show(name: cli_options.BackendName, model: Model = None, as_json: Json = False) -> None:
    """Show a backend's family, license, size, taps and points, and whether it is usable here or why not."""
    from genseg.registry import BACKENDS, load_backend

    info = BACKENDS.info(name)
    facts: dict[str, Any] = {"name": name, "description": info.description, "provider": info.provider}
    if info.card is not None:
        facts |= asdict(info.card)
    facts["usable"] = _usable(info)
    backend = None
    if info.usable:
        facts["options"] = ", ".join(sorted(BACKENDS.plugins.options(name) or ())) or "none"
        go_offline(os.environ.get("HF_HUB_OFFLINE") is None)  # what is not here is not fetched to be looked at
        try:
            backend = load_backend(name, model=model, device="cpu")
        except GensegError as error:
            facts["sites"] = f"known once the weights are here: {error}"
    sites = _sites(backend) if backend is not None else []
    if as_json:
        typer.echo(json.dumps(facts | {"sites": sites or facts.get("sites", "")}, indent=2))
        return
    table = Table("", "", box=None, pad_edge=False, show_header=False)
    for key, value in facts.items():
        table.add_row(key, f"{value:,}" if key == "parameters" and value else str("" if value is None else value))
    _console().print(table)
    if sites:
        table = Table("kind", "name", "module", "side", "channels", "grid", "stride", box=None, pad_edge=False)
        for site in sites:
            star = f"{site['name']}{' (default)' if site['default'] else ''}"
            grid = "x".join(map(str, site["grid"]))
            table.add_row(
                site["kind"], star, site["module"], site["side"], str(site["channels"]), grid, str(site["stride"])
            )
        _console().print(table)


def _usable(info: PluginInfo) -> str:
    """Whether a backend can be used here, and what it needs: by its card and the cache, without the network."""
    if not info.usable:
        return f"no: {info.problem}"
    if not info.problem:
        return "ready"
    if info.card is None:
        return "needs weights"
    if info.card.access == "pickles":
        return "needs weights, converted: the hub has pickles alone"
    size = [f"{info.card.parameters / 1e9:.1f}B parameters"] if info.card.parameters else []
    return f"needs weights ({', '.join([*size, info.card.access])})"


def _sites(backend: Backend) -> list[dict[str, Any]]:
    """Taps and points of a loaded backend; the defaults are those of its recipe."""
    rows = []
    for kind, sites in (("tap", backend.taps), ("point", backend.points)):
        chosen = backend.recipe.get(kind) or next(iter(sites))
        rows += [{"kind": kind, "name": name, "default": name == chosen} | asdict(s) for name, s in sites.items()]
    return rows


@app.command()
@report_errors()
def check(
    name: cli_options.BackendName,
    model: Model = None,
    load: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Another option of the backend; repeatable.")
    ] = None,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    locality: Annotated[bool, typer.Option(help="Require that changes are local; not for untrained weights.")] = True,
) -> None:
    """Run the contract's checks on a backend with its weights; the exit code is 1 if one fails."""
    from genseg.contract.checks import CHECKS
    from genseg.contract.context import CheckContext, NotApplicable
    from genseg.registry import load_backend

    backend = load_backend(name, model=model, device=device, dtype=dtype, **load_options(load or []))
    tolerance = 1e-3 if dtype in (None, "float32") else 0.1
    context, failures = CheckContext(backend, locality=locality, tolerance=tolerance), 0
    table = Table("check", "result", "seconds", "reason", box=None, pad_edge=False)
    for title, run in CHECKS.items():
        start, result, reason = time.perf_counter(), "passed", ""
        try:
            run(context)
        except NotApplicable as error:
            result, reason = "not applicable", str(error)
        except Exception as error:  # a backend may raise anything, and the other checks are still of use
            result, reason, failures = "failed", str(error) or type(error).__name__, failures + 1
        table.add_row(title.replace("_", " "), result, f"{time.perf_counter() - start:.1f}", reason)
    _console().print(table)
    if failures:
        complain(f"{name} fails {failures} of {len(CHECKS)} checks")
        raise typer.Exit(1)


@app.command()
@report_errors()
def new(
    name: Annotated[str, typer.Argument(help="Of the backend, such as my-model.")],
    family: Annotated[
        str | None,
        typer.Option(
            help="A model of diffusers: unet, transformer (with cross-attention) or joint (text beside the image's "
            "tokens). A network of any kind unless given.",
            autocompletion=complete.words("unet", "transformer", "joint"),
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the project's folder goes.")] = Path(),
) -> None:
    """Write a plug-in project for a new backend: complete, tested and installable."""
    from genseg.cli.scaffold import write_project

    folder = write_project(name, out, family)
    typer.echo(f"written: {folder}\nnext: pip install --editable {folder} pytest && pytest {folder}")


def _console() -> Console:
    """One on which tables fit, also where it is no terminal."""
    console = Console(markup=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, emoji=False, width=max(console.width, 160))
