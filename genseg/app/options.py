"""The recipe's keys as options of a page: their types, choices and help, all from `genseg.recipe`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from genseg.errors import GensegError
from genseg.recipe import CHOICES, Recipe

ELSEWHERE = ("n_clusters", "keep_scores", "max_pixels")
"""Keys that are no advanced option: one has its own control, and the page and the server set the others."""

MOST = {"n_clusters": 100, "size": 2048, "margin": 512, "draws": 1000, "n_init": 1000, "batch_size": 256}
"""No larger values are taken from a page, so that one visitor cannot ask for all of the machine's memory and time."""


@dataclass(frozen=True)
class Option:
    """One key of a recipe.

    Attributes:
        key: Its name.
        kind: What its values are.
        choices: All its values; empty where they are not listed.
        help: What it means.
    """

    key: str
    kind: Literal["integer", "number", "choice", "text"]
    choices: tuple[str, ...]
    help: str


def advanced() -> list[Option]:
    """The keys that are set apart from the others, in the recipe's order."""
    helps = key_help()
    return [_option(field.name, str(field.type), helps) for field in fields(Recipe) if field.name not in ELSEWHERE]


def key_help() -> dict[str, str]:
    """What each key means, from the docstring of `Recipe`; plain text."""
    text = inspect.cleandoc(Recipe.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.*)*)", text, flags=re.MULTILINE)
    return {key: re.sub(r"\s+", " ", words).replace("`", "") for key, words in entries}


def _option(key: str, annotation: str, helps: Mapping[str, str]) -> Option:
    if key in CHOICES:
        return Option(key, "choice", CHOICES[key], helps[key])
    kind, *_ = annotation.split(" | ")
    if kind == "bool":
        return Option(key, "choice", ("true", "false"), helps[key])
    kinds: dict[str, Literal["integer", "number", "text"]] = {"int": "integer", "float": "number", "str": "text"}
    return Option(key, kinds[kind], (), helps[key])


def as_text(values: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
    """Keys and values as ``key=value``, as the command line takes them; what is None or empty is not given.

    Raises:
        GensegError: For a value that is more than a page may ask for.
    """
    given = [(key, value) for key, value in values if value not in (None, "")]
    for key, value in given:
        if key in MOST and value != "auto" and value > MOST[key]:
            raise GensegError(f"{key} may be at most {MOST[key]} here, not {value}; the command line takes more")
    return tuple(f"{key}={value}" for key, value in given)
