"""Shell completion.

Nothing here imports torch: a Tab does not wait for it.
"""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Iterable


def plugins(kind: str) -> Callable[[str], list[str]]:
    """Completes the names that plug-ins register of a kind, such as ``"backend"``."""

    def complete(incomplete: str) -> list[str]:
        from genseg.plugins import Plugins

        plugins = Plugins(kind)
        with warnings.catch_warnings(action="ignore"):
            plugins.discover()
        return _beginning(plugins.names(), incomplete)

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
