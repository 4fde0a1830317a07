"""``genseg features``: read what a model computes on the way, into a safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from genseg.cli import completion as complete
from genseg.cli import options as cli_options
from genseg.cli.errors import report_errors
from genseg.cli.files import check_output, split_inputs
from genseg.cli.options import OFFLINE, given, go_offline, load_options, names_in
from genseg.errors import GensegError, whole_number
from genseg.files import write_whole

if TYPE_CHECKING:
    from genseg.feature_reader import FeatureReader
    from genseg.interface import Backend

READING = ("sites", "timesteps", "draws", "prompt", "words", "heads", "out", "overwrite", "recipe", "seed")
"""Options that ``--list`` has no use for."""


@report_errors()
def features(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PHOTO|KEY=VALUE",
            help="An image, and recipe keys such as size=512.",
            autocompletion=complete.keys,
        ),
    ] = None,
    backend: cli_options.Backend = "tiny",
    sites: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,...",
            help="Sites, patterns such as 'up*.query', or module:PATH; the recipe's tap unless given.",
        ),
    ] = None,
    timesteps: Annotated[
        str | None, typer.Option(metavar="T,T,...", help="Timesteps of the noise, 0 to 999; the recipe's unless given.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, metavar="N", help="Noise draws to average over.")] = 1,
    kind: Annotated[
        str, typer.Option(help="features, or attention.", autocompletion=complete.words("features", "attention"))
    ] = "features",
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="Text prompt; none unless given.")] = "",
    words: Annotated[
        str, typer.Option(metavar="TEXT", help="With attention to text: words that need not be in the prompt.")
    ] = "",
    heads: Annotated[bool, typer.Option("--heads", help="With attention: keep heads apart.")] = False,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="The safetensors file; one tensor [T, C, h, w] per site."),
    ] = Path("features.safetensors"),
    overwrite: cli_options.Overwrite = False,
    recipe: cli_options.Recipe = None,
    model: cli_options.Model = None,
    load: cli_options.Load = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same noise.")] = 0,
    device: cli_options.Device = None,
    dtype: cli_options.Dtype = None,
    list_: Annotated[bool, typer.Option("--list", help="Print all sites, and read none; needs no image.")] = False,
    modules: Annotated[bool, typer.Option("--modules", help="With --list: print every module too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    offline: Annotated[bool, typer.Option("--offline", callback=go_offline, help=OFFLINE)] = False,  # noqa: ARG001
) -> None:
    """Read a model's features or attention of an image, at any sites, by one pass for each timestep and noise draw."""
    if kind not in ("features", "attention"):
        raise GensegError(f"--kind must be features or attention, not {kind}")
    if modules and not list_:
        raise GensegError("--modules lists modules; give --list too")
    if modules and kind == "attention":
        raise GensegError("--modules lists modules whose features can be read; leave out --kind attention")
    if list_:
        if ignored := [*(inputs or []), *given(context, READING)]:
            raise GensegError(f"--list reads nothing of an image; leave out {ignored[0]}")
        from genseg.registry import load_backend

        loaded = load_backend(backend, model=model, device=device, dtype=dtype, **load_options(load or []))
        _list_attention(loaded, as_json) if kind == "attention" else _list_sites(loaded, modules, as_json)
        return
    images, options = split_inputs(inputs or [])
    if len(images) != 1:
        raise GensegError(f"features are read of one image, not of {len(images)}; give one, or --list for the sites")
    steps = timesteps_in(timesteps)
    check_output(out, overwrite)

    from safetensors.torch import save

    from genseg.feature_reader import FeatureReader
    from genseg.registry import load_backend

    loaded = load_backend(backend, model=model, device=device, dtype=dtype, **load_options(load or []))
    reader = FeatureReader(loaded, loaded.resolve(recipe, options), seed=seed)
    maps = reader.features(
        images[0],
        names_in(sites or []) or None,
        steps,
        draws,
        kind=kind,  # type: ignore[arg-type]
        prompt=prompt,
        words=words,
        heads=heads,
    )
    facts = _facts(reader, list(maps), steps, draws, kind)
    if any(facts["sites"][name].get("keys") == "text" for name in maps):
        facts["tokens"] = loaded.tokens(words or prompt)
    content = save({name: each.contiguous() for name, each in maps.items()}, {"genseg": json.dumps(facts)})
    write_whole(out, lambda file: file.write(content))
    shapes = {name: list(each.shape) for name, each in maps.items()}
    if as_json:
        typer.echo(json.dumps({"file": str(out), "shapes": shapes} | facts))
        return
    for name, shape in shapes.items():
        typer.echo(f"{name}: {' x '.join(map(str, shape))}")
    typer.echo(f"written: {out}")


def timesteps_in(text: str | None) -> list[int] | None:
    """The timesteps of ``--timesteps``; None for none.

    Raises:
        GensegError: If one is no whole number.
    """
    if text is None:
        return None
    steps = {each: whole_number(each) for each in names_in([text])}
    for each, step in steps.items():
        if step is None:
            raise GensegError(f"--timesteps {each} is not a whole number from 0 to 999")
    return [step for step in steps.values() if step is not None]


def _facts(reader: FeatureReader, names: list[str], steps: list[int] | None, draws: int, kind: str) -> dict[str, Any]:
    """Describe the tensors, for the file's metadata."""
    sites: dict[str, dict[str, Any]] = {}
    for name in names:
        if kind == "attention":
            attention = reader.backend.attention_sites[name]
            sites[name] = {"module": attention.module, "keys": attention.keys, "stride": attention.stride}
        else:
            tap = reader.backend.find_tap(name)
            sites[name] = {"module": tap.module, "side": tap.side, "stride": tap.stride}
    return {
        "backend": reader.backend.name,
        "timesteps": steps or [reader.recipe.t_f],
        "draws": draws,
        "seed": reader.seed,
        "sites": sites,
    }


def _list_sites(backend: Backend, modules: bool, as_json: bool) -> None:
    """Print the sites of a loaded backend, and whether each is a tap or a point that `genseg calibrate` tries."""
    sites = {**backend.sites, **(backend.module_sites if modules else {})}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "channels": site.channels,
            "stride": site.stride,
            "grid": list(site.grid),
            "module": site.module,
            "side": site.side,
            "declared": [
                kind for kind, declared in (("tap", backend.taps), ("point", backend.points)) if name in declared
            ],
        }
        for name, site in sites.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("site", "channels", "grid", "stride", "declared as", "module", box=None, pad_edge=False)
    for row in rows:
        side = "" if row["side"] == "output" else f" ({row['side']})"
        table.add_row(
            row["name"],
            str(row["channels"]),
            "x".join(map(str, row["grid"])),
            str(row["stride"]),
            ", ".join(row["declared"]),
            f"{row['module']}{side}",
        )
    _print(table, max(len(row["name"]) + len(row["module"]) for row in rows) + 60)


def _list_attention(backend: Backend, as_json: bool) -> None:
    """Print the attentions of a loaded backend."""
    sites = backend.attention_sites
    if as_json:
        typer.echo(json.dumps([{"name": name} | asdict(site) for name, site in sites.items()], indent=2))
        return
    table = Table("site", "keys", "stride", "module", box=None, pad_edge=False)
    for name, site in sites.items():
        table.add_row(name, site.keys, str(site.stride), site.module)
    _print(table, 160)


def _print(table: Table, width: int) -> None:
    """Print a table, at least so wide where it is no terminal."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, width)
    console.print(table)
