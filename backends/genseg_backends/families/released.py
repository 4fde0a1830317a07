"""Released checkpoints by name: the factories that `genseg.load_backend` calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from genseg.interface import ModelCard
from genseg_backends.engine.latent import LatentBackend
from genseg_backends.loading.hub import is_downloaded
from genseg_backends.loading.revisions import REVISIONS


class Options(TypedDict, total=False):
    """Options of every backend of this kind besides model, device and dtype; see `Pretrained.from_pretrained`."""

    revision: str | None
    config: str | None
    prediction_type: str | None
    offline: bool
    tiling: bool
    offload: bool
    channels_last: bool | None
    features_dtype: str | None
    tiny_vae: str | None
    prompt_embeds: str | None


class Released:
    """A backend factory for one released checkpoint of a family, and for others of its shape by ``model=``.

    Args:
        kind: The family.
        name: The backend's name.
        about: The model in one line.
        card: What is known of it before it is loaded; its revision is that of `REVISIONS`.
        recipe: Recipe values beside those of the family.
        **fixed: What the family's ``from_pretrained`` takes besides.
    """

    def __init__(
        self,
        kind: type[LatentBackend],
        name: str,
        about: str,
        card: ModelCard,
        recipe: Mapping[str, Any] | None = None,
        **fixed: Any,
    ) -> None:
        self.__doc__ = f"{about} ({card.licence})."
        self.kind, self.name = kind, name
        self.card = replace(card, revision=REVISIONS.get(card.model))
        self._settings = {"recipe": recipe, "home": card.model, **fixed}

    def __call__(
        self,
        model: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        **options: Unpack[Options],
    ) -> LatentBackend:
        """Load the checkpoint, at its pinned revision, or ``model``; see `Pretrained.from_pretrained`."""
        if model is None and "revision" not in options:
            options["revision"] = self.card.revision
        return self.kind.from_pretrained(
            model or self.card.model, self.name, device, dtype, **self._settings, **options
        )

    def has_weights(self) -> bool:
        """Return whether the checkpoint is on this machine, judged by its denoiser."""
        parts = (self.kind.part, "") if self.kind.vae_class == "" else (self.kind.part,)
        return any(is_downloaded(self.card.model, part, self.card.revision) for part in parts)
