"""The same images, methods and masks under every protocol: make the masks, keep them, then measure them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from genseg.errors import GensegError, NothingLeftError, unknown, user_message
from genseg.evaluation.baselines import METHODS, method_named, needs_model
from genseg.evaluation.baselines.pooling import masks_with
from genseg.evaluation.datasets import Dataset, Sample
from genseg.evaluation.mask_store import MaskStore, MethodMasks
from genseg.evaluation.method import Masks, MethodInput
from genseg.evaluation.models import Models
from genseg.evaluation.protocols import check_protocols
from genseg.evaluation.refinements import REFINEMENTS, refined
from genseg.evaluation.resolution import at_resolution
from genseg.evaluation.results import Evaluation
from genseg.evaluation.scoring import scored
from genseg.fingerprint import relevant
from genseg.interface import Backend
from genseg.naming import named_classes
from genseg.parts import cleaned
from genseg.recipe import Recipe, RecipeLike, load_recipe
from genseg.version import __version__

ProgressCallback: TypeAlias = Callable[[str, str, int, int], None]
"""Called with an image's key, a stage, what is done of it and how much there is. An image ends with the stage
``"done"``, ``"kept"`` (by an earlier run) or ``"failed"``, which counts images; ``"score"`` comes last, key ``""``."""


@dataclass
class Plan:
    """What is evaluated, and how.

    Attributes:
        dataset: Where images and truths come from.
        methods: Names from `genseg.evaluation.baselines.METHODS`; the first is compared with each of the others.
        protocols: Names from `genseg.evaluation.protocols.PROTOCOLS`; an image's place in the gallery is by the first.
        resolution: One of `genseg.evaluation.resolution.RESOLUTIONS`.
        limit: At most so many images, evenly spaced over the set; None for all.
        refine: One of `genseg.evaluation.refinements.REFINEMENTS`, applied to every method; None for none.
        min_pixels: Connected components smaller than this are merged into their neighbours, of every method.
        seed: Fixes every random draw.
        named: Whether masks are given classes by an embedder, as the protocol ``open-vocabulary`` needs.
    """

    dataset: Dataset
    methods: Sequence[str] = ("modulation", "naive")
    protocols: Sequence[str] = ("oracle",)
    resolution: str = "512"
    limit: int | None = None
    refine: str | None = None
    min_pixels: int = 0
    seed: int = 0
    named: bool = False
    keys: list[str] = field(init=False)

    def __post_init__(self) -> None:
        for method in self.methods:
            method_named(method)
        if self.seed < 0:
            raise GensegError(f"seed must be at least 0, not {self.seed}")
        keys = self.dataset.spaced(self.limit)
        check_protocols(self.protocols, has_classes=self.dataset.n_classes is not None, named=self.named)
        if self.refine is not None and self.refine not in REFINEMENTS:
            raise unknown("refinement", self.refine, REFINEMENTS)
        self.keys = keys

    def settings(self, recipe: Recipe, model: Mapping[str, Any]) -> dict[str, Any]:
        """What masks depend on, but the method; ``model`` tells the weights."""
        return {
            "genseg": __version__,
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "data": self.dataset.fingerprint(),
            "resolution": self.resolution,
            "refine": self.refine,
            "min_pixels": self.min_pixels,
            "seed": self.seed,
            "model": dict(model),
            "recipe": relevant(recipe),
        }


def evaluate(
    dataset: Dataset,
    out: str | Path,
    *,
    backend: str | Backend = "tiny",
    recipe: RecipeLike | None = None,
    methods: Sequence[str] = ("modulation", "naive"),
    protocols: Sequence[str] = ("oracle",),
    resolution: str = "512",
    limit: int | None = None,
    refine: str | None = None,
    min_pixels: int = 0,
    encoder: str | None = None,
    embedder: str | None = None,
    embedder_model: str | None = None,
    masks: str | Path | None = None,
    seed: int = 0,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    load: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
    progress: ProgressCallback | None = None,
    **overrides: Any,
) -> Evaluation:
    """Segment a data set with several methods on the same features, and score the masks under several protocols.

    Masks are kept in ``out`` as soon as they are made. A run that was stopped goes on where it was; every figure is
    then what it would have been. No model is loaded if all masks are there. An image that cannot be read or segmented
    is left out, for all methods, and told.

    Args:
        dataset: From `genseg.evaluation.datasets.load_dataset`.
        out: A folder for masks and results.
        backend: As for `genseg.Segmenter`.
        recipe: Likewise.
        methods: See `Plan`, also for ``protocols``, ``resolution``, ``limit``, ``refine`` and ``min_pixels``.
        protocols: See there.
        resolution: See there.
        limit: See there.
        refine: See there.
        min_pixels: See there.
        encoder: A vision encoder whose features are clustered in place of the backend's; see
            ``genseg.registry.ENCODERS``.
        embedder: Names the masks, for the protocol ``open-vocabulary``; see `genseg.list_embedders`.
        embedder_model: A local checkpoint or hub id in place of the embedder's own.
        masks: The folder of an evaluation without embedder that is the same otherwise: the masks that it keeps are
            named here, and made only where it has none.
        seed: As for `genseg.Segmenter`.
        model: Likewise, or the encoder's. Of a loaded backend: what tells its weights, as they have no name.
        device: Likewise.
        dtype: Likewise.
        load: What else the backend's or encoder's factory takes.
        options: Recipe keys as ``key=value``, as on the command line.
        progress: Told how far the work is; see `ProgressCallback`.
        **overrides: Recipe keys, such as ``n_clusters=25``.

    Returns:
        Every figure with its protocol and interval.

    Raises:
        GensegError: If no image can be used, ``out`` or ``masks`` holds another evaluation, or for an unknown name.
    """
    plan = Plan(dataset, methods, protocols, resolution, limit, refine, min_pixels, seed, embedder is not None)
    telling, load = progress or (lambda *_: None), _given(load or {})
    load_recipe(recipe or "paper", options=options, **overrides)  # a mistake is refused before a model is loaded
    models = Models(
        folder=Path(out),
        backend=backend if encoder is None and any(map(needs_model, methods)) else None,
        encoder=encoder,
        embedder=embedder,
        embedder_model=embedder_model,
        asked=recipe,
        options=options,
        overrides=overrides,
        seed=seed,
        model=model,
        device=device,
        dtype=dtype,
        load=load,
    )
    settings = plan.settings(models.recipe, models.source)
    kept, lent = MaskStore(Path(out), settings), None
    if masks is not None:
        unnamed = {kind: what for kind, what in models.source.items() if kind != "names"}
        lent = MaskStore(Path(masks), plan.settings(models.recipe, unnamed))
    failures = MaskMaker(plan, kept, models, telling, lent).run()
    keys = [key for key in plan.keys if key not in failures]
    if not keys:
        raise NothingLeftError(f"no image is left to evaluate: {next(iter(failures.values()), 'the set is empty')}")
    scores = scored(kept, keys, methods, protocols, dataset.n_classes, seed, partial(telling, "", "score"))
    if not scores.scores:
        raise GensegError(next(iter(scores.unmeasured.values())))
    return Evaluation.of(dataset, methods, protocols, scores, settings, kept, keys, failures)


@dataclass
class MaskMaker:
    """Makes the masks that are not kept yet, image by image."""

    plan: Plan
    kept: MaskStore
    models: Models
    telling: ProgressCallback
    lent: MaskStore | None = None

    def run(self) -> dict[str, str]:
        """Make them.

        Returns:
            Why an image is left out, by its key.
        """
        missing = {key: list(self._missing(key)) for key in self.plan.keys}
        if any(missing.values()):
            self.models.ready()  # here, so that what they fail for is not told of an image
            self.kept.begin()
        failures = {}
        for done, (key, methods) in enumerate(missing.items(), start=1):
            end = "kept"
            try:
                if methods:
                    self._make(key, methods)
                    end = "done"
            except Exception as error:  # whatever is wrong with one image, the others are evaluated
                failures[key], end = user_message(error), "failed"
            self.telling(key, end, done, len(self.plan.keys))
        return failures

    def _missing(self, key: str) -> Iterator[str]:
        """The methods whose masks of an image are missing; all, where the truth is."""
        return (m for m in self.plan.methods if not (self.kept.has_truth(key) and self.kept.has(m, key)))

    def _make(self, key: str, methods: Sequence[str]) -> None:
        sample = at_resolution(self.plan.dataset[key], self.plan.resolution)
        models, size = self.models, (sample.image.height, sample.image.width)
        if models.segmenter is not None:
            models.segmenter.progress = partial(self.telling, key)
        scene = MethodInput(sample.image, size, models.recipe, self.plan.seed, models.segmenter, models.reader)
        for method in methods:
            self.kept.keep(method, key, self._row(scene, sample, method))
        self.kept.keep_truth(key, sample.truths)

    def _row(self, scene: MethodInput, sample: Sample, method: str) -> MethodMasks:
        if self.lent is not None and self.lent.has(method, sample.key):
            masks = self.lent.row(method, sample.key).masks
        else:
            masks = self._masks(scene, sample, method)
        named = None
        if self.models.namer is not None:
            named = named_classes(masks.segments, sample.image, self.plan.dataset.classes, self.models.namer)
        return MethodMasks(masks, named)

    def _masks(self, scene: MethodInput, sample: Sample, method: str) -> Masks:
        masks = METHODS[method](scene)
        if self.plan.refine is not None:
            masks = refined(masks, sample.image, self.plan.refine)
        if self.plan.min_pixels:
            masks = masks_with(scene, cleaned(masks.segments, self.plan.min_pixels))
        return masks


def _given(load: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in load.items() if value is not None}
