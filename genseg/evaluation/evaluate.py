"""Evaluate methods under protocols: make masks, save them, then measure them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from genseg.checks import checked_seed
from genseg.errors import GensegError, NothingLeftError, unknown, user_message
from genseg.evaluation.baselines import method_named, needs_model
from genseg.evaluation.baselines.pooling import masks_with
from genseg.evaluation.datasets import Dataset, Sample
from genseg.evaluation.mask_store import MaskStore, MethodMasks
from genseg.evaluation.method import Masks, MethodInput
from genseg.evaluation.models import Models
from genseg.evaluation.protocols import RowStatistics, SegmentStatistics, check_protocols
from genseg.evaluation.published_rules import Rules, merged, rules_named
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
"""Progress callback: ``(key, stage, done, total)``. Each image ends with the stage ``"done"``, ``"kept"`` (its masks
were there) or ``"failed"``, counted in images. The stage ``"score"`` comes last, with the key ``""``."""


@dataclass
class Plan:
    """Images, methods and protocols of an evaluation.

    Attributes:
        dataset: Images with ground truth.
        methods: Names from `genseg.evaluation.baselines.METHODS`; the first is compared with each other one.
        protocols: Names from `genseg.evaluation.protocols.PROTOCOLS`; the gallery ranks images by the first.
        resolution: One of `genseg.evaluation.resolution.RESOLUTIONS`.
        limit: Upper bound of the number of images, evenly spaced over the dataset; None for all.
        refine: One of `genseg.evaluation.refinements.REFINEMENTS`, applied to every method; None for no refinement.
        min_pixels: Connected components with fewer pixels are merged into their neighbors, for every method.
        seed: Fixes every random draw.
        named: Whether an embedder names masks, as the protocol ``open-vocabulary`` needs.
        rules: Rules of a published method, which set classes, protocol, resolution and refinement; None for no rules.
        keys: Keys of the images.
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
    rules: Rules | None = None
    keys: list[str] = field(init=False)

    def __post_init__(self) -> None:
        if self.rules is not None:
            self._follow(self.rules)
        for method in self.methods:
            method_named(method)
        self.seed = checked_seed(self.seed)
        keys = self.dataset.spaced(self.limit)
        check_protocols(self.protocols, has_classes=self.dataset.n_classes is not None, named=self.named)
        if self.refine is not None and self.refine not in REFINEMENTS:
            raise unknown("refinement", self.refine, REFINEMENTS)
        self.keys = keys

    def _follow(self, rules: Rules) -> None:
        chosen = list(self.protocols), self.resolution, self.refine, self.min_pixels, self.named
        if chosen != (["oracle"], "512", None, 0, False):
            raise GensegError(
                f"the rules {rules.name} set protocol, resolution, refinement and parts; leave these and embedders out"
            )
        self.dataset, self.protocols = rules.labels(self.dataset), (rules.protocol,)
        self.resolution, self.refine = rules.resolution_of(self.dataset), rules.refine

    def settings(self, recipe: Recipe, model: Mapping[str, Any]) -> dict[str, Any]:
        """Return everything that masks depend on except the method; ``model`` identifies the weights."""
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
        } | ({} if self.rules is None else {"rules": self.rules.name})


