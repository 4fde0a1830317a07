"""Fingerprint of a result: a digest of everything it depends on, by which finished work is recognised."""

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
"""Recipe keys that change no label."""


def relevant(recipe: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe keys that labels depend on, with their values."""
    values = asdict(recipe) if isinstance(recipe, Recipe) else recipe
    return {key: value for key, value in values.items() if key not in IRRELEVANT}


def digest(*facts: Any) -> str:
    """Digest genseg's version and ``facts``, which must fit into JSON: SHA-256 in 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps([__version__, *facts], sort_keys=True, default=str).encode()).hexdigest()


def recipe_id(recipe: Recipe | Mapping[str, Any]) -> str:
    """Identify settings, whatever genseg's version and the preset's name: 8 hexadecimal digits."""
    return hashlib.sha256(json.dumps(relevant(recipe), sort_keys=True).encode()).hexdigest()[:8]


def weights_of(
    kind: str, name: str, card: ModelCard | None, model: str | None, load: Mapping[str, Any]
) -> dict[str, Any]:
    """Identify a model's weights.

    Args:
        kind: The kind of model, such as ``"backend"``.
        name: The model's registered name.
        card: The model card of the plug-in, which names the released weights.
        model: The caller's checkpoint, if any.
        load: Further options of the factory.

    Returns:
        Facts for `digest`: the caller's checkpoint with its files, or the released weights with their revision.
    """
    if model is not None:
        return {kind: name, "model": model, "files": files_below(model), "load": dict(load)}
    released = {"model": card.model, "revision": card.revision} if card else {}
    return {kind: name, **released, "load": dict(load)}


def files_below(model: str) -> list[tuple[str, int, int]]:
    """List name, size and modification time (ns) of each file of a local model; empty for a hub id."""
    files = [Path(model), *sorted(Path(model).rglob("*"))]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
