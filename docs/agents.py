"""Files for programs: ``llms.txt``, a list of all pages, and ``api.json``, an index of the API."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import genseg
from generated import commands
from genseg.recipe import BOUNDS, CHOICES, Recipe
from genseg.registry import list_backends


def llms_txt(app: Sphinx) -> str:
    """The pages with their first sentences, as llmstxt.org has them, the first page's text above."""
    lines = ["# genseg", "", f"> {_summary(app, 'index')}", "", "## Pages", ""]
    for name in sorted(app.env.found_docs):
        if name != "index":
            title = app.env.titles[name].astext()
            lines.append(f"- [{title}]({name}.html): {_summary(app, name)}")
    return "\n".join([*lines, "", "## API", "", "- [Index of the API](api.json): names, signatures, options, keys", ""])


def _summary(app: Sphinx, page: str) -> str:
    """The first paragraph of a page, in one line; its title where there is none."""
    found = next(iter(app.env.get_doctree(page).findall(nodes.paragraph)), app.env.titles[page])
    return " ".join(found.astext().split())


def api_index() -> dict[str, Any]:
    """All public names, commands, recipe keys and backends."""
    return {
        "version": genseg.__version__,
        "python": {name: _described(getattr(genseg, name)) for name in sorted(genseg.__all__)},
        "commands": {
            name: {"help": command.help or "", "parameters": [_parameter(each) for each in command.params]}
            for name, command, _ in commands()
        },
        "recipe": {
            field.name: {
                "type": str(field.type),
                "default": field.default,
                "bounds": BOUNDS.get(field.name),
                "choices": CHOICES.get(field.name),
            }
            for field in fields(Recipe)
        },
        "backends": [
            {"name": info.name, "description": info.description, "card": asdict(info.card) if info.card else None}
            for info in list_backends()
        ],
    }


def _described(thing: Any) -> dict[str, Any]:
    """A public name: its kind, signature, text and, of a class, its methods."""
    entry: dict[str, Any] = {
        "kind": "class" if inspect.isclass(thing) else "function",
        "doc": inspect.getdoc(thing) or "",
    }
    if callable(thing):
        entry["signature"] = _signature(thing)
    if inspect.isclass(thing):
        entry["methods"] = {
            name: {"signature": _signature(method), "doc": inspect.getdoc(method) or ""}
            for name, method in inspect.getmembers(thing, inspect.isfunction)
            if not name.startswith("_") or name == "__call__"
        }
    return entry


def _signature(thing: Any) -> str:
    """Of an exception, which Python does not tell, nothing."""
    try:
        return str(inspect.signature(thing))
    except ValueError:
        return ""


def _parameter(parameter: Any) -> dict[str, Any]:
    """An option or argument of a command."""
    return {
        "names": [*parameter.opts, *parameter.secondary_opts],
        "kind": parameter.param_type_name,
        "help": getattr(parameter, "help", None) or "",
        "default": None if callable(parameter.default) else parameter.default,
    }


def write(app: Sphinx, error: Exception | None) -> None:
    """Write both beside the pages, when these have been built."""
    if error is None:
        out = Path(app.outdir)
        (out / "llms.txt").write_text(llms_txt(app), encoding="utf-8")
        (out / "api.json").write_text(json.dumps(api_index(), default=str, indent=1), encoding="utf-8")
