"""Search for the recipe that suits a model, over tap, channels, t_f, point, t_m and strength, one factor at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genseg.calibration.criterion import (
    SupervisedCriterion,
    TruthMaps,
    UnsupervisedCriterion,
    check_protocol,
    check_truths,
)
from genseg.calibration.trials import FACTORS, Trial, TrialLog, TrialRunner
from genseg.checks import several
from genseg.errors import GensegError, unknown
from genseg.files import write_whole
from genseg.fingerprint import digest, relevant
from genseg.images import ImageLike
from genseg.interface import Backend
from genseg.progress import Progress
from genseg.recipe import Recipe, RecipeLike, load_recipe
from genseg.segmenter import Segmenter
from genseg.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Calibration:
    """The result of `calibrate`.

    Attributes:
        recipe: The best recipe.
        trials: All settings that were tried, in order; the first is the starting recipe.
        best: The trial of ``recipe``.
        backend: Name of the backend.
        model: Checkpoint in place of the backend's own; None for its own.
        preset: Name of the backend's preset.
        shipped: The backend's own recipe; `save` writes the differences from it.
        criterion: Description of the score.
        images: Number of images.
        seed: The seed.
        date: Date of the search, such as ``"2026-01-31"``.
    """

    recipe: Recipe
    trials: list[Trial]
    best: Trial
    backend: str
    model: str | None
    preset: str
    shipped: Recipe
    criterion: str
    images: int
    seed: int
    date: str

    def save(self, path: str | Path) -> Path:
        """Write the best recipe as a YAML file for ``recipe=``, as differences from the backend's own.

        Args:
            path: A file name that ends in .yaml or .yml.

        Returns:
            The path.

        Raises:
            GensegError: If ``path`` has another suffix, or cannot be written.
        """
        from omegaconf import OmegaConf

        path = Path(path)
        if path.suffix not in (".yaml", ".yml"):
            raise GensegError(f"a recipe file must end in .yaml, not {path.name!r}; choose another name")
        shipped = asdict(self.shipped)
        values = {key: value for key, value in asdict(self.recipe).items() if value != shipped[key]}
        header = [
            f"backend: {self.backend}, model: {self.model or 'its own'}, genseg {__version__}, {self.date}",
            f"criterion: {self.criterion}; score {self.best.score:.4f}, {self.trials[0].score:.4f} to begin with",
            f"{self.images} images, {len(self.trials)} settings, seed {self.seed}",
        ]
        text = "".join(f"# {line}\n" for line in header) + OmegaConf.to_yaml({"preset": self.preset} | values)
        write_whole(path, lambda file: file.write(text.encode()))
        return path

    def to_json(self) -> str:
        """Return all fields as JSON."""
        return json.dumps(asdict(self), indent=1)

    def plot(self) -> Figure:
        """Plot the score of every setting by its value, in a panel for each factor, with the chosen value marked."""
        import matplotlib.pyplot as plt

        figure, panels = plt.subplots(
            1, len(FACTORS), figsize=(3 * len(FACTORS), 4), sharey=True, squeeze=False, layout="constrained"
        )
        for panel, factor in zip(panels[0], FACTORS, strict=True):
            values = self.values(factor)
            at = {value: position for position, value in enumerate(values)}
            panel.scatter([at[trial.setting[factor]] for trial in self.trials], [t.score for t in self.trials], s=12)
            panel.plot(range(len(values)), [self.best_with(factor, value).score for value in values])
            panel.scatter([at[self.best.setting[factor]]], [self.best.score], marker="*", s=150, color="C3", zorder=3)
            panel.set_xticks(range(len(values)), [str(value) for value in values], rotation=90)
            panel.set_title(factor)
        panels[0][0].set_ylabel("score")
        figure.suptitle(f"{self.backend}: {self.criterion}, {self.images} images")
        return figure

    def values(self, factor: str) -> list[Any]:
        """Return the values of a factor that were tried: numbers in ascending order, names in the order tried."""
        tried = list(dict.fromkeys(trial.setting[factor] for trial in self.trials))
        return tried if isinstance(tried[0], str) else sorted(tried)

    def best_with(self, factor: str, value: Any) -> Trial:
        """Return the best trial with a given value of a factor."""
        return max((t for t in self.trials if t.setting[factor] == value), key=lambda trial: trial.score)

    def _repr_html_(self) -> str:
        """List each factor with the chosen value, and the best score of every value that was tried."""
        from genseg.display.html import table

        rows = []
        for factor in FACTORS:
            tried = {value: self.best_with(factor, value).score for value in self.values(factor)}
            scores = ", ".join(f"{value}: {score:.3f}" for value, score in tried.items())
            rows.append({"factor": factor, "chosen": str(self.best.setting[factor]), "best score by value": scores})
        gain = f"score {self.best.score:.3f}, {self.trials[0].score:.3f} to begin with"
        return table(rows, f"{self.backend}, {self.criterion}: {gain}; {self.images} images, seed {self.seed}")


def calibrate(
    backend: str | Backend,
    images: Sequence[ImageLike],
    *,
    truths: Sequence[TruthMaps] | None = None,
    protocol: str = "oracle",
    recipe: RecipeLike | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    rounds: int = 2,
    seed: int = 0,
    out: str | Path | None = None,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> Calibration:
    """Search the recipe of a model on a few images.

    The search changes one factor at a time around the best setting so far, in the order of `FACTORS`. A setting that
    fails scores 0 and does not stop the search; among equal scores, the earlier setting wins.

    Args:
        backend: A name from `genseg.list_backends`, or a loaded `Backend`.
        images: The images; see `genseg.images.load_image`.
        truths: The ground truth of each image, at its size: maps of classes for all, or annotators' maps for all. The
            score is then the mean of mIoU and boundary F at the model's resolution. None for a score without ground
            truth (docs/calibration.md).
        protocol: The protocol that assigns classes to segments, one of `genseg.evaluation.protocols.PROTOCOLS`; used
            with ``truths`` only. A protocol that learns from a dataset learns from these images, anew for each setting.
        recipe: The starting recipe; None for the backend's own. Keys that are not searched keep its values,
            but the search always modulates.
        grid: Values to try by factor, in place of `candidates`; an empty list leaves a factor unchanged.
        rounds: Maximum number of passes over all factors; the search ends after a pass without a change.
        seed: Fixes every random draw; ``seed + 1`` is used too, to measure how much the labels depend on noise.
        out: A JSON Lines file of trials. Its trials are not repeated, and each new one is saved at once.
        model: A local checkpoint or hub id in place of the backend's own. For a loaded backend it only says which it
            has, as does ``dtype``.
        device: A torch device; None for CUDA if it is available, else the CPU.
        dtype: ``"float32"`` (the default), ``"float16"``, ``"bfloat16"`` or ``"auto"``.
        progress: Progress callback: ``(setting, done, total)`` in images. The total is an upper bound.
        **overrides: Recipe keys, such as ``n_clusters=25``.

    Returns:
        The best recipe and all trials.

    Raises:
        GensegError: If an image, ground truth, protocol, recipe, grid or backend is unusable, or every setting fails.
    """
    if rounds < 1:
        raise GensegError(f"rounds must be at least 1, not {rounds}")
    images = list(several(images, "images"))
    check_protocol(protocol, truths)
    # Of a loaded backend, model and dtype only say which it has.
    named: dict[str, Any] = {"model": model, "dtype": dtype} if isinstance(backend, str) else {}
    start = Segmenter(backend, recipe, seed=seed, device=device, **named, **overrides)
    loaded, seed = start.backend, start.seed
    best_recipe = replace(
        start.recipe,
        modulate=True,  # which is what most of the factors are about
        tap=start.recipe.tap or next(iter(loaded.taps)),
        point=start.recipe.point or next(iter(loaded.points)),
    )
    tried = settings_to_try(loaded, best_recipe, grid or {})
    runner = TrialRunner(loaded, best_recipe, images)
    sizes = [(pixels.shape[2], pixels.shape[3]) for pixels in runner.pixels]
    if truths is not None:
        check_truths(truths, runner.sizes)
    criterion = UnsupervisedCriterion() if truths is None else SupervisedCriterion(truths, sizes, protocol, seed)
    provenance = [loaded.name, model, dtype, loaded.device.type, runner.digest, seed]
    provenance += [criterion.description, criterion.digest]
    log, trials = TrialLog(Path(out) if out is not None else None), dict[str, Trial]()
    done, total = 0, len(images) * (1 + rounds * sum(len(values) for values in tried.values()))
    on_progress = progress or (lambda *_: None)

    def trial_of(candidate: Recipe, setting: str) -> Trial:
        nonlocal done
        on_progress(setting, done, total)
        key = digest(relevant(candidate), *provenance)[:16]
        if key not in log.trials:
            log.add(runner.run(key, candidate, criterion, seed, lambda n: on_progress(setting, done + n, total)))
        done += len(images)
        trials[key] = log.trials[key]
        return trials[key]

    best = trial_of(best_recipe, "start")
    for _ in range(rounds):
        before = best
        for factor, values in tried.items():
            around = best_recipe
            for value in values:
                candidate = replace(around, **{factor: value})
                trial = trial_of(candidate, f"{factor}={value}")
                if trial.score > best.score:
                    best_recipe, best = candidate, trial
        if best is before:
            break
    if best.score == 0:
        why = next((trial.reason for trial in trials.values() if trial.reason), "every score is 0")
        raise GensegError(f"no setting of backend {loaded.name!r} works on these images ({why}); give another grid")
    return Calibration(
        recipe=best_recipe,
        trials=list(trials.values()),
        best=best,
        backend=loaded.name,
        model=model,
        preset=loaded.preset,
        shipped=loaded.resolve(),
        criterion=criterion.description,
        images=len(images),
        seed=seed,
        date=datetime.now(UTC).date().isoformat(),
    )


def candidates(backend: Backend, recipe: Recipe) -> dict[str, list[Any]]:
    """List the values that `calibrate` tries, by factor.

    They are all taps and points; all channels, standardized ones and those without the massive; the recipe's timesteps
    and those 100 and 200 away; and its strength times powers of 2. Models without a noise axis have no timesteps to
    try.
    """
    tried: dict[str, list[Any]] = {"tap": list(backend.taps), "point": list(backend.points)}
    tried["channels"] = ["all", "standardized", "without-massive"]
    if backend.capabilities.noise_axis:
        for key in ("t_f", "t_m"):
            tried[key] = sorted({min(max(getattr(recipe, key) + by, 0), 999) for by in (-200, -100, 0, 100, 200)})
    tried["strength"] = [recipe.strength * by for by in (0.25, 0.5, 1.0, 2.0, 4.0)]
    return {factor: tried[factor] for factor in FACTORS if factor in tried}


def settings_to_try(backend: Backend, recipe: Recipe, grid: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """List the values that `calibrate` tries, by factor, with the caller's in place of the `candidates`.

    Raises:
        GensegError: If the recipe cannot have one of them.
    """
    for key in grid:
        if key not in FACTORS:
            raise unknown("factor", key, FACTORS)
    values = {**candidates(backend, recipe), **grid}
    tried: dict[str, list[Any]] = {}
    for factor in (factor for factor in FACTORS if factor in values):
        tried[factor] = [getattr(load_recipe(recipe, **{factor: value}), factor) for value in values[factor]]
    for name in tried["tap"]:
        backend.find_tap(name)
    for name in tried["point"]:
        backend.find_point(name)
    return tried
