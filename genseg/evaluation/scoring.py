"""Score saved masks under protocols, with one image in memory at a time."""

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
    """Source of masks and ground truth, such as a `genseg.evaluation.mask_store.MaskStore`."""

    def truths(self, key: str) -> Sequence[Labels]:
        """Return an image's ground truth maps [H, W]: classes or annotators' regions, `IGNORE` where not measured."""

    def masks(self, method: str, key: str) -> MethodMasks:
        """Return a method's masks of an image."""


@dataclass
class Scores:
    """Scores of methods under protocols.

    Attributes:
        scores: The score of each method and protocol.
        unmeasured: The reason why a method has no score under a protocol.
        ranking: Each image's mIoU under the first method and protocol, by its key.
        digest: SHA-256 of ground truth and segments, which shows whether two evaluations measured the same.
    """

    scores: dict[Pair, Score] = field(default_factory=dict)
    unmeasured: dict[Pair, str] = field(default_factory=dict)
    ranking: dict[str, float] = field(default_factory=dict)
    digest: Any = field(default_factory=hashlib.sha256)

    def name_after(self, rules: str) -> None:
        """Name the scores after published rules, of which the protocol is a part."""
        self.scores = {(method, rules): score for (method, _), score in self.scores.items()}
        self.unmeasured = {(method, rules): why for (method, _), why in self.unmeasured.items()}
        for score in self.scores.values():
            score.protocol = rules


def scored(
    source: MaskSource,
    keys: Sequence[str],
    methods: Sequence[str],
    protocols: Sequence[str],
    n_classes: int | None,
    seed: int,
    progress: Callable[[int, int], None] = lambda *_: None,
    each: Callable[[str, Pair, Record], None] = lambda *_: None,
    kind: type[SegmentStatistics] = SegmentStatistics,
) -> Scores:
    """Score each method under each protocol.

    Args:
        source: Masks and ground truth.
        keys: Keys of the images, in the order in which they are added up.
        methods: Names of the methods.
        protocols: Names of the protocols.
        n_classes: C; None for annotators' regions.
        seed: Fixes the draws of protocols and bootstrap.
        progress: Progress callback: ``(done, total)`` in images, each counted once per pass.
        each: Called with the metrics of every image: ``(key, (method, protocol), record)``.
        kind: `RowStatistics` to match segments in each row of pixels, for protocols that match in each image.
    """
    rules = {(m, p): protocol_named(p, n_classes, seed) for m in methods for p in protocols}
    result = Scores()
    passes = max(rule.passes for rule in rules.values())
    steps = (1 + passes) * len(keys)
    for number in range(passes):
        learners = {pair: rule for pair, rule in rules.items() if rule.passes > number}
        for done, key in enumerate(keys, start=number * len(keys)):
            truths = [GroundTruth(truth, n_classes) for truth in source.truths(key)]
            for method in dict.fromkeys(method for method, _ in learners):
                _, tables = _statistics(source, key, method, truths, kind)
                for pair, rule in learners.items():
                    if pair[0] == method and pair not in result.unmeasured:
                        _try(result, pair, partial(_learn, rule, tables))
            progress(done, steps)
        for pair, rule in learners.items():
            if pair not in result.unmeasured:
                _try(result, pair, rule.close)
    rules = {pair: rule for pair, rule in rules.items() if pair not in result.unmeasured}
    result.scores = {pair: Score(rule, n_classes, seed) for pair, rule in rules.items()}
    for done, key in enumerate(keys, start=passes * len(keys)):
        truths = [GroundTruth(truth, n_classes) for truth in source.truths(key)]
        _add(result, rules, source, key, truths, each, kind)
        progress(done, steps)
    return result


def _add(
    result: Scores,
    rules: dict[Pair, EvaluationProtocol],
    source: MaskSource,
    key: str,
    truths: list[GroundTruth],
    each: Callable[[str, Pair, Record], None],
    kind: type[SegmentStatistics],
) -> None:
    """Add an image to every score."""
    first = next(iter(rules), None)
    for truth in truths:
        result.digest.update(truth.labels.tobytes())
    for method in dict.fromkeys(method for method, _ in rules):
        statistics, tables = _statistics(source, key, method, truths, kind)
        result.digest.update(statistics.segments.tobytes())
        for pair, rule in rules.items():
            if pair[0] == method:
                record = measured(statistics, [rule.classes(table) for table in tables])
                result.scores[pair].add(key, record)
                each(key, pair, record)
                if pair == first:
                    result.ranking[key] = record.metrics["miou"]


def _statistics(
    source: MaskSource, key: str, method: str, truths: list[GroundTruth], kind: type[SegmentStatistics]
) -> tuple[SegmentStatistics, list[Contingency]]:
    masks, named = source.masks(method, key)
    statistics = kind(masks.segments, truths)
    statistics.tree = masks.tree
    return statistics, statistics.contingencies(masks.embeddings, named)


def _learn(rule: EvaluationProtocol, tables: list[Contingency]) -> None:
    for table in tables:
        rule.fit(table)


def _try(result: Scores, pair: Pair, step: Callable[[], object]) -> None:
    """Run a step; a method without embeddings, or with too few masks, loses the score of this pair only."""
    try:
        step()
    except GensegError as error:
        result.unmeasured[pair] = str(error)


def best_median_worst(ranking: dict[str, float], each: int = 2) -> dict[str, list[str]]:
    """Return the keys of the images with the highest, middle and lowest mIoU, without those that are NaN."""
    order = sorted((key for key in ranking if np.isfinite(ranking[key])), key=lambda key: (-ranking[key], key))
    middle = max(len(order) // 2 - each // 2, 0)
    return {"best": order[:each], "median": order[middle : middle + each], "worst": order[-each:]}
