"""Recipes: every constant of the method, typed, layered and checked.

A recipe is resolved in layers: a preset (``paper``, ``fast``, ``plus``) < the backend's calibration < the caller's
overrides. The defaults of `Recipe` are the constants of the paper and its notebook.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genseg.errors import GensegError, unknown


@dataclass(frozen=True)
class Recipe:
    """Constants of the method.

    Timesteps count as diffusers counts them, 0 to 999. Section numbers are those of EmerDiff (arXiv 2401.11739).
    `BOUNDS` has the smallest and largest value of each number, `CHOICES` the values of each word.

    Attributes:
        n_clusters: K, the number of low-resolution masks, or ``"auto"``: 25, whose segments are merged into a natural
            number for each image (`genseg.Segmentation.merge`).
        size: Side, in pixels, of the square whose area the model sees; None for the backend's own.
        resize: ``"area"`` keeps the aspect ratio at that area; ``"square"`` squeezes the image into the square.
        margin: Pixels by which the image is continued, mirrored, beyond each border before the model sees it, and cut
            off again: convolutions pad with zeros, and features near the border encode its position. A multiple of the
            backend's `size_multiple`.
        tap: Name of the feature tap, of another of the backend's sites, or ``module:PATH`` for the output of any torch
            module that is a map of the image (`genseg.Backend.find_tap`); None for the backend's first.
        t_f: Timestep at which features are read (paper: 1; the authors' notebook: 0).
        draws: Number of noise draws over which features are averaged (notebook: 100).
        n_init: k-means restarts (notebook: 100).
        kmeans_seed: Random state of k-means (notebook: 1234).
        channels: Which of the tap's channels are clustered: ``"all"``; ``"standardized"`` for each with mean 0 and
            standard deviation 1; ``"without-massive"`` and ``"massive"`` for all but, and only, those that are far
            larger than the others, as a few are in diffusion transformers (`genseg.cluster.channels`).
        position: Weight of two further channels for k-means, a grid cell's row and column, in standard deviations of
            the features; 0 for none, as in the paper. It separates objects that look alike but are far apart.
        modulate: Whether pixels are given to clusters by modulation (section 3.3). If not, the clusters' masks take the
            place of the difference maps, `refine` brings them to pixels, and the model is not perturbed.
        num_inference_steps: Steps of the sampler over all timesteps, of which those at or below t_m are run.
        t_m: Timestep at which the offset is added; the nearest step of the sampler is taken (section 3.3).
        replay_steps: Number of steps from t_m down to 0; None for all of the sampler's.
        point: Name of the modulation point, or of any other site, as for `tap`; None for the backend's first.
        strength: λ, the offset's size (paper: 10).
        strength_unit: ``"absolute"``, or ``"rms"`` for multiples of the point's own output RMS.
        difference: ``"two-sided"`` for ‖I⁻ − I⁺‖ (section 3.4), or ``"one-sided"`` for ‖I − I⁺‖: half the branches.
        decoder: What differences are taken in: ``"full"`` for decoded images, ``"tiny"`` for those of a small decoder,
            ``"latent"`` for latents.
        reach: Masks that keep more than this many grid cells apart, on each side, share a branch, and each is given
            the changes within its own reach; None for a branch of its own for each mask.
        injection: Whether queries and keys of the unmodified run replace the branches' own (section 3.3).
        blur: σ in pixels of the 3×3 Gaussian before the difference; 0 for none.
        normalise: ``"none"``, or ``"rms"`` to divide each difference map by its RMS before the argmax.
        refine: ``"none"``, or how difference maps, or the masks without `modulate`, are brought to edges of the image's
            colors: ``"jbu"``, a joint bilateral filter; ``"pamr"``; or ``"upsample-anything"`` (`genseg.upsample`).
        min_area: Connected parts of a segment below this share of the image join the neighbor that they touch most.
        connected: Whether each connected part becomes a segment of its own, then without scores.
        batch_size: Most branches, or noise draws, in one model evaluation; None for as many as are fast and seem to
            fit. Halved where they do not fit after all. The result does not depend on it.
        keep_scores: Whether the result carries the maps whose argmax are the labels; merged segments, and so those of
            ``n_clusters="auto"``, have none.
        max_pixels: Larger images are refused before they are decoded.
    """

    n_clusters: int | str = 25
    size: int | None = None
    resize: str = "area"
    margin: int = 0
    tap: str | None = None
    t_f: int = 0
    draws: int = 100
    n_init: int = 100
    kmeans_seed: int = 1234
    channels: str = "all"
    position: float = 0.0
    modulate: bool = True
    num_inference_steps: int = 50
    t_m: int = 281
    replay_steps: int | None = None
    point: str | None = None
    strength: float = 10.0
    strength_unit: str = "absolute"
    difference: str = "two-sided"
    decoder: str = "full"
    reach: int | None = None
    injection: bool = True
    blur: float = 0.8
    normalise: str = "none"
    refine: str = "none"
    min_area: float = 0.0
    connected: bool = False
    batch_size: int | None = None
    keep_scores: bool = False
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        for key in BOUNDS:
            _check_number(key, getattr(self, key))
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise GensegError(f"{key} must be one of {', '.join(choices)}, not {getattr(self, key)!r}")


BOUNDS: Mapping[str, tuple[float, float]] = {
    "n_clusters": (2, 10_000),
    "size": (1, 8192),
    "margin": (0, 4096),
    "t_f": (0, 999),
    "draws": (1, 10_000),
    "n_init": (1, 10_000),
    "kmeans_seed": (0, 2**32 - 1),
    "position": (0, 1000),
    "num_inference_steps": (1, 1000),
    "t_m": (0, 999),
    "replay_steps": (1, 1000),
    "strength": (0, 1_000_000),
    "reach": (0, 8192),
    "blur": (0, 100),
    "min_area": (0, 1),
    "batch_size": (1, 65_536),
    "max_pixels": (1, 2**31 - 1),
}
"""The smallest and largest value of each numeric key, in recipes, on the command line and in the app."""

CHOICES = {
    "resize": ("area", "square"),
    "channels": ("all", "standardized", "without-massive", "massive"),
    "strength_unit": ("absolute", "rms"),
    "difference": ("two-sided", "one-sided"),
    "decoder": ("full", "tiny", "latent"),
    "normalise": ("none", "rms"),
    "refine": ("none", "jbu", "pamr", "upsample-anything"),
}
KEYS = tuple(f.name for f in fields(Recipe))

OTHER_WORDS = {
    **dict.fromkeys(("k", "K", "clusters", "num_clusters"), "n_clusters"),
    **dict.fromkeys(
        ("n_segments", "merge"), "n_clusters, or --merge or Segmentation.merge to join segments afterwards"
    ),
    **dict.fromkeys(("min_pixels", "min_size"), "min_area, a share of the image"),
}
"""Other words for recipe keys, and the key to use."""

REMOVED = {"response": "full"}
"""Keys of earlier versions, and the one value of each that recipes of today stand for."""

RecipeLike: TypeAlias = "Recipe | str | Path | Mapping[str, Any]"


def load_recipe(
    source: RecipeLike = "paper",
    *,
    calibration: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
    **overrides: Any,
) -> Recipe:
    """Resolve a recipe from its layers.

    Args:
        source: A preset's name, a YAML file (which may name the preset it starts from under ``preset``), a
            mapping like such a file, or a resolved `Recipe`, which no calibration is laid over.
        calibration: A backend's own values, laid over the preset and below the file's; under a preset's name, those
            for that preset alone.
        options: Overrides as ``key=value`` strings, as on the command line.
        **overrides: Overrides as keywords; None for the default.

    Returns:
        The resolved recipe.

    Raises:
        GensegError: For an unknown preset or key (naming the nearest), an unreadable file, or a value out of range.
    """
    if isinstance(source, Recipe):
        layers = [OmegaConf.structured(source)]
    else:
        values = dict(source) if isinstance(source, Mapping) else read_recipe(source)
        name = values.pop("preset", "paper")
        layers = [OmegaConf.structured(Recipe), _preset(name), *_calibrated(calibration or {}, name), _checked(values)]
    try:
        layers += [_checked(_parsed(options)), _checked({k: v for k, v in overrides.items() if v is not None})]
        OmegaConf.set_readonly(layers[0], False)
        recipe = OmegaConf.to_object(OmegaConf.merge(*layers))
    except OmegaConfBaseException as error:
        key = error.full_key
        last = [layer[key] for layer in layers if key in layer][-1:]
        wanted = _kind(key) if key in KEYS else "a plain value"
        raise GensegError(f"{key or 'a recipe key'} must be {wanted}, not {reprlib.repr(last)[1:-1]}") from error
    assert isinstance(recipe, Recipe)
    return recipe


def _calibrated(calibration: Mapping[str, Any], preset: str) -> list[dict[str, Any]]:
    """Return a backend's own values for all presets, and those for one of them."""
    presets = list_presets()
    always = {key: value for key, value in calibration.items() if key not in presets}
    return [_checked(always), _checked(calibration.get(preset, {}))]


def _parsed(options: Sequence[str]) -> dict[str, Any]:
    """Parse ``key=value`` strings."""
    values: dict[str, Any] = {}
    for option in options:
        try:
            values |= OmegaConf.to_container(OmegaConf.from_dotlist([option]))  # type: ignore[arg-type]
        except OmegaConfBaseException:
            raise
        except Exception as error:  # the YAML parser's own
            raise GensegError(f"recipe option {option} is not key=value with a YAML value") from error
    return values


def list_presets() -> list[str]:
    """Names of the presets that ship with genseg."""
    return sorted(f.name.removesuffix(".yaml") for f in _folder().iterdir() if f.name.endswith(".yaml"))


def _folder() -> Any:
    return resources.files("genseg") / "recipes"


def _preset(name: Any) -> dict[str, Any]:
    if name not in list_presets():
        raise unknown("recipe", str(name), list_presets())
    return _checked(_yaml((_folder() / f"{name}.yaml").read_text(encoding="utf-8"), name))


def read_recipe(source: str | Path) -> dict[str, Any]:
    """Read the values of a preset's name or of a YAML file, not yet checked.

    Raises:
        GensegError: For an unreadable file.
    """
    if isinstance(source, str) and not source.endswith((".yaml", ".yml")):
        return {"preset": source}
    try:
        return _yaml(Path(source).read_text(encoding="utf-8"), str(source))
    except (OSError, UnicodeDecodeError) as error:
        raise GensegError(f"cannot read the recipe {source}: {getattr(error, 'strerror', None) or error}") from error


def _yaml(text: str, name: str) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(OmegaConf.create(text))
    except Exception as error:
        raise GensegError(f"recipe {name} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise GensegError(f"recipe {name} must hold lines of the form key: value")
    return {str(k): v for k, v in values.items()}


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of today's keys, literal and within bounds; numbers of numpy and torch as Python's."""
    values = {key: value.item() if getattr(value, "shape", None) == () else value for key, value in values.items()}
    for key in values.keys() & REMOVED.keys():
        if (value := values.pop(key)) != REMOVED[key]:
            raise GensegError(f"{key}={value} is no longer supported; leave out {key}")
    for key, value in values.items():
        if key in OTHER_WORDS:
            raise GensegError(f"there is no recipe key {key!r}; use {OTHER_WORDS[key]}")
        if key not in KEYS:
            raise unknown("recipe key", str(key), KEYS)
        if isinstance(value, str) and "${" in value:
            raise GensegError(f"{key} must be a value, not the variable {value}; recipes expand none")
        if isinstance(value, Real):
            _check_number(key, value)
    return values


def _check_number(key: str, value: Any) -> None:
    """Refuse a number that is out of bounds, or something else in its place."""
    if key not in BOUNDS or value is None or (key == "n_clusters" and value == "auto"):
        return
    is_number, (least, most) = isinstance(value, Real), BOUNDS[key]
    if not (is_number and least <= value <= most):
        raise GensegError(f"{key} must be {_kind(key)}, not {reprlib.repr(value)}")


def _kind(key: str) -> str:
    """The values of a key, in words."""
    default = getattr(Recipe, key)
    if key in BOUNDS:
        whole = "" if isinstance(default, float) else "whole "
        other = ", or 'auto'" if key == "n_clusters" else ""
        return f"a {whole}number from {BOUNDS[key][0]} to {BOUNDS[key][1]}{other}"
    return "true or false" if isinstance(default, bool) else "a word"
