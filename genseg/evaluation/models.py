"""The models of an evaluation: what tells their weights, and the models themselves once they are needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from genseg.files import write_whole
from genseg.fingerprint import digest, weights_of
from genseg.interface import Backend, Embedder, Encoder
from genseg.recipe import Recipe, RecipeLike, load_recipe
from genseg.registry import BACKENDS, EMBEDDERS, ENCODERS
from genseg.segmenter import Segmenter


@dataclass
class Models:
    """What masks, features and names come from. Each is loaded when it is first asked for.

    Only a loaded backend says what the recipe is. It is therefore remembered beside the masks: a run that finds them
    all there needs no model.

    Attributes:
        folder: Where masks are kept.
        backend: Its name, or the backend; None where no method needs one.
        encoder: Its name, in place of a backend's features; None for none.
        embedder: The name of what names masks; None for none.
        embedder_model: A checkpoint in place of the embedder's own.
        asked: The recipe as the caller gave it.
        options: Recipe keys as ``key=value``.
        overrides: Recipe keys.
        seed: Fixes every random draw.
        model: A checkpoint in place of the backend's or encoder's own.
        device: As for `genseg.Segmenter`.
        dtype: Likewise.
        load: What else the backend's or encoder's factory takes.
    """

    folder: Path
    backend: str | Backend | None
    encoder: str | None
    embedder: str | None
    embedder_model: str | None
    asked: RecipeLike | None
    options: Sequence[str]
    overrides: Mapping[str, Any]
    seed: int
    model: str | None
    device: str | None
    dtype: str | None
    load: Mapping[str, Any]

    @cached_property
    def segmenter(self) -> Segmenter | None:
        """The backend with the recipe; None without one."""
        if self.backend is None:
            return None
        given, backend = {"model": self.model, "device": self.device, "dtype": self.dtype}, self.backend
        if isinstance(backend, str):
            backend = BACKENDS.load(backend, **given, **self.load)
        return Segmenter(
            backend, self._remembered or backend.resolve(self.asked, self.options, **self.overrides), seed=self.seed
        )

    @cached_property
    def reader(self) -> Encoder | None:
        """The encoder; None without one."""
        if self.encoder is None:
            return None
        return ENCODERS.load(self.encoder, model=self.model, device=self.device, dtype=self.dtype, **self.load)

    @cached_property
    def namer(self) -> Embedder | None:
        """The embedder; None without one."""
        if self.embedder is None:
            return None
        return EMBEDDERS.load(self.embedder, model=self.embedder_model, device=self.device)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        if self._remembered is not None:
            return self._remembered
        if self.segmenter is not None:
            return self.segmenter.recipe
        return load_recipe(self.asked or "paper", options=self.options, **self.overrides)

    @cached_property
    def source(self) -> dict[str, Any]:
        """What tells these weights from others, by what the factories say before they load any."""
        found: dict[str, Any] = {}
        if self.encoder is not None:
            card = ENCODERS.info(self.encoder).card
            found = {**weights_of("encoder", self.encoder, card, self.model, self.load), "dtype": self.dtype}
        elif isinstance(self.backend, str):
            card = BACKENDS.info(self.backend).card
            found = {**weights_of("backend", self.backend, card, self.model, self.load), "dtype": self.dtype}
        elif self.backend is not None:
            found = {**weights_of("backend", self.backend.name, None, self.model, self.load), "dtype": self.dtype}
        if self.embedder is not None:
            card = EMBEDDERS.info(self.embedder).card
            found |= {"names": weights_of("embedder", self.embedder, card, self.embedder_model, {})}
        return found

    def ready(self) -> None:
        """Load what there is to load, and remember the recipe."""
        _ = self.segmenter, self.reader, self.namer
        if not isinstance(self.backend, str):
            return
        text = json.dumps({"asked": self._digest, "recipe": asdict(self.recipe)}, indent=2) + "\n"
        write_whole(self.folder / "recipe.json", lambda file: file.write(text.encode()))

    @cached_property
    def _remembered(self) -> Recipe | None:
        """What an earlier run with the same arguments found the recipe to be; None where there was none.

        A loaded backend is asked again: its name does not tell it from another.
        """
        if not isinstance(self.backend, str):
            return None
        try:
            known = json.loads((self.folder / "recipe.json").read_bytes())
            return Recipe(**known["recipe"]) if known["asked"] == self._digest else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @cached_property
    def _digest(self) -> str:
        """A digest of all that the recipe comes from."""
        asked: Any = asdict(self.asked) if isinstance(self.asked, Recipe) else self.asked
        if isinstance(asked, (str, Path)) and Path(asked).is_file():
            asked = Path(asked).read_text(encoding="utf-8")
        return digest(self.source, asked, list(self.options), dict(self.overrides))
