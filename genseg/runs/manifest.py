"""The manifest of a run: what it was made with, so that nothing else goes on with it."""

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
from genseg.runs.validation import check_manifest

DEPENDENCIES = ("weights", "dtype", "seed", "prompts")
"""The settings, besides the recipe, that labels depend on."""


def recipe_hash(settings: Mapping[str, Any]) -> str:
    """Digest of all that a run's labels depend on, 16 hexadecimal digits."""
    facts = {key: settings[key] for key in DEPENDENCIES if key in settings}
    return digest(facts, relevant(settings["recipe"]))[:16]


def earlier(store: Store, resume: bool) -> dict[str, Any] | None:
    """The manifest of the run that a folder holds; None for none.

    Raises:
        GensegError: If there is one that is not to be gone on with.
    """
    manifest = store.read_json(MANIFEST)
    check_manifest(manifest or {}, store.path(MANIFEST))
    if manifest is not None and not resume:
        raise GensegError(f"{store.url} holds a run; go on with it by --resume (resume=True), or choose another folder")
    return manifest


def begin(store: Store, settings: Mapping[str, Any], **planned: Any) -> dict[str, Any]:
    """Write the manifest, with which a run begins.

    Args:
        store: The run's folder.
        settings: What the caller asked for.
        **planned: What came of it, such as the number of images.
    """
    names = ("genseg", "torch", "diffusers")
    versions = {name: version(name) for name in names} | {"python": platform.python_version()}
    manifest = {**planned, "recipe_hash": recipe_hash(settings), **settings, "versions": versions}
    store.write_json(MANIFEST, manifest)
    return manifest


def check_same(store: Store, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to go on with a run of other settings.

    Raises:
        GensegError: If they differ; the message says in what.
    """
    other = [key for key in settings if json.loads(json.dumps(settings[key])) != manifest.get(key)]
    if manifest.get("recipe_hash") != recipe_hash(settings) and not other:
        other = ["version of genseg"]
    if other:
        raise GensegError(f"{store.url} holds a run with another {' and '.join(other)}; choose another output folder")
