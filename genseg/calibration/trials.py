"""Trials of a recipe's settings on a few images, each run once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genseg.calibration.criterion import Criterion, SeedResult
from genseg.errors import GensegError
from genseg.files import write_whole
from genseg.images import ImageLike
from genseg.interface import Backend
from genseg.pipeline import Clusters, encode, find_clusters, find_differences, read, refined_maps
from genseg.recipe import Recipe

FACTORS = ("tap", "channels", "t_f", "point", "t_m", "strength")
"""The recipe keys that are searched, in this order: first what is clustered, then how it is modulated."""


@dataclass(frozen=True)
class Trial:
    """One setting with its score.

    Attributes:
        key: Digest of everything that determines the result.
        setting: The value of each of `FACTORS`.
        score: Score in [0, 1]; 0 if the setting failed.
        terms: Terms of the score, by name.
        reason: Why the setting failed; empty if it did not.
        seconds: Wall time.
    """

    key: str
    setting: dict[str, Any]
    score: float
    terms: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


class TrialRunner:
    """Tries recipes on one model and a few images.

    Recipes may differ in `FACTORS` only, and share work: encoded states are reused while t_m stays the same, and the
    clusters of every tap, selection of channels and t_f are cached.

    Attributes:
        pixels: The images as the model sees them: float32 [1, 3, H, W] in [-1, 1] each.
        sizes: (H, W) of each image at its own size.

    Args:
        backend: The model.
        recipe: The starting recipe, by which images are read.
        images: The images.

    Raises:
        GensegError: If there are no images, or one cannot be used.
    """

    def __init__(self, backend: Backend, recipe: Recipe, images: Sequence[ImageLike]) -> None:
        if not images:
            raise GensegError("calibration needs images; give some, as varied as those you will segment")
        self._backend = backend
        readings = [read(image, recipe, backend.image_size, backend.size_multiple) for image in images]
        self.pixels = [reading.pixels for reading in readings]
        self.sizes = [(reading.picture.height, reading.picture.width) for reading in readings]
        self.digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in self.pixels)).hexdigest()
        self._t_m: int | None = None
        self._states: dict[tuple[int, int], Any] = {}
        self._clusters: dict[Any, Clusters] = {}

    def result(self, index: int, recipe: Recipe, seed: int) -> SeedResult:
        """Segment one image, as `Segmenter.analyse` does, and normalise its difference maps.

        Raises:
            GensegError: If the recipe fails, for example because its offset changes no pixel.
        """
        backend, pixels = self._backend, self.pixels[index]
        if recipe.t_m != self._t_m:
            self._t_m = recipe.t_m
            self._states.clear()
        if (index, seed) not in self._states:
            self._states[index, seed] = encode(backend, pixels, recipe, seed)
        state = self._states[index, seed]
        key = (index, seed, recipe.tap, recipe.channels, recipe.t_f)
        if key not in self._clusters:
            self._clusters[key] = find_clusters(backend, state, (pixels.shape[2], pixels.shape[3]), recipe)
        analysis = find_differences(backend, self._clusters[key]._replace(state=state), recipe)
        maps = refined_maps(analysis.differences, pixels, recipe).cpu()
        return SeedResult(analysis.grid_labels, analysis.embeddings, maps)

    def run(
        self, key: str, recipe: Recipe, criterion: Criterion, seed: int, on_progress: Callable[[int], None]
    ) -> Trial:
        """Score a recipe; ``on_progress`` is called with the number of images done."""
        start, measured = time.perf_counter(), []
        setting = {factor: getattr(recipe, factor) for factor in FACTORS}
        try:
            for index, pixels in enumerate(self.pixels):
                results = [self.result(index, recipe, seed + n) for n in range(criterion.seeds)]
                measured.append(criterion.measure(index, pixels, results))
                on_progress(index + 1)
            score, terms = criterion.score(measured)
        except GensegError as error:  # this setting fails; others may not
            return Trial(key, setting, 0.0, reason=str(error), seconds=time.perf_counter() - start)
        return Trial(key, setting, score, terms, seconds=time.perf_counter() - start)


class TrialLog:
    """A JSON Lines file of trials, one per line, to which each new one is saved at once.

    Args:
        path: The file, which need not exist; None to save nothing.

    Raises:
        GensegError: If the file holds anything else.
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
        """Save a trial.

        Raises:
            GensegError: If the file cannot be written.
        """
        self.trials[trial.key] = trial
        if self._path is not None:
            lines = "".join(json.dumps(asdict(each)) + "\n" for each in self.trials.values())
            write_whole(self._path, lambda file: file.write(lines.encode()))
