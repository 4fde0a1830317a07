import sys

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, kmeans_plusplus

from genseg.cluster.kmeans import _lloyd, kmeans


def features(side: int, channels: int, seed: int = 0) -> torch.Tensor:
    """Points of a smooth feature map with noise, of no distinct groups, [side², channels]."""
    draws = np.random.default_rng(seed)
    coarse = torch.from_numpy(draws.normal(size=(1, 30, side // 2, side // 2))).float()
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")[0].flatten(1).T.numpy()
    points = smooth @ draws.normal(size=(30, channels)) + draws.normal(size=(side * side, channels)) / 2
    return torch.from_numpy((points + draws.normal(size=channels)).astype(np.float32))


@pytest.mark.parametrize(("side", "channels"), [(16, 1280), (16, 64)])  # more channels than points, and fewer
@pytest.mark.parametrize("n_init", [1, 20])
def test_labels_and_centers_are_those_of_scikit_learn(side: int, channels: int, n_init: int):
    points = features(side, channels)
    expected = KMeans(15, n_init=n_init, random_state=7).fit(points.numpy())
    result = kmeans(points, 15, n_init, seed=7)
    assert np.array_equal(result.labels, expected.labels_)
    assert result.centers.numpy() == pytest.approx(expected.cluster_centers_, abs=1e-4)
    assert float(result.inertia) == pytest.approx(expected.inertia_, rel=1e-5)


def test_each_start_ends_where_scikit_learn_ends_from_the_same_centers():
    points = features(16, 64)
    starts = np.stack([kmeans_plusplus(points.numpy(), 15, random_state=seed)[0] for seed in range(30)])
    labels, inertias = _lloyd(points, torch.from_numpy(starts), torch.tensor(1e-4))
    for start, own, inertia in zip(starts, labels, inertias, strict=True):
        expected = KMeans(15, init=start, n_init=1).fit(points.numpy())
        assert np.array_equal(own, expected.labels_)
        assert float(inertia) == pytest.approx(expected.inertia_, rel=1e-5)


def test_batches_of_starts_do_not_matter(monkeypatch):
    points = features(8, 16)
    whole = kmeans(points, 5, 10, seed=0)
    assert not torch.equal(kmeans(points, 5, 3, seed=0).labels, whole.labels)  # a later start is the best
    monkeypatch.setattr(sys.modules["genseg.cluster.kmeans"], "MAX_DISTANCES", 3 * 5 * 64)  # three starts at once
    assert torch.equal(kmeans(points, 5, 10, seed=0).labels, whole.labels)


def test_clusters_of_equal_points_that_are_left_empty_have_finite_centers():
    points = torch.tensor([[0.0, 1.0], [4.0, 1.0]]).repeat(6, 1)
    result = kmeans(points, 5, 3, seed=0)
    assert len(result.labels.unique()) == 2
    assert result.centers.isfinite().all()
    assert float(result.inertia) == pytest.approx(0, abs=1e-4)


def test_one_cluster_of_one_point():
    assert kmeans(torch.ones(1, 3), 1, 2, seed=0).labels.tolist() == [0]


def test_rounding_does_not_hide_the_best_start():
    """Distances within groups that are small and far apart are lost in those between them."""
    draws = np.random.default_rng(0)
    groups = [center + draws.normal(size=(12, 3)) * 1e-3 for center in (0, 50, 100)]
    points = torch.from_numpy(np.concatenate(groups).astype(np.float32))
    for seed in range(20):
        labels = kmeans(points, 4, 4, seed).labels.view(3, 12)
        assert not set(labels[0].tolist()) & set(labels[1].tolist())
        assert float(kmeans(points, 36, 4, seed).inertia) >= 0
