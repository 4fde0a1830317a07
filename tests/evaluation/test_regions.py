"""Region measures against other libraries, counting all pairs of pixels, and closed forms."""

import itertools
import math

import numpy as np
import pytest
from skimage.metrics import variation_of_information as vi_of_skimage
from sklearn.metrics import adjusted_rand_score, rand_score

from genseg.evaluation.metrics import adjusted_rand_index, overlaps, rand_index, variation_of_information


def partitions(seed, shape=(9, 11)):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 5, shape)
    second = np.where(rng.random(shape) < 0.6, first, rng.integers(0, 4, shape))
    return first, second


def table_of(first, second):
    return overlaps(first, second, int(first.max()) + 1, int(second.max()) + 1)


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_those_of_other_libraries(seed):
    first, second = partitions(seed)
    table = table_of(first, second)
    assert rand_index(table) == pytest.approx(rand_score(first.ravel(), second.ravel()))
    assert adjusted_rand_index(table) == pytest.approx(adjusted_rand_score(first.ravel(), second.ravel()))
    assert variation_of_information(table) == pytest.approx(vi_of_skimage(first, second).sum())


@pytest.mark.parametrize("seed", range(3))
def test_pri_is_what_unnikrishnan_counts_over_pairs_of_pixels(seed):
    segments, first = partitions(seed, (4, 5))
    second = partitions(seed + 10, (4, 5))[1]
    total, pairs = 0.0, list(itertools.combinations(range(segments.size), 2))
    for i, j in pairs:
        p = np.mean([t.ravel()[i] == t.ravel()[j] for t in (first, second)])  # the share of annotators that join them
        total += p if segments.ravel()[i] == segments.ravel()[j] else 1 - p
    mean = np.mean([rand_index(table_of(segments, truth)) for truth in (first, second)])
    assert mean == pytest.approx(total / len(pairs))


def test_the_same_partition_under_other_numbers_is_perfect():
    first, _ = partitions(0)
    table = table_of(first, np.array([3, 0, 4, 1, 2])[first])
    assert rand_index(table) == adjusted_rand_index(table) == 1
    assert variation_of_information(table) == pytest.approx(0, abs=1e-12)


def test_one_segment_beside_quarters():
    table = np.full((1, 4), 4)  # 16 pixels
    assert rand_index(table) == pytest.approx(4 * 6 / 120)  # pairs inside a quarter, of all
    assert adjusted_rand_index(table) == 0
    assert variation_of_information(table) == 2  # bits


def test_one_region_in_both_is_the_same_partition():
    table = np.array([[9]])
    assert rand_index(table) == adjusted_rand_index(table) == 1
    assert variation_of_information(table) == 0


def test_nothing_measured_is_nan():
    table = np.zeros((3, 2), dtype=np.int64)
    assert all(math.isnan(f(table)) for f in (rand_index, adjusted_rand_index, variation_of_information))


def test_no_overflow_at_full_size():
    table = np.full((2, 2), 10_000_000)
    assert rand_index(table) == pytest.approx(0.5, abs=1e-6)
    assert variation_of_information(table) == pytest.approx(2)
