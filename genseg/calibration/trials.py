"""Trying settings of a recipe on a few images, each once: what calibration searches with."""

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
from genseg.pipeline import Clusters, encode, find_clusters, find_differences, label_maps, read
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


class TrialRunner:
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
        self.pixels = [read(image, recipe, backend.image_size, backend.size_multiple).pixels for image in images]
        self.digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in self.pixels)).hexdigest()
        self._t_m: int | None = None
        self._states: dict[tuple[int, int], Any] = {}
        self._clusters: dict[Any, Clusters] = {}

    def found(self, index: int, recipe: Recipe, seed: int) -> SeedResult:
        """What `Segmenter.analyse` finds in an image, the difference maps normalised as the recipe says.

        Raises:
            GensegError: If the recipe does not work, as when its offset changes nothing.
        """
        backend, pixels = self._backend, self.pixels[index]
        if recipe.t_m != self._t_m:
            self._t_m = recipe.t_m
            self._states.clear()
        if (index, seed) not in self._states:
            self._states[index, seed] = encode(backend, pixels, recipe, seed)
        state = self._states[index, seed]
        key = (index, seed, recipe.tap, recipe.t_f)
        if key not in self._clusters:
            self._clusters[key] = find_clusters(backend, state, (pixels.shape[2], pixels.shape[3]), recipe)
        analysis = find_differences(backend, self._clusters[key]._replace(state=state), recipe)
        maps = label_maps(analysis.differences, pixels, recipe)
        return SeedResult(analysis.grid_labels, analysis.embeddings, maps)

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
