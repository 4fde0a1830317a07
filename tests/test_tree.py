import numpy as np
import pytest

from genseg.segmentation.cues import BINS, contrast_and_colors
from genseg.segmentation.tree import NATURAL_DISTANCE, tree_of

REGIONS = np.array([[0, 0, 1], [2, 3, 3]], dtype=np.int32)
EMBEDDINGS = np.array([[0], [5], [1], [5.1]], dtype=np.float32)
FLAT = np.ones((2, 3), dtype=np.float32)
GRAY = np.zeros((2, 3), dtype=np.int32)


def test_regions_that_touch_are_merged_the_most_alike_first():
    tree = tree_of(REGIONS, EMBEDDINGS, FLAT, GRAY)
    assert tree.n_regions == 4
    assert tree.merges[0].tolist() == [1, 3]
    assert [tree.groups(n).tolist() for n in (4, 3, 2, 1)] == [[0, 1, 2, 3], [0, 1, 2, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    common = 1 / np.sqrt(2 * 3)  # of the sides of pixels where each touches others
    distance = 0.1 / EMBEDDINGS.std() * (1 / 6 * 2 / 6 / (3 / 6)) ** (1 / 3) * np.sqrt(0.1 * (1.1 - common))
    assert tree.heights[0] == pytest.approx(distance / (distance + NATURAL_DISTANCE), rel=1e-4)
    assert [tree.number_at(height) for height in (0, tree.heights[0], 1)] == [4, 3, 1]


def test_regions_stay_apart_along_a_border_of_contrast():
    regions, embeddings = np.array([[0, 0, 1, 1, 2, 2]], dtype=np.int32), np.array([[0], [1], [2.1]], dtype=np.float32)
    flat, edge = np.ones((1, 6), np.float32), np.array([[1, 3, 3, 1, 1, 1]], np.float32)
    gray = np.zeros((1, 6), np.int32)
    assert tree_of(regions, embeddings, flat, gray).groups(2).tolist() == [0, 0, 1]
    assert tree_of(regions, embeddings, edge, gray).groups(2).tolist() == [0, 1, 1]


def test_regions_of_other_colors_stay_apart():
    regions, embeddings = np.array([[0, 0, 1, 1, 2, 2]], dtype=np.int32), np.array([[0], [1], [2.1]], dtype=np.float32)
    colors = np.array([[7, 7, 9, 7, 9, 7]], np.int32)
    assert tree_of(regions, embeddings, np.ones((1, 6), np.float32), colors).groups(2).tolist() == [0, 1, 1]


def test_what_lies_within_another_region_is_merged_early():
    regions = np.zeros((8, 12), dtype=np.int32)
    regions[2:6, 1:5], regions[:, 6:8], regions[:, 8:] = 1, 2, 3  # 1 and 2 have one size, and so do 0 and 3
    embeddings = np.array([[0], [1.1], [5], [6]], dtype=np.float32)
    tree = tree_of(regions, embeddings, np.ones(regions.shape, np.float32), np.zeros_like(regions))
    assert tree.groups(3).tolist() == [0, 0, 1, 2]


def test_equal_regions_that_do_not_touch_stay_apart_until_what_lies_between_joins():
    embeddings = np.array([[0], [9], [0]], dtype=np.float32)
    tree = tree_of(np.array([[0, 1, 2]], dtype=np.int32), embeddings, FLAT[:1], GRAY[:1])
    assert tree.groups(2).tolist() in ([0, 0, 1], [0, 1, 1])
    assert (np.diff(tree.heights) >= 0).all()


def test_one_region_and_regions_that_are_all_alike():
    one = tree_of(np.zeros((2, 3), dtype=np.int32), np.ones((1, 3), dtype=np.float32), FLAT, GRAY)
    assert one.groups(1).tolist() == [0]
    assert one.number_at(0) == 1
    alike = tree_of(REGIONS, np.ones((4, 3), dtype=np.float32), FLAT, GRAY)
    assert alike.heights.tolist() == [0, 0, 0]
    assert alike.number_at(0) == 1


def test_merges_of_many_regions_are_those_of_every_pair_compared():
    """With the distances of all pairs that touch computed anew for each merge."""
    rng = np.random.default_rng(0)
    regions = np.kron(np.arange(24, dtype=np.int32).reshape(4, 6), np.ones((2, 3), np.int32))
    embeddings, contrast = rng.normal(size=(24, 5)).astype(np.float32), rng.random(regions.shape).astype(np.float32)
    colors = rng.integers(0, 5, regions.shape, dtype=np.int32)
    tree = tree_of(regions, embeddings, contrast, colors)
    points = embeddings / np.linalg.norm(embeddings.std(axis=0))
    groups = [{region} for region in range(24)]
    for n in range(24, 1, -1):
        assert {frozenset(np.flatnonzero(tree.groups(n) == g).tolist()) for g in range(n)} == set(
            map(frozenset, groups)
        )
        best = min((distance, a, b) for a in groups for b in groups if id(a) < id(b)
                   and (distance := _distance(a, b, regions, points, contrast, colors)) is not None)  # fmt: skip
        groups = [g for g in groups if g not in best[1:]] + [best[1] | best[2]]


def _distance(a, b, regions, points, contrast, colors):
    in_a, in_b = (np.isin(regions, list(group)) for group in (a, b))
    sides = ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]))
    strengths = [np.maximum(contrast[u], contrast[v])[(in_a[u] & in_b[v]) | (in_b[u] & in_a[v])] for u, v in sides]
    border = np.concatenate(strengths)
    if not len(border):
        return None
    shares = in_a.mean(), in_b.mean()
    means = [points[list(group)].mean(axis=0) for group in (a, b)]
    outlines = [sum(np.count_nonzero(inside[u] != inside[v]) for u, v in sides) for inside in (in_a, in_b)]
    first, second = (np.bincount(colors[inside], minlength=5) / inside.sum() for inside in (in_a, in_b))
    chi_squared = ((first - second) ** 2 / np.maximum(first + second, 1e-9)).sum() / 2
    unlike = np.sqrt((0.1 + chi_squared) * (1.1 - len(border) / np.sqrt(outlines[0] * outlines[1])))
    size = (shares[0] * shares[1] / sum(shares)) ** (1 / 3)
    return size * unlike * np.linalg.norm(means[0] - means[1]) * border.mean()


def test_contrast_is_high_at_edges_and_colors_are_numbers_of_bins():
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    image[:, 20:] = 255
    contrast, colors = contrast_and_colors(image)
    assert contrast.shape == colors.shape == (30, 40)
    assert contrast[:, 19:21].min() > 2 * contrast[:, [0, -1]].max() > 0
    assert len({colors[0, 0], colors[0, -1]}) == len(np.unique(colors[:, [0, -1]])) == 2
    assert 0 <= colors.min() <= colors.max() < BINS**3


def test_contrast_of_one_color_is_the_same_everywhere():
    contrast, colors = contrast_and_colors(np.full((1, 3, 3), 200, dtype=np.uint8))
    assert contrast == pytest.approx(1)
    assert np.ptp(colors) == 0
