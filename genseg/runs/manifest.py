"""Manifest of a run: its settings, which must be the same to resume it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from genseg.errors import GensegError
from genseg.fingerprint import digest, relevant
from genseg.runs.run import MANIFEST
from genseg.runs.store import Store
from genseg.runs.validation import MANIFEST_TYPES, check_types

DEPENDENCIES = ("weights", "dtype", "seed", "prompts")
"""Settings, besides the recipe, that labels depend on."""


def recipe_hash(settings: Mapping[str, Any]) -> str:
    """Digest of all that a run's labels depend on, 16 hexadecimal digits."""
    facts = {key: settings[key] for key in DEPENDENCIES if key in settings}
    return digest(facts, relevant(settings["recipe"]))[:16]


def load_manifest(store: Store, resume: bool) -> dict[str, Any] | None:
    """Load the manifest of the run in a folder; None if there is none.

    Raises:
        GensegError: If there is a run and ``resume`` is false, or the manifest is damaged.
    """
    manifest = store.read_json(MANIFEST)
    check_types(manifest or {}, MANIFEST_TYPES, store.path(MANIFEST))
    if manifest is not None and not resume:
        raise GensegError(f"{store.url} holds a run; resume it by --resume (resume=True), or choose another folder")
    return manifest


def write_manifest(store: Store, settings: Mapping[str, Any], **planned: Any) -> dict[str, Any]:
    """Write the manifest at the start of a run.

    Args:
        store: The run's folder.
        settings: The caller's settings.
        **planned: Further facts, such as the number of images.
    """
    names = ("genseg", "torch", "diffusers")
    versions = {name: version(name) for name in names} | {"python": platform.python_version()}
    manifest = {**planned, "recipe_hash": recipe_hash(settings), **settings, "versions": versions}
    store.write_json(MANIFEST, manifest)
    return manifest


def check_resumable(store: Store, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Check that a run can be resumed with the same settings.

    Raises:
        GensegError: If they differ; the message says in what.
    """
    other = [key for key in settings if json.loads(json.dumps(settings[key])) != manifest.get(key)]
    if manifest.get("recipe_hash") != recipe_hash(settings) and not other:
        other = ["version of genseg"]
    if other:
        raise GensegError(f"{store.url} holds a run with another {' and '.join(other)}; choose another output folder")
