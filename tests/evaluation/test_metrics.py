"""The measures against closed forms and a computation by plain loops."""

import itertools
import math

import numpy as np
import pytest

from genseg.evaluation import metrics
from genseg.evaluation.metrics import IGNORE


def halves(column, size=16):
    """Class 0 left of ``column``, class 1 from it on."""
    return np.tile((np.arange(size) >= column).astype(int), (size, 1))


def quarters(size=16):
    return halves(size // 2, size) + 2 * halves(size // 2, size).T


# --- closed forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [3, 1, 0, 2], [7, 40, 9, 8]])
def test_perfect_segments_score_one_under_any_numbering(numbers):
    truth = quarters()
    scores = metrics.measure_image(np.array(numbers)[truth], [truth], 4).scalars
    assert scores["components"] == 4
    assert all(scores[name] == 1 for name in scores if name != "components")
    regions = metrics.measure_image(np.array(numbers)[truth], [truth, truth + 1], None).scalars
    assert regions["covering"] == regions["miou"] == regions["boundary_f"] == 1


def test_one_segment_takes_the_majority_class():
    truth = halves(4)  # a quarter is class 0
    segments = np.zeros_like(truth)
    assert (metrics.oracle_labels(segments, truth) == 1).all()
    scores = metrics.measure_image(segments, [truth], 2).scalars
    assert scores["accuracy"] == 0.75
    assert scores["miou"] == pytest.approx((0 + 0.75) / 2)
    assert scores["boundary_f"] == scores["boundary_precision"] == scores["boundary_recall"] == 0
    assert metrics.covering(segments, truth) == pytest.approx(0.25 * 0.25 + 0.75 * 0.75)


def test_constant_image_and_constant_truth_agree_on_having_no_boundary():
    nothing = np.zeros((8, 8), dtype=int)
    assert metrics.boundary_scores(nothing, nothing) == (1, 1, 1)
    assert metrics.boundary_scores(halves(4, 8), nothing) == (0, 0, 0)


def test_all_ignored_image_measures_nothing_and_does_not_count_in_the_set():
    truth = np.full((8, 8), IGNORE)
    blank = metrics.measure_image(halves(4, 8), [truth], 2)
    assert all(math.isnan(blank.scalars[k]) for k in ("miou", "accuracy", "boundary_f"))
    assert blank.table.sum() == 0
    good = metrics.measure_image(halves(4, 8), [halves(4, 8)], 2)
    figures = metrics.set_figures([blank, good])
    assert figures["miou"] == figures["accuracy"] == figures["boundary_f"] == 1


def test_ignored_pixels_neither_vote_nor_count_nor_bound():
    truth = halves(8)
    truth[:, 6:11] = IGNORE  # hides the boundary between the classes
    segments = np.zeros_like(truth)
    segments[:, 11:] = 1
    assert (metrics.oracle_labels(segments, truth) == segments).all()
    scores = metrics.measure_image(segments, [truth], 2).scalars
    assert scores["accuracy"] == scores["miou"] == 1
    assert scores["boundary_f"] == 1  # neither map has a boundary between measured pixels
    hidden = np.where(truth == IGNORE, 2, segments)
    assert (metrics.oracle_labels(hidden, truth)[truth == IGNORE] == IGNORE).all()


@pytest.mark.parametrize(("shift", "score"), [(0, 1), (1, 1), (2, 1), (3, 0), (-2, 1), (-3, 0)])
def test_boundary_is_found_within_two_pixels(shift, score):
    assert metrics.boundary_scores(halves(8 + shift), halves(8)) == (score, score, score)


def test_boundary_f_is_the_harmonic_mean():
    extra = halves(8)
    extra[:, 12:] = 2  # one boundary right, one wrong
    precision, recall, f = metrics.boundary_scores(extra, halves(8))
    assert (precision, recall, f) == (0.5, 1, pytest.approx(2 / 3))


def test_set_miou_is_that_of_the_accumulated_confusion_over_classes_that_occur():
    first = metrics.measure_image(np.zeros((4, 4), int), [np.zeros((4, 4), int)], 5)
    second = metrics.measure_image(np.zeros((4, 4), int), [halves(1, 4)], 5)  # all called class 1: 12 of 16 right
    figures = metrics.set_figures([first, second])
    assert figures["miou"] == pytest.approx((16 / 20 + 12 / 16) / 2)  # class 2, 3 and 4 are nowhere
    assert figures["accuracy"] == pytest.approx(28 / 32)


def test_set_figures_of_regions_are_means_over_annotators_then_images():
    one = metrics.measure_image(np.zeros((4, 4), int), [np.zeros((4, 4), int), halves(1, 4)], None)
    assert one.scalars["accuracy"] == pytest.approx((1 + 0.75) / 2)
    two = metrics.measure_image(halves(2, 4), [halves(2, 4)], None)
    assert metrics.set_figures([one, two])["accuracy"] == pytest.approx((0.875 + 1) / 2)


def test_bootstrap_draws_whole_images():
    images = [metrics.measure_image(np.zeros((4, 4), int), [truth], 2) for truth in (halves(4, 4), halves(1, 4))]
    weights = metrics.resamples(2, draws=500)
    assert (weights.sum(axis=1) == 2).all()
    values = metrics.set_figures(images, weights)["accuracy"]
    assert set(np.round(values, 6)) == {0.75, 0.875, 1.0}
    assert metrics.interval(values) == [0.75, 1.0]


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
    scores = metrics.measure_image(segments, [truth], 3).scalars
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
