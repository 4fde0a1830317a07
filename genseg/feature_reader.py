"""Read the features of images with one loaded model: any of its sites, at any timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from genseg.checks import checked_seed
from genseg.errors import GensegError
from genseg.images import ImageLike, inner, mirrored
from genseg.interface import Backend
from genseg.pipeline import Reading, check_margin, exact_convolutions, read
from genseg.progress import Bar, Progress
from genseg.recipe import RecipeLike, load_recipe
from genseg.registry import given_backend
from genseg.sites.intermediates import Kind


class FeatureReader:
    """A loaded model with a recipe: the base of `genseg.Segmenter`, whose arguments it takes."""

    def __init__(
        self,
        backend: str | Backend = "tiny",
        recipe: RecipeLike | None = None,
        *,
        seed: int = 0,
        model: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        progress: Progress | bool | None = None,
        **overrides: Any,
    ) -> None:
        self.seed = checked_seed(seed)
        if isinstance(recipe, str):
            load_recipe(recipe, **overrides)  # refuse a mistyped recipe before a model is loaded
        self.backend = backend = given_backend(backend, model=model, device=device, dtype=dtype)
        self.recipe = backend.resolve(recipe, **overrides)
        self.progress = Bar() if progress is True else progress or None
        self.tap = backend.find_tap(self.recipe.tap)
        self.point = backend.find_point(self.recipe.point)
        check_margin(backend, self.recipe)

    def __repr__(self) -> str:
        """The model, and the recipe's most telling keys, in a line."""
        recipe, device = self.recipe, self.backend.device
        return (
            f"{type(self).__name__}(backend={self.backend.name!r}, device='{device}', "
            f"n_clusters={recipe.n_clusters!r}, tap={recipe.tap!r}, modulate={recipe.modulate}, seed={self.seed})"
        )

    @exact_convolutions()
    def features(
        self,
        image: ImageLike,
        sites: str | Sequence[str] | None = None,
        timesteps: int | Sequence[int] | None = None,
        draws: int = 1,
        *,
        kind: Kind = "features",
        indices: int | Sequence[int] | None = None,
        prompt: str = "",
        words: str = "",
        heads: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
    ) -> dict[str, Tensor]:
        """Read what the model computes on the way; see `genseg.features`, whose arguments and result these are."""
        if output_fmt not in ("NCHW", "NLC"):
            raise GensegError(f"output_fmt must be NCHW or NLC, not {output_fmt!r}")
        pixels, margin = self._read(image).pixels, self.recipe.margin
        maps = self.backend.intermediates(
            mirrored(pixels, margin),
            sites,
            timesteps,
            draws,
            kind=kind,
            indices=indices,
            prompt=prompt,
            words=words,
            heads=heads,
            recipe=self.recipe,
            seed=self.seed,
        )
        if margin:
            maps = {name: self._without_margin(name, each, pixels.shape[2], kind) for name, each in maps.items()}
        if output_fmt == "NLC":
            return {name: each.flatten(-2).transpose(-2, -1) for name, each in maps.items()}
        return maps

    def _without_margin(self, name: str, maps: Tensor, height: int, kind: Kind) -> Tensor:
        """Cut off the recipe's margin, among positions that are attended to as well."""
        margin, grid = self.recipe.margin, maps.shape[-2:]
        margin = margin * grid[0] // (height + 2 * margin)
        if kind == "attention" and self.backend.attention_sites[name].keys == "image":
            keys = inner(maps.movedim(-3, -1).reshape(*maps.shape[:-3], *grid, *grid), margin)
            maps = keys.flatten(-2).movedim(-1, -3)
        return inner(maps, margin)

    def _read(self, image: ImageLike) -> Reading:
        return read(image, self.recipe, self.backend.image_size, self.backend.size_multiple)


def features(
    image: ImageLike,
    backend: str | Backend = "tiny",
    sites: str | Sequence[str] | None = None,
    timesteps: int | Sequence[int] | None = None,
    draws: int = 1,
    *,
    kind: Kind = "features",
    indices: int | Sequence[int] | None = None,
    prompt: str = "",
    words: str = "",
    heads: bool = False,
    output_fmt: Literal["NCHW", "NLC"] = "NCHW",
    recipe: RecipeLike | None = None,
    seed: int = 0,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **overrides: Any,
) -> dict[str, Tensor]:
    """Read what a model computes on the way to an image: any of its sites, all by one pass for each timestep and draw.

    A pass ends at the last of the sites. `Segmenter.features` does the same with a model that is loaded once.

    Args:
        image: A path, a PIL image, an array or a tensor; see `genseg.images.load_image`.
        backend: A name from `genseg.list_backends`, or a loaded `Backend`.
        sites: Names of the backend's `sites`, patterns of them such as ``"up*.query"``, or ``"module:PATH"`` for any
            torch module whose output is a map of the image; None for the tap that the recipe clusters, and with
            ``kind="attention"`` for all of the backend's `attention_sites`.
        timesteps: Whole numbers from 0 to 999, or one: the timesteps at which noise is added; None for the recipe's
            `t_f`.
        draws: Number of noise draws over which features are averaged.
        kind: ``"features"``, or ``"attention"`` for attention maps, whose sites are the backend's `attention_sites`.
        indices: Blocks in addition to ``sites``, counted as timm does: their numbers, of which those below 0 count from
            the end, or how many of the last ones, from 1.
        prompt: What the model is told; ``""`` for the conditioning that images are segmented with.
        words: With attention to text: words that need not be in the prompt, and that do not change what the model makes
            of the image (`Backend.read_attention`).
        heads: Whether the heads of attention are kept apart, and not averaged over.
        output_fmt: ``"NCHW"`` for maps, or ``"NLC"`` for tokens.
        recipe: As for `Segmenter`: it gives the size of the model's input.
        seed: Fixes the noise.
        model: As for `Segmenter`.
        device: As for `Segmenter`.
        dtype: As for `Segmenter`.
        **overrides: Recipe keys, such as ``size=512``.

    Returns:
        float32 [T, C, h, w] on the CPU for each site by its name, or [T, h·w, C]; T counts the timesteps. Of attention,
        C counts the keys: the tokens of the prompt, as `Backend.tokens` names them, or the positions of the image in
        row order; [T, heads, C, h, w] with ``heads``.

    Raises:
        GensegError: If the image, a site or the backend cannot be used; the message says what to do.
    """
    reader = FeatureReader(backend, recipe, seed=seed, model=model, device=device, dtype=dtype, **overrides)
    return reader.features(
        image,
        sites,
        timesteps,
        draws,
        kind=kind,
        indices=indices,
        prompt=prompt,
        words=words,
        heads=heads,
        output_fmt=output_fmt,
    )
