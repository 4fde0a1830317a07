"""The Berkeley benchmark's boundaries, matching, covering and scales, and DAVIS' F of a mask."""

import layouts
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from genseg import Segmenter
from genseg.evaluation.berkeley import (
    HEIGHTS,
    BerkeleyTotals,
    best_scale,
    boundary_counts,
    boundary_map,
    boundary_scores,
    counts_at_scales,
    davis_f,
    match_pixels,
    thinned,
)
from genseg.evaluation.datasets import load_dataset
from genseg.evaluation.evaluate import evaluate
from genseg.segmentation.tree import Tree


def lines(*columns: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    edge = np.zeros(size, dtype=bool)
    edge[:, columns] = True
    return edge


def test_a_pixel_is_on_the_boundary_if_a_pixel_right_or_below_or_both_differs():
    labels = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1]])
    marked = np.array([[0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=bool)
    assert np.array_equal(boundary_map(labels), marked)
    assert thinned(boundary_map(labels)).sum() < marked.sum()


@pytest.mark.parametrize("seed", range(5))
def test_as_many_pixels_as_possible_are_matched_one_to_one_and_the_nearest_ones(seed):
    random = np.random.default_rng(seed)
    predicted, true = random.random((2, 20, 25)) < 0.15
    hits, true_hits = match_pixels(predicted, true, 2.5)
    distances = cdist(np.argwhere(predicted), np.argwhere(true))
    rows, columns = linear_sum_assignment((distances <= 2.5).astype(float), maximize=True)
    most = int((distances[rows, columns] <= 2.5).sum())
    assert hits.sum() == true_hits.sum() == most > 10
    assert not (hits & ~predicted).any()
    assert not (true_hits & ~true).any()
    among = cdist(np.argwhere(hits), np.argwhere(true_hits))
    rows, columns = linear_sum_assignment(np.where(among <= 2.5, among, 1000))
    costs = np.where(distances <= 2.5, distances, 1000)
    best = linear_sum_assignment(costs)
    total, bound = among[rows, columns].sum(), np.sort(costs[best])[:most].sum()
    assert total < bound + 0.01 * most  # distances are rounded to hundredths


def test_a_second_line_beside_a_true_one_is_not_matched():
    counts = boundary_counts(lines(20, 21), [lines(20)])  # either is within the tolerance, of 0.54 pixels and more
    assert counts.tolist() == [40, 40, 40, 80]
    precision, recall, f = boundary_scores(counts)
    assert (precision, recall) == (0.5, 1)
    assert f == pytest.approx(2 / 3)


def test_a_boundary_farther_than_the_tolerance_is_not_matched():
    size = (400, 600)  # a tolerance of 5.4 pixels
    assert boundary_counts(lines(20, size=size), [lines(25, size=size)]).tolist() == [400, 400, 400, 400]
    assert boundary_counts(lines(20, size=size), [lines(26, size=size)]).tolist() == [0, 400, 0, 400]
    assert boundary_counts(lines(size=size), [lines(26, size=size)]).tolist() == [0, 400, 0, 0]


def test_precision_counts_pixels_that_any_annotator_drew_and_recall_those_of_all():
    counts = boundary_counts(lines(10, 30, 50), [lines(10), lines(30), lines(31)])
    assert counts.tolist() == [80, 120, 80, 120]


def test_f_without_boundaries_is_0_as_in_the_benchmark():
    assert boundary_scores(np.zeros(4))[2] == 0


def test_scales_are_the_cuts_of_the_tree_and_covering_is_that_of_label_maps():
    segments = np.repeat(np.repeat([[0, 1, 2]], 20, axis=1), 30, axis=0)
    tree = Tree(np.array([[1, 2], [0, 3]]), np.array([0.32, 0.6]))
    truth = np.minimum(segments, 1)
    counts = counts_at_scales(segments, tree, [truth], [thinned(boundary_map(truth))])
    assert counts.shape == (1 + len(HEIGHTS), 6)
    by_height = dict(zip(HEIGHTS, counts[1:].tolist(), strict=True))
    assert by_height[0.05] == counts[0].tolist() == [30, 30, 30, 60, 600 + 1200 / 2, 1800]
    assert by_height[0.35] == by_height[0.55] == [30, 30, 30, 30, 1800, 1800]
    assert by_height[0.6] == [0, 30, 0, 0, 1800 * 1200 / 1800 * 2 / 3 + 600 / 3, 1800]
    both_ends = segments.copy()
    both_ends[segments == 2] = 0  # one label, two connected parts
    assert counts_at_scales(both_ends, None, [segments], [boundary_map(segments)])[0, 4] == 600 * (0.5 + 1 + 0.5)


def test_ods_is_one_height_for_all_images_and_ois_one_for_each():
    totals = BerkeleyTotals(draws=1)
    good, bad = [90.0, 100, 90, 100, 80, 100], [10.0, 100, 10, 100, 20, 100]
    for key, best in enumerate((3, 7)):
        counts = np.full((1 + len(HEIGHTS), 6), bad)
        counts[best] = good
        totals.add(counts, np.array([1, key]))
    assert totals.values("berkeley_f").tolist() == pytest.approx([0.1, 0.1])
    assert totals.values("berkeley_ods").tolist() == pytest.approx([0.5, 0.9])
    assert totals.values("berkeley_ois").tolist() == pytest.approx([0.9, 0.9])
    assert totals.values("berkeley_covering_ods").tolist() == pytest.approx([0.5, 0.8])
    assert totals.values("berkeley_covering_ois").tolist() == pytest.approx([0.8, 0.8])
    totals.add(np.full((1 + len(HEIGHTS), 6), np.nan), np.array([1, 1]))
    assert np.isnan(totals.values("berkeley_ods")).all()


def test_between_two_scales_precision_and_recall_are_interpolated():
    counts = np.array([[10.0, 100, 100, 100], [100.0, 100, 10, 100]])  # F is 0.18 at both, and 0.55 halfway
    assert best_scale(counts) == pytest.approx(0.55, abs=1e-4)


def test_davis_f_is_of_pixels_near_the_other_boundary():
    mask = np.zeros((100, 150), dtype=bool)  # within 2 pixels, the diagonal's 0.8 % rounded up
    mask[20:60, 30:80] = True
    assert davis_f(mask, mask) == davis_f(~mask, mask) == davis_f(mask & False, mask & False) == 1
    assert davis_f(mask, mask & False) == 0
    assert davis_f(np.roll(mask, 2, axis=1), mask) == 1
    assert 0.4 < davis_f(np.roll(mask, 3, axis=1), mask) < 0.8  # the sides that lie across are too far


def test_an_evaluation_of_regions_has_scales_where_there_is_a_tree(tiny, tmp_path):
    layouts.folder_of_regions(tmp_path / "data")
    dataset = load_dataset("folder", tmp_path / "data")
    quick = {"size": 32, "margin": 0, "n_clusters": 4, "draws": 1, "n_init": 1, "replay_steps": 1}
    methods = ("modulation", "slic")
    evaluation = evaluate(dataset, tmp_path / "out", backend=tiny, methods=methods, resolution="full", **quick)
    metrics = {method: by["oracle"] for method, by in evaluation.results["figures"].items()}
    assert 0 < metrics["modulation"]["berkeley_f"]["value"] <= metrics["modulation"]["berkeley_ods"]["value"] + 1e-9
    assert metrics["modulation"]["berkeley_ods"]["value"] <= metrics["modulation"]["berkeley_ois"]["value"] + 1e-9
    assert metrics["slic"]["berkeley_f"]["value"] > 0
    assert metrics["slic"]["berkeley_ods"]["value"] is None
    low, high = evaluation.results["gains"]["slic"]["oracle"]["berkeley_f"]
    assert low <= high
    assert evaluation.results["settings"]["recipe"]["modulate"]  # which the default of tiny does not
    tree = Segmenter(tiny, **quick, modulate=True)(dataset["101085"].image).tree
    saved = evaluation.store.masks("modulation", "101085").masks.tree
    assert np.array_equal(saved.merges, tree.merges)
    assert np.array_equal(saved.heights, tree.heights)
