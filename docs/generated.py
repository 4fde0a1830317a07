"""Parts of the reference that are made from the code: the command line and the recipe's keys, in MyST Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer
from omegaconf import OmegaConf

import model_tables
from genseg.cli import app
from genseg.evaluation.results_table import read_table, to_markdown
from genseg.recipe import BOUNDS, CHOICES, Recipe, list_presets, load_recipe
from genseg.registry import load_backend


def commands(command: Any = None, name: str = "genseg", parent: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Every command, as its full name, itself and its context: the program first, then depth first."""
    command = command or typer.main.get_command(app)
    context = command.context_class(command, info_name=name.split()[-1], parent=parent)
    yield name, command, context
    for part, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from commands(child, f"{name} {part}", context)


def command_line(*names: str) -> str:
    """A section for each of these commands, or for the program, with an entry for each argument and option."""
    wanted = [entry for entry in commands() if entry[0].split()[1:2] in ([[name] for name in names] or [[]])]
    return "\n".join(_section(*entry) for entry in wanted)


def _section(name: str, command: Any, context: Any) -> str:
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [
        f"## {name}",
        "",
        f"```{{program}} {name}\n```",
        "",
        f"```text\n{usage}\n```",
        "",
        _marked(command.help or ""),
        "",
    ]
    for parameter in command.params:
        written, said = parameter.get_help_record(context)
        if parameter.param_type_name == "argument":
            written = re.sub(r" <.*>$", "", written)
        lines += [f"````{{option}} {_plain(written)}", _marked(said.replace("  [", " [")), "````", ""]
    return "\n".join(lines)


def _marked(said: str) -> str:
    """Help texts with what is typed marked as code."""
    return re.sub(r"(?<!\w)'([^']+)'(?!\w)|(?<!\S)(--[a-z-]+)", lambda found: f"`{found[1] or found[2]}`", said)


def _plain(written: str) -> str:
    """``-b, --backend <str>`` as ``-b, --backend TEXT``, the words that other tools use."""
    return written.replace("<str>", "TEXT").replace("<int>", "N").replace("<path>", "PATH").replace(" / ", ", ")


def recipe_keys() -> str:
    """A table of all keys: what each preset says, and what the bundled model's calibration lays over it."""
    own = load_backend("tiny", device="cpu").recipe
    presets = {name: load_recipe(name) for name in list_presets()}
    head = ["key", "values", *(f"`{name}`" for name in presets), "`tiny` lays over it"]
    rows = [head, ["---"] * len(head)]
    for field in fields(Recipe):
        key = field.name
        values = " or ".join(f"`{choice}`" for choice in CHOICES[key]) if key in CHOICES else _kind(str(field.type))
        if key in BOUNDS:
            values += ", {:,} to {:,}".format(*BOUNDS[key])
        in_presets = [_value(getattr(recipe, key)) for recipe in presets.values()]
        rows.append([f"`{key}`", values, *in_presets, _value(own[key]) if key in own else ""])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _kind(annotation: str) -> str:
    words = {"int": "whole number", "float": "number", "bool": "`true` or `false`", "str": "name", "None": "`null`"}
    if annotation == "int | str":
        return "whole number or `auto`"
    return " or ".join(words[part] for part in annotation.split(" | "))


def _value(value: Any) -> str:
    return f"`{OmegaConf.to_yaml([value]).strip().removeprefix('- ')}`"


def results() -> str:
    """The table of results.csv."""
    return to_markdown(read_table(Path(__file__).with_name("results.csv")), level=2)


PARTS: dict[str, Callable[..., str]] = {
    "command-line": command_line,
    "recipe-keys": recipe_keys,
    "results": results,
    "backends": model_tables.backends_table,
    "sites": model_tables.SITES.read_text,
}
"""The parts that a page may name."""
