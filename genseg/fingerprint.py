"""What a result depends on, and its digest: so that work that is done is not done again, nor taken for another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genseg.interface import ModelCard
from genseg.recipe import Recipe
from genseg.version import __version__

IRRELEVANT = ("keep_scores", "max_pixels", "batch_size")
"""The recipe keys that change no label."""


def relevant(recipe: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    """The recipe keys, with their values, that labels depend on."""
    values = asdict(recipe) if isinstance(recipe, Recipe) else recipe
    return {key: value for key, value in values.items() if key not in IRRELEVANT}


def digest(*facts: Any) -> str:
    """SHA-256, in 64 hexadecimal digits, of genseg's version and ``facts``, which JSON can hold."""
    return hashlib.sha256(json.dumps([__version__, *facts], sort_keys=True, default=str).encode()).hexdigest()


def weights_of(
    kind: str, name: str, card: ModelCard | None, model: str | None, load: Mapping[str, Any]
) -> dict[str, Any]:
    """Facts that tell a model's weights from others: the caller's checkpoint, or what the factory says it loads."""
    if model is not None:
        return {kind: name, "model": model, "files": files_below(model), "load": dict(load)}
    released = {"model": card.model, "revision": card.revision} if card else {}
    return {kind: name, **released, "load": dict(load)}


def files_below(model: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file of a local model; empty for one of the hub."""
    files = [Path(model), *sorted(Path(model).rglob("*"))]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
