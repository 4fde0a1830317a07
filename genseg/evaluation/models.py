"""Models of an evaluation, loaded when they are needed, and the facts that identify their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from genseg.files import write_whole
from genseg.fingerprint import digest, weights_of
from genseg.interface import Backend, Embedder, Encoder
from genseg.recipe import Recipe, RecipeLike, load_recipe
from genseg.registry import BACKENDS, EMBEDDERS, ENCODERS, given_backend
from genseg.segmenter import Segmenter


@dataclass
class Models:
    """Backend, encoder and embedder of an evaluation. Each is loaded on first use.

    The recipe can be resolved by a loaded backend only. It is therefore saved beside the masks, so that a run that
    finds all masks there needs no model.

    Attributes:
        folder: Folder of the evaluation.
        backend: The backend or its name; None if no method needs one.
        encoder: Name of an encoder whose features replace the backend's; None for no encoder.
        embedder: Name of the embedder that names masks; None for no embedder.
        embedder_model: A checkpoint in place of the embedder's own.
        requested_recipe: The recipe as the caller gave it.
        options: Recipe keys as ``key=value``.
        overrides: Recipe keys.
        seed: Fixes every random draw.
        model: A checkpoint in place of the backend's or encoder's own.
        device: A torch device; None for CUDA if it is available, else the CPU.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"auto"``; None for float32.
        load: Further options of the backend's or encoder's factory.
    """

    folder: Path
    backend: str | Backend | None
    encoder: str | None
    embedder: str | None
    embedder_model: str | None
    requested_recipe: RecipeLike | None
    options: Sequence[str]
    overrides: Mapping[str, Any]
    seed: int
    model: str | None
    device: str | None
    dtype: str | None
    load: Mapping[str, Any]

    @cached_property
    def segmenter(self) -> Segmenter | None:
        """The backend with the recipe, which always modulates: methods that do not are baselines. None without one."""
        if self.backend is None:
            return None
        named = {"model": self.model, "dtype": self.dtype, **self.load} if isinstance(self.backend, str) else {}
        backend = given_backend(self.backend, device=self.device, **named)  # of a loaded one the others are names
        recipe = self._saved_recipe or backend.resolve(self.requested_recipe, self.options, **self.overrides)
        return Segmenter(backend, replace(recipe, modulate=True), seed=self.seed)

    @cached_property
    def reader(self) -> Encoder | None:
        """The encoder; None without an encoder."""
        if self.encoder is None:
            return None
        return ENCODERS.load(self.encoder, model=self.model, device=self.device, dtype=self.dtype, **self.load)

    @cached_property
    def namer(self) -> Embedder | None:
        """The embedder; None without an embedder."""
        if self.embedder is None:
            return None
        return EMBEDDERS.load(self.embedder, model=self.embedder_model, device=self.device)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        if self._saved_recipe is not None:
            return self._saved_recipe
        if self.segmenter is not None:
            return self.segmenter.recipe
        return load_recipe(self.requested_recipe or "paper", options=self.options, **self.overrides)

    @cached_property
    def source(self) -> dict[str, Any]:
        """Facts that identify the weights, as the factories state them before they load any."""
        source: dict[str, Any] = {}
        if self.encoder is not None:
            card = ENCODERS.info(self.encoder).card
            source = {**weights_of("encoder", self.encoder, card, self.model, self.load), "dtype": self.dtype}
        elif isinstance(self.backend, str):
            card = BACKENDS.info(self.backend).card
            source = {**weights_of("backend", self.backend, card, self.model, self.load), "dtype": self.dtype}
        elif self.backend is not None:
            source = {**weights_of("backend", self.backend.name, None, self.model, self.load), "dtype": self.dtype}
        if self.embedder is not None:
            card = EMBEDDERS.info(self.embedder).card
            source |= {"names": weights_of("embedder", self.embedder, card, self.embedder_model, {})}
        return source

    def ready(self) -> None:
        """Load all models, and save the recipe."""
        _ = self.segmenter, self.reader, self.namer
        if not isinstance(self.backend, str):
            return
        text = json.dumps({"asked": self._digest, "recipe": asdict(self.recipe)}, indent=2) + "\n"
        write_whole(self.folder / "recipe.json", lambda file: file.write(text.encode()))

    @cached_property
    def _saved_recipe(self) -> Recipe | None:
        """The recipe that an earlier run with the same arguments saved, if any.

        It is None for a loaded backend, whose name does not identify it.
        """
        if not isinstance(self.backend, str):
            return None
        try:
            saved = json.loads((self.folder / "recipe.json").read_bytes())
            return Recipe(**saved["recipe"]) if saved["asked"] == self._digest else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @cached_property
    def _digest(self) -> str:
        """Digest of everything that determines the recipe."""
        recipe: Any = self.requested_recipe
        if isinstance(recipe, Recipe):
            recipe = asdict(recipe)
        elif isinstance(recipe, (str, Path)) and Path(recipe).is_file():
            recipe = Path(recipe).read_text(encoding="utf-8")
        return digest(self.source, recipe, list(self.options), dict(self.overrides))
