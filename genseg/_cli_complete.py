"""What a shell completes, and the options that several commands share with their completion.

Nothing here imports torch: a Tab does not wait for it.
"""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Iterable
from typing import Annotated, TypeAlias

import typer


def plugins(kind: str) -> Callable[[str], list[str]]:
    """Completes the names that plug-ins register of a kind, such as ``"backend"``."""

    def complete(incomplete: str) -> list[str]:
        from genseg.plugins import Plugins

        found = Plugins(kind)
        with warnings.catch_warnings(action="ignore"):
            found.discover()
        return _beginning(found.names(), incomplete)

    return complete


def several(complete: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Completes the last name of a comma-separated list."""

    def complete_last(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + name for name in complete(last)]

    return complete_last


def words(*choices: str) -> Callable[[str], list[str]]:
    """Completes one of a few words."""
    return lambda incomplete: _beginning(choices, incomplete)


def recipes(incomplete: str) -> list[str]:
    """Completes presets and YAML files."""
    from genseg.recipe import list_presets

    return _beginning(list_presets(), incomplete) + sorted(glob.glob(f"{glob.escape(incomplete)}*.y*ml"))  # noqa: PTH207


def keys(incomplete: str) -> list[str]:
    """Completes a recipe key and, where there are a few words for it, its value; files where none begins so."""
    from genseg.recipe import CHOICES, KEYS

    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={choice}" for choice in _beginning(CHOICES.get(key, ()), value)]
    return [f"{name}=" for name in _beginning(KEYS, incomplete)] if incomplete else []


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


Backend: TypeAlias = Annotated[
    str, typer.Option("--backend", "-b", help="See 'genseg backends'.", autocompletion=plugins("backend"))
]
BackendName: TypeAlias = Annotated[
    str, typer.Argument(help="See 'genseg backends list'.", autocompletion=plugins("backend"))
]
Recipe: TypeAlias = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="A preset (see 'genseg recipes') or a YAML file.", autocompletion=recipes),
]
Dtype: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="float32 (the default), float16 or bfloat16.", autocompletion=words("float32", "float16", "bfloat16")
    ),
]
Inputs: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT|KEY=VALUE",
        help="Images, folders, patterns such as 'photos/*.jpg', - for a list of paths on standard input, and recipe "
        "keys such as size=256.",
        autocompletion=keys,
    ),
]
Keys: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys such as size=256.", autocompletion=keys),
]
