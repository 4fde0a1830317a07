"""Trying settings of a recipe on a few images, each once: what calibration searches with."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from genseg.calibration.criterion import Criterion, Found
from genseg.cluster import cluster
from genseg.errors import GensegError
from genseg.files import write_whole
from genseg.images import ImageLike, inner, load_image, mirrored, model_size, to_tensor
from genseg.interface import Backend, pick
from genseg.modulate import difference_maps, masks_for, normalised
from genseg.recipe import Recipe

FACTORS = ("tap", "t_f", "point", "t_m", "strength")
"""What is searched, in this order: what is clustered first, then how it is modulated."""


@dataclass(frozen=True)
class Trial:
    """One setting and what came of it.

    Attributes:
        key: Digest of all that determines the result.
        setting: The value of each of `FACTORS`.
        score: In [0, 1]; 0 for a setting that does not work.
        terms: What the score is made of.
        reason: Why the setting does not work; empty if it does.
        seconds: What it took.
    """

    key: str
    setting: dict[str, Any]
    score: float
    terms: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


class Bench:
    """One model and a few images, on which one recipe after the other is tried.

    What recipes share is not computed again: states as long as t_m stays the same, and the clusters of every tap and
    t_f. The recipes may differ in `FACTORS` alone.

    Args:
        backend: The model.
        recipe: Says how images are read.
        images: The images.

    Raises:
        GensegError: If there is no image, or one that cannot be used.
    """

    def __init__(self, backend: Backend, recipe: Recipe, images: Sequence[ImageLike]) -> None:
        if not images:
            raise GensegError("calibration needs images; give some, as varied as those you will segment")
        self._backend = backend
        self.pixels = [self._read(image, recipe) for image in images]
        self.digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in self.pixels)).hexdigest()
        self._t_m: int | None = None
        self._states: dict[tuple[int, int], Any] = {}
        self._clusters: dict[Any, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}

    def _read(self, image: ImageLike, recipe: Recipe) -> Tensor:
        picture = load_image(image, recipe.max_pixels)
        side = recipe.size or self._backend.image_size
        return to_tensor(picture, model_size(*picture.size, side, self._backend.size_multiple, recipe.resize))

    def found(self, index: int, recipe: Recipe, seed: int) -> Found:
        """What `Segmenter.analyse` finds in an image, the difference maps normalised as the recipe says.

        Raises:
            GensegError: If the recipe does not work, as when its offset changes nothing.
        """
        backend, pixels, margin = self._backend, self.pixels[index], recipe.margin
        if recipe.t_m != self._t_m:
            self._t_m = recipe.t_m
            self._states.clear()
        state = self._states.get((index, seed))
        if state is None:
            state = self._states[index, seed] = backend.encode(mirrored(pixels, margin), recipe, seed)
        key = (index, seed, recipe.tap, recipe.t_f)
        if key not in self._clusters:
            tap = pick("tap", backend.taps, recipe.tap)
            features = inner(backend.features(state, tap, recipe), margin // tap.stride)
            self._clusters[key] = cluster(features, recipe)
        grid_labels, embeddings = self._clusters[key]
        point = pick("point", backend.points, recipe.point)
        masks = masks_for(point, grid_labels, len(embeddings), (pixels.shape[2], pixels.shape[3]), margin)
        maps = inner(difference_maps(backend, state, masks, recipe), margin)
        return Found(grid_labels, embeddings, normalised(maps, recipe.normalise))

    def tried(self, key: str, recipe: Recipe, criterion: Criterion, seed: int, told: Callable[[int], None]) -> Trial:
        """Score a recipe; ``told`` is called with the number of images done."""
        begun, measured = time.perf_counter(), []
        setting = {factor: getattr(recipe, factor) for factor in FACTORS}
        try:
            for index, pixels in enumerate(self.pixels):
                found = [self.found(index, recipe, seed + n) for n in range(criterion.seeds)]
                measured.append(criterion.measure(index, pixels, found))
                told(index + 1)
            score, terms = criterion.score(measured)
        except GensegError as error:  # this setting does not work; others may
            return Trial(key, setting, 0.0, reason=str(error), seconds=time.perf_counter() - begun)
        return Trial(key, setting, score, terms, seconds=time.perf_counter() - begun)


class TrialLog:
    """The trials of a JSON Lines file, one a line, to which every new one is added at once.

    Args:
        path: The file, which need not exist; None to keep nothing.

    Raises:
        GensegError: If the file holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self.trials = path, dict[str, Trial]()
        if path is None or not path.exists():
            return
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                trial = Trial(**json.loads(line))
                self.trials[trial.key] = trial
        except (OSError, ValueError, TypeError) as error:
            raise GensegError(f"{path} is no file of trials; choose another, or remove it") from error

    def add(self, trial: Trial) -> None:
        """Keep a trial.

        Raises:
            GensegError: If the file cannot be written.
        """
        self.trials[trial.key] = trial
        if self._path is not None:
            lines = "".join(json.dumps(asdict(each)) + "\n" for each in self.trials.values())
            write_whole(self._path, lambda file: file.write(lines.encode()))


def key_of(recipe: Recipe, provenance: Sequence[Any]) -> str:
    """A short name of a recipe and of all else that determines its score, which JSON can hold."""
    known = asdict(replace(recipe, keep_scores=False, batch_size=None))  # which change no result
    return hashlib.sha256(json.dumps([known, *provenance], sort_keys=True).encode()).hexdigest()[:16]
