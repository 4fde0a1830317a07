import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.feature_extraction.image import grid_to_graph

from genseg.tree import tree_of

REGIONS = np.array([[0, 0, 1], [2, 3, 3]], dtype=np.int32)
EMBEDDINGS = np.array([[0], [5], [1], [5.1]], dtype=np.float32)


def test_regions_that_touch_are_merged_the_most_alike_first():
    tree = tree_of(REGIONS, EMBEDDINGS)
    assert tree.n_regions == 4
    assert tree.merges[0].tolist() == [1, 3]
    assert tree.heights[[0, -1]] == pytest.approx([0.1 / (5.05 - 0.5) / 2**0.5, 1], rel=0.01)
    assert [tree.groups(n).tolist() for n in (4, 3, 2, 1)] == [[0, 1, 2, 3], [0, 1, 2, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert [tree.number_at(height) for height in (0, 0.1, 0.5, 1)] == [4, 3, 2, 1]


def test_equal_regions_that_do_not_touch_stay_apart_until_what_lies_between_joins():
    tree = tree_of(np.array([[0, 1, 2]], dtype=np.int32), np.array([[0], [9], [0]], dtype=np.float32))
    assert tree.groups(2).tolist() in ([0, 0, 1], [0, 1, 1])
    assert (np.diff(tree.heights) >= 0).all()


def test_one_region_and_regions_that_are_all_alike():
    assert tree_of(np.zeros((2, 2), dtype=np.int32), np.ones((1, 3), dtype=np.float32)).groups(1).tolist() == [0]
    alike = tree_of(REGIONS, np.ones((4, 3), dtype=np.float32))
    assert alike.heights.tolist() == [0, 0, 0]
    assert alike.number_at(0) == 1


def test_merges_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    regions = np.arange(48, dtype=np.int32).reshape(6, 8)
    embeddings = rng.normal(size=(48, 5)).astype(np.float32)
    tree = tree_of(regions, embeddings)
    ward = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0, linkage="ward", connectivity=grid_to_graph(6, 8)
    ).fit(embeddings)
    assert np.array_equal(np.sort(tree.merges), np.sort(ward.children_))
    heights = np.maximum.accumulate(ward.distances_)
    assert tree.heights == pytest.approx(heights / heights[-1])
