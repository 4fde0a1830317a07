"""The measures against closed forms and a computation by plain loops."""

import itertools
import math

import numpy as np
import pytest

from genseg.evaluation import metrics
from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.protocols import GroundTruth, SegmentStatistics, measured, protocol_named


def halves(column, size=16):
    """Class 0 left of ``column``, class 1 from it on."""
    return np.tile((np.arange(size) >= column).astype(int), (size, 1))


# --- closed forms ---------------------------------------------------------------------------------------------------


def test_constant_image_and_constant_truth_agree_on_having_no_boundary():
    nothing = np.zeros((8, 8), dtype=int)
    assert metrics.boundary_scores(nothing, nothing) == (1, 1, 1)
    assert metrics.boundary_scores(halves(4, 8), nothing) == (0, 0, 0)


@pytest.mark.parametrize(("shift", "score"), [(0, 1), (1, 1), (2, 1), (3, 0), (-2, 1), (-3, 0)])
def test_boundary_is_found_within_two_pixels(shift, score):
    assert metrics.boundary_scores(halves(8 + shift), halves(8)) == (score, score, score)


def test_boundary_f_is_the_harmonic_mean():
    extra = halves(8)
    extra[:, 12:] = 2  # one boundary right, one wrong
    precision, recall, f = metrics.boundary_scores(extra, halves(8))
    assert (precision, recall, f) == (0.5, 1, pytest.approx(2 / 3))


# --- an independent computation -------------------------------------------------------------------------------------


def by_loops(segments, truth):
    """mIoU, accuracy, boundary precision, recall, F and components, pixel by pixel."""
    height, width = truth.shape
    pixels = list(itertools.product(range(height), range(width)))
    named = {}
    for s in set(segments.ravel().tolist()):
        votes = [truth[p] for p in pixels if segments[p] == s and truth[p] != IGNORE]
        named[s] = min(votes, key=lambda c, votes=votes: (-votes.count(c), c)) if votes else None
    known = [p for p in pixels if truth[p] != IGNORE]
    ious = []
    for c in sorted({truth[p] for p in known}):
        called, true = {p for p in known if named[segments[p]] == c}, {p for p in known if truth[p] == c}
        ious.append(len(called & true) / len(called | true))
    accuracy = np.mean([named[segments[p]] == truth[p] for p in known])

    def edge(label):
        after = {p: [q for q in ((p[0], p[1] + 1), (p[0] + 1, p[1])) if q in known] for p in known}
        return [p for p in known if any(label(p) != label(q) for q in after[p])]

    def share(these, those):
        return np.mean([any(math.dist(p, q) <= 2 for q in those) for p in these]) if these else 0.0

    found, real = edge(lambda p: named[segments[p]]), edge(lambda p: truth[p])
    precision, recall = share(found, real), share(real, found)
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    seen, parts = set(), 0
    for start in pixels:
        parts += start not in seen
        stack = [start] if start not in seen else []
        while stack:
            p = stack.pop()
            if p not in seen:
                seen.add(p)
                around = [(p[0] + a, p[1] + b) for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))]
                stack += [q for q in around if q in set(pixels) and segments[q] == segments[p]]
    return np.mean(ious), accuracy, precision, recall, f, parts


@pytest.mark.parametrize("seed", range(8))
def test_measures_agree_with_plain_loops(seed):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 3, (3, 3)), np.ones((4, 4), int))  # blocks, so that some boundaries are far
    truth[rng.random(truth.shape) < 0.1] = IGNORE
    segments = np.roll(np.kron(rng.integers(0, 5, (3, 3)), np.ones((4, 4), int)), rng.integers(0, 4, 2), (0, 1))
    seen, oracle = SegmentStatistics(segments, [GroundTruth(truth, 3)]), protocol_named("oracle", 3)
    scores = measured(seen, [oracle.classes(view) for view in seen.contingencies()]).metrics
    names = ("miou", "accuracy", "boundary_precision", "boundary_recall", "boundary_f", "components")
    assert [scores[name] for name in names] == pytest.approx(by_loops(segments, truth))


@pytest.mark.parametrize("seed", range(4))
def test_covering_agrees_with_plain_loops(seed):
    rng = np.random.default_rng(seed)
    segments, truth = rng.integers(0, 4, (2, 9, 7))
    total = 0.0
    for region in (truth == r for r in range(4)):
        total += region.sum() * max(
            (region & (segments == s)).sum() / (region | (segments == s)).sum() for s in range(4)
        )
    assert metrics.covering(segments, truth) == pytest.approx(total / truth.size)