def evaluate(
    dataset: Dataset,
    out: str | Path,
    *,
    backend: str | Backend = "tiny",
    recipe: RecipeLike | None = None,
    methods: Sequence[str] = ("modulation", "naive"),
    protocols: Sequence[str] = ("oracle",),
    rules: str | None = None,
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
    """Segment a dataset with several methods on the same features, and score the masks under several protocols.

    Masks are saved in ``out`` as soon as they are made. An interrupted run resumes and ends with the same metrics. No
    model is loaded if all masks are there. An image that cannot be read or segmented is reported and left out, for all
    methods.

    Args:
        dataset: A dataset from `genseg.evaluation.datasets.load_dataset`.
        out: A folder for masks and results.
        backend: A name from `genseg.list_backends`, or a loaded `Backend`.
        recipe: A preset's name, a YAML file, a mapping or a `Recipe`; None for the backend's own preset.
        methods: Names from `genseg.evaluation.baselines.METHODS`; the first is compared with each other one.
        protocols: Names from `genseg.evaluation.protocols.PROTOCOLS`; the gallery ranks images by the first.
        rules: The rules of a published method, one of `genseg.evaluation.published_rules.RULES`. They take the place of
            ``protocols``, ``resolution``, ``refine`` and ``min_pixels``, and results are named after them.
        resolution: One of `genseg.evaluation.resolution.RESOLUTIONS`.
        limit: Upper bound of the number of images, evenly spaced over the dataset; None for all.
        refine: One of `genseg.evaluation.refinements.REFINEMENTS`, applied to every method; None for no refinement.
        min_pixels: Connected components with fewer pixels are merged into their neighbors, for every method.
        encoder: A vision encoder whose features are clustered in place of the backend's; see
            ``genseg.registry.ENCODERS``.
        embedder: An embedder that names masks, for the protocol ``open-vocabulary``; see `genseg.list_embedders`.
        embedder_model: A local checkpoint or hub id in place of the embedder's own.
        masks: The folder of an evaluation with the same settings but without an embedder. Its masks are reused.
        seed: Fixes every random draw.
        model: A local checkpoint or hub id in place of the backend's or encoder's own. For a loaded backend, a name
            that identifies its weights.
        device: A torch device; None for CUDA if it is available, else the CPU.
        dtype: ``"float32"`` (the default), ``"float16"``, ``"bfloat16"`` or ``"auto"``. For a loaded backend it only
            says which it has, as do ``model`` and ``load``.
        load: Further options of the backend's or encoder's factory.
        options: Recipe keys as ``key=value``, as on the command line.
        progress: Progress callback; see `ProgressCallback`.
        **overrides: Recipe keys, such as ``n_clusters=25``.

    Returns:
        All metrics, by method and protocol, with intervals.

    Raises:
        GensegError: If no image can be used, ``out`` or ``masks`` holds another evaluation, a name is unknown, or
            ``rules`` are given beside what they set.
    """
    published = None if rules is None else rules_named(rules)
    named = embedder is not None
    plan = Plan(dataset, methods, protocols, resolution, limit, refine, min_pixels, seed, named, published)
    on_progress = progress or (lambda *_: None)
    load_recipe(recipe or "paper", options=options, **overrides)  # refuse a mistyped recipe before a model is loaded
    models = Models(
        folder=Path(out),
        backend=backend if encoder is None and any(map(needs_model, methods)) else None,
        encoder=encoder,
        embedder=embedder,
        embedder_model=embedder_model,
        requested_recipe=recipe,
        options=options,
        overrides=overrides,
        seed=seed,
        model=model,
        device=device,
        dtype=dtype,
        load={key: value for key, value in (load or {}).items() if value is not None},
    )
    settings = plan.settings(models.recipe, models.source)
    store, other_store = MaskStore(Path(out), settings), None
    if masks is not None:
        unnamed = {kind: weights for kind, weights in models.source.items() if kind != "names"}
        other_store = MaskStore(Path(masks), plan.settings(models.recipe, unnamed))
    failures = MaskMaker(plan, store, models, on_progress, other_store).run()
    keys = [key for key in plan.keys if key not in failures]
    if not keys:
        raise NothingLeftError(f"no image is left to evaluate: {next(iter(failures.values()), 'the dataset is empty')}")
    kind = RowStatistics if published is not None and published.by_row else SegmentStatistics
    on_score, n_classes = partial(on_progress, "", "score"), plan.dataset.n_classes
    scores = scored(store, keys, methods, plan.protocols, n_classes, seed, on_score, kind=kind)
    if not scores.scores:
        raise GensegError(next(iter(scores.unmeasured.values())))
    if not np.isfinite(list(scores.ranking.values())).any():
        raise GensegError("no pixel of the ground truth has a class, all are ignored; check the labels")
    if published is None:
        return Evaluation.of(plan.dataset, methods, plan.protocols, scores, settings, store, keys, failures)
    scores.name_after(published.name)
    facts = published.described(plan.dataset, len(plan.keys))
    return Evaluation.of(plan.dataset, methods, [published.name], scores, settings, store, keys, failures, facts)


@dataclass
class MaskMaker:
    """Makes the masks that an evaluation's store lacks, image by image.

    Attributes:
        plan: The evaluation.
        store: The evaluation's masks.
        models: The models.
        on_progress: Progress callback.
        other_store: Masks of another evaluation, which are reused.
    """

    plan: Plan
    store: MaskStore
    models: Models
    on_progress: ProgressCallback
    other_store: MaskStore | None = None

    def run(self) -> dict[str, str]:
        """Make all missing masks.

        Returns:
            The reason of failure of each image that is left out, by its key.
        """
        missing = {key: list(self._missing(key)) for key in self.plan.keys}
        if any(missing.values()):
            self.models.ready()  # here, so that a model that fails is not reported as an image that does
            self.store.begin()
        failures = {}
        for done, (key, methods) in enumerate(missing.items(), start=1):
            end = "kept"
            try:
                if methods:
                    self._make(key, methods)
                    end = "done"
            except Exception as error:  # whatever is wrong with one image, the others are evaluated
                failures[key], end = user_message(error), "failed"
            self.on_progress(key, end, done, len(self.plan.keys))
        return failures

    def _missing(self, key: str) -> Iterator[str]:
        """Yield the methods whose masks of an image are missing; all methods if its ground truth is missing."""
        return (m for m in self.plan.methods if not (self.store.has_truths(key) and self.store.has(m, key)))

    def _make(self, key: str, methods: Sequence[str]) -> None:
        sample = at_resolution(self.plan.dataset[key], self.plan.resolution)
        models, size = self.models, sample.truths[0].shape
        if models.segmenter is not None:
            models.segmenter.progress = partial(self.on_progress, key)
        method_input = MethodInput(sample.image, size, models.recipe, self.plan.seed, models.segmenter, models.reader)
        method_input.with_tree = self.plan.dataset.n_classes is None  # for the Berkeley benchmark's scales
        for method in methods:
            self.store.save(method, key, self._named(method_input, sample, method))
        self.store.save_truths(key, sample.truths)

    def _named(self, method_input: MethodInput, sample: Sample, method: str) -> MethodMasks:
        if self.other_store is not None and self.other_store.has(method, sample.key):
            masks = self.other_store.masks(method, sample.key).masks
        else:
            masks = self._masks(method_input, sample, method)
        named = None
        if self.models.namer is not None:
            named = named_classes(masks.segments, sample.image, self.plan.dataset.classes, self.models.namer)
        return MethodMasks(masks, named)

    def _masks(self, method_input: MethodInput, sample: Sample, method: str) -> Masks:
        masks = method_named(method)(method_input)
        if self.plan.rules is not None and self.plan.rules.merges(self.plan.dataset):
            masks = Masks(merged(masks.segments, sample.truths[0], len(self.plan.dataset.classes)))
        if self.plan.refine is not None:
            masks = refined(masks, sample.image, self.plan.refine)
        if self.plan.min_pixels:
            masks = masks_with(method_input, cleaned(masks.segments, self.plan.min_pixels))
        return masks
