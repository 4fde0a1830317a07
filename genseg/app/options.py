"""The recipe's keys as options of a page: their types, bounds, choices and help, all from `genseg.recipe`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from genseg.errors import GensegError
from genseg.recipe import BOUNDS, CHOICES, Recipe
from genseg.web.limits import MAX_CLUSTERS

ELSEWHERE = ("n_clusters", "keep_scores", "max_pixels", "connected")
"""Keys that are no advanced option: K has its own control, the page and the server set the next two, and the result has
a switch for connected parts, beside which the scores stay."""

MAX_IN_APP = {"n_clusters": MAX_CLUSTERS, "size": 2048, "margin": 512, "draws": 1000, "n_init": 1000, "batch_size": 256}
"""Upper bounds below those of `BOUNDS`, so that one visitor cannot ask for all of the machine's memory and time."""

PRESETS = {
    "fast": "nearly the segments of paper, many times as fast",
    "paper": "EmerDiff as published, slow",
    "plus": "sharp outlines and no small parts, in seconds",
}
"""Each preset in a few words."""

PATTERNS = {
    "integer": (r"\d{1,10}", "a whole number"),
    "number": (r"\d{1,9}(\.\d{0,9})?", "a number"),
    "choice": (r"[\w-]+", ""),
    "text": (r"[A-Za-z][\w.-]*", "a name"),
}
"""The pattern and the name of each kind of option's values."""


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

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest number that the app takes."""
        least, most = BOUNDS[self.key]
        return least, min(most, MAX_IN_APP.get(self.key, most))


CLUSTERS = Option("n_clusters", "integer", (), "K, the number of low-resolution masks.")


def advanced() -> list[Option]:
    """The keys under "Advanced options", in the recipe's order."""
    helps = key_help()
    return [_option(field.name, str(field.type), helps) for field in fields(Recipe) if field.name not in ELSEWHERE]


def key_help() -> dict[str, str]:
    """The meaning of each key, from the docstring of `Recipe`; plain text."""
    text = inspect.cleandoc(Recipe.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.*)*)", text, flags=re.MULTILINE)
    return {key: re.sub(r"\s+", " ", words).replace("`", "") for key, words in entries}


def recipe_help(backend: str, recipe: str | None) -> str:
    """Name and explain a preset, or the default preset of a backend for None, in a sentence."""
    if recipe is None and backend != "tiny":
        return "The backend's own preset; unless it says otherwise, paper: " + PRESETS["paper"] + "."
    name = recipe or "plus"
    return f"{name}{'' if recipe else ', the default of tiny'}: {PRESETS[name]}."


def _option(key: str, annotation: str, helps: Mapping[str, str]) -> Option:
    if key in CHOICES:
        return Option(key, "choice", CHOICES[key], helps[key])
    kind, *_ = annotation.split(" | ")
    if kind == "bool":
        return Option(key, "choice", ("true", "false"), helps[key])
    kinds: dict[str, Literal["integer", "number", "text"]] = {"int": "integer", "float": "number", "str": "text"}
    return Option(key, kinds[kind], (), helps[key])


def as_text(entries: Iterable[tuple[Option, str]]) -> tuple[str, ...]:
    """Options and what was typed as ``key=value``, as the command line takes them; empty entries are left out.

    Stricter than the command line, whose values are YAML.

    Raises:
        GensegError: For a value of another kind, or out of the option's bounds.
    """
    typed = [(option, value.strip()) for option, value in entries if value.strip()]
    for option, value in typed:
        pattern, kind = PATTERNS[option.kind]
        if not re.fullmatch(pattern, value, flags=re.ASCII) or (option.choices and value not in option.choices):
            kind = f"one of {', '.join(option.choices)}" if option.choices else kind
            raise GensegError(f"{option.key} must be {kind}, not {value!r}")
        if option.key in BOUNDS and not option.bounds[0] <= float(value) <= option.bounds[1]:
            least, most = option.bounds
            raise GensegError(f"{option.key} must be from {least:g} to {most:.10g} in the app, not {value}")
    return tuple(f"{option.key}={value}" for option, value in typed)
