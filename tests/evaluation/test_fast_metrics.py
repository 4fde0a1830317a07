"""Fast computations equal the plain ones."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from skimage.measure import label

from genseg.evaluation import metrics
from genseg.evaluation.metrics import IGNORE
from genseg.parts import components


def blobs(seed, shape=(23, 31), n=6):
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, n, (5, 6)), np.ones((5, 6), int))[: shape[0], : shape[1]]
    return np.where(rng.random(shape) < 0.1, rng.integers(0, n, shape), blocks)


@pytest.mark.parametrize("tolerance", [0, 1, 1.4, 2, 2.5, 5.43, 40])
def test_near_is_within_the_euclidean_distance(tolerance):
    edge = np.random.default_rng(0).random((23, 31)) < 0.01
    assert edge.any()
    assert (metrics.near(edge, tolerance) == (distance_transform_edt(~edge) <= tolerance)).all()


@pytest.mark.parametrize("seed", range(4))
def test_boundary_scores_are_those_of_distances(seed):
    predicted, truth = blobs(seed), blobs(seed + 100)
    truth[3:7] = IGNORE
    measured = truth != IGNORE
    found, true = metrics.boundaries(predicted, measured), metrics.boundaries(truth, measured)
    for tolerance in (1, 2, 5.4):
        precision = (distance_transform_edt(~true)[found] <= tolerance).mean()
        recall = (distance_transform_edt(~found)[true] <= tolerance).mean()
        expected = precision, recall, 2 * precision * recall / (precision + recall)
        assert metrics.boundary_scores(predicted, truth, tolerance=tolerance) == expected


@pytest.mark.parametrize("segments", [blobs(0), blobs(1, n=2), np.zeros((4, 5), int), np.arange(6)[:, None]])
def test_components_are_numbered_as_skimage_numbers_them(segments):
    assert (components(segments) == label(segments, background=-1, connectivity=1) - 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_contingency_lists_the_overlaps(seed):
    first, second = blobs(seed), blobs(seed + 50)
    second[:, 5:9] = IGNORE
    rows, columns, counts = metrics.contingency(first, second)
    table = np.zeros((6, 6), dtype=int)
    table[rows, columns] = counts
    measured = second != IGNORE
    assert (table == metrics.overlaps(first[measured], second[measured], 6, 6)).all()
    assert len(counts) == (table > 0).sum()


def test_covering_leaves_ignored_pixels_out():
    segments, truth = blobs(0), blobs(1)
    truth[:, 5:9] = IGNORE
    kept = np.r_[0:5, 9:31]
    assert metrics.covering(segments, truth) == pytest.approx(metrics.covering(segments[:, kept], truth[:, kept]))
    assert np.isnan(metrics.covering(segments, np.full_like(truth, IGNORE)))
