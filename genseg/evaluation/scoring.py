"""Kept masks through protocols and measures, one image in memory at a time."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from genseg.errors import GensegError
from genseg.evaluation.mask_store import MethodMasks
from genseg.evaluation.metrics import Labels
from genseg.evaluation.protocols import (
    Contingency,
    EvaluationProtocol,
    GroundTruth,
    Record,
    Score,
    SegmentStatistics,
    measured,
    protocol_named,
)

Pair = tuple[str, str]  # a method and a protocol


class MaskSource(typing.Protocol):
    """Where masks and truths are: a `genseg.evaluation.mask_store.MaskStore`, or what reads or holds others."""

    def truth(self, key: str) -> Sequence[Labels]:
        """An image's truths, [H, W] each: classes or annotators' regions; `IGNORE` where nothing is measured."""

    def row(self, method: str, key: str) -> MethodMasks:
        """A method's masks of an image."""


@dataclass
class Scores:
    """What was measured.

    Attributes:
        scores: By method and protocol.
        unmeasured: Why a method has no figures under a protocol.
        ranking: Each image's mIoU under the first pair, by its key.
        digest: SHA-256 of the truths and segments, to tell whether two evaluations measured the same.
    """

    scores: dict[Pair, Score] = field(default_factory=dict)
    unmeasured: dict[Pair, str] = field(default_factory=dict)
    ranking: dict[str, float] = field(default_factory=dict)
    digest: Any = field(default_factory=hashlib.sha256)


def scored(
    source: MaskSource,
    keys: Sequence[str],
    methods: Sequence[str],
    protocols: Sequence[str],
    n_classes: int | None,
    seed: int,
    progress: Callable[[int, int], None] = lambda *_: None,
    each: Callable[[str, Pair, Record], None] = lambda *_: None,
) -> Scores:
    """Measure each method under each protocol.

    Args:
        source: The masks and truths.
        keys: The images, in the order in which they count.
        methods: The methods' names.
        protocols: The protocols' names.
        n_classes: C; None for a set of annotators' regions.
        seed: Fixes protocols' draws and the bootstrap's.
        progress: Told the images that are done and all there are, passes counted.
        each: Told what every image measures.
    """
    rules = {(m, p): protocol_named(p, n_classes, seed) for m in methods for p in protocols}
    found = Scores()
    passes = max(rule.passes for rule in rules.values())
    steps = (1 + passes) * len(keys)
    for number in range(passes):
        learners = {pair: rule for pair, rule in rules.items() if rule.passes > number}
        for done, key in enumerate(keys, start=number * len(keys)):
            truths = [GroundTruth(truth, n_classes) for truth in source.truth(key)]
            for method in dict.fromkeys(method for method, _ in learners):
                _, views = _seen(source, key, method, truths)
                for pair, rule in learners.items():
                    if pair[0] == method and pair not in found.unmeasured:
                        _try(found, pair, partial(_learn, rule, views))
            progress(done, steps)
        for pair, rule in learners.items():
            if pair not in found.unmeasured:
                _try(found, pair, rule.close)
    rules = {pair: rule for pair, rule in rules.items() if pair not in found.unmeasured}
    found.scores = {pair: Score(rule, n_classes, seed) for pair, rule in rules.items()}
    for done, key in enumerate(keys, start=passes * len(keys)):
        _add(found, rules, source, key, [GroundTruth(truth, n_classes) for truth in source.truth(key)], each)
        progress(done, steps)
    return found


def _add(
    found: Scores,
    rules: dict[Pair, EvaluationProtocol],
    source: MaskSource,
    key: str,
    truths: list[GroundTruth],
    each: Callable[[str, Pair, Record], None],
) -> None:
    """Add an image to every score."""
    first = next(iter(rules), None)
    for truth in truths:
        found.digest.update(truth.labels.tobytes())
    for method in dict.fromkeys(method for method, _ in rules):
        seen, views = _seen(source, key, method, truths)
        found.digest.update(seen.segments.tobytes())
        for pair, rule in rules.items():
            if pair[0] == method:
                record = measured(seen, [rule.classes(view) for view in views])
                found.scores[pair].add(key, record)
                each(key, pair, record)
                if pair == first:
                    found.ranking[key] = record.figures["miou"]


def _seen(
    source: MaskSource, key: str, method: str, truths: list[GroundTruth]
) -> tuple[SegmentStatistics, list[Contingency]]:
    row = source.row(method, key)
    seen = SegmentStatistics(row.masks.segments, truths)
    return seen, seen.views(row.masks.embeddings, row.named)


def _learn(rule: EvaluationProtocol, views: list[Contingency]) -> None:
    for view in views:
        rule.fit(view)


def _try(found: Scores, pair: Pair, step: Callable[[], object]) -> None:
    """A method without embeddings, or too few masks, costs the pair its figures and no other."""
    try:
        step()
    except GensegError as error:
        found.unmeasured[pair] = str(error)


def best_median_worst(ranking: dict[str, float], each: int = 2) -> dict[str, list[str]]:
    """Keys of the images with the highest, middle and lowest figures; those that are not a number are left out."""
    order = sorted((key for key in ranking if np.isfinite(ranking[key])), key=lambda key: (-ranking[key], key))
    middle = max(len(order) // 2 - each // 2, 0)
    return {"best": order[:each], "median": order[middle : middle + each], "worst": order[-each:]}
