"""Agreement of segmentations against closed forms and a computation by plain loops."""

import itertools
import math

import numpy as np
import pytest
from oracle_reference import oracle_labels

from genseg.evaluation.agreement import agreement, ari, boundary_f, explains, matched_iou


def stripes(count, size=12):
    """``count`` vertical stripes of equal width, numbered from the left."""
    return np.tile(np.arange(size) * count // size, (size, 1))


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [2, 3, 1, 0], [1, 0, 3, 2]])
def test_the_same_segments_agree_fully_under_any_numbering(numbers):
    found = agreement(stripes(4), np.array(numbers)[stripes(4)])
    assert found["matched"] == found["ari"] == 1
    assert found["equal"] == np.mean(np.array(numbers) == np.arange(4))


def test_a_split_segment_costs_its_smaller_part():
    # halves against quarters: each half is matched to one of its two quarters
    assert agreement(stripes(2), stripes(4))["matched"] == agreement(stripes(4), stripes(2))["matched"] == 0.5


def test_matching_is_one_to_one_over_all_segments_at_once():
    # overlaps [[4, 3], [3, 0]]: the largest first would leave 0 for the other; 3 + 3 is the best sum
    first = np.array([[0] * 4 + [0] * 3 + [1] * 3])
    second = np.array([[0] * 4 + [1] * 3 + [0] * 3])
    assert agreement(first, second)["matched"] == pytest.approx(0.6)


def test_ari_of_crossed_halves_is_chance_level():
    halves = stripes(2, 16)
    assert agreement(halves, halves.T)["matched"] == 0.5
    assert agreement(halves, halves.T)["ari"] == pytest.approx(0, abs=0.01)


def test_moved_pixels_count_one_by_one():
    moved = stripes(3).copy()
    moved[0, :2] = 2
    assert agreement(stripes(3), moved)["matched"] == pytest.approx(1 - 2 / 144)


def test_other_shapes_are_refused():
    with pytest.raises(AssertionError):
        agreement(stripes(2, 12), stripes(2, 10))


# --- matched IoU, boundaries, and what explains what ----------------------------------------------------------------


def test_a_partition_agrees_with_itself_by_every_measure():
    renumbered = np.array([7, 0, 3, 5])[stripes(4)]
    for measure in (ari, matched_iou, boundary_f, explains):
        assert measure(stripes(4), renumbered) == measure(renumbered, stripes(4)) == 1


def test_segments_left_over_count_as_no_overlap():
    # each half has IoU 1/2 with one quarter; two quarters are left over
    assert matched_iou(stripes(2), stripes(4)) == matched_iou(stripes(4), stripes(2)) == (0.5 + 0.5) / 4
    assert matched_iou(np.zeros((4, 4), int), stripes(4, 4)) == 0.25 / 4


def test_fine_segments_explain_coarse_ones_and_not_the_other_way_round():
    assert explains(stripes(4), stripes(2)) == 1
    assert explains(stripes(2), stripes(4)) == 0.5
    assert explains(np.zeros((4, 4), int), stripes(4, 4)) == 0.25


def test_boundaries_agree_within_two_pixels():
    moved = {shift: (np.arange(24) >= 12 + shift).astype(int) * np.ones((24, 1), int) for shift in (0, 2, 3)}
    assert boundary_f(moved[0], moved[2]) == boundary_f(moved[2], moved[0]) == 1
    assert boundary_f(moved[0], moved[3]) == 0
    assert boundary_f(moved[0], np.zeros_like(moved[0])) == 0


def by_loops(first, second):
    """Matched IoU by trying every matching, boundary F and explained share, pixel by pixel."""
    pixels = list(np.ndindex(first.shape))
    sets = [[{p for p in pixels if m[p] == k} for k in np.unique(m)] for m in (first, second)]
    few, many = sorted(sets, key=len)
    iou = max(
        sum(len(a & b) / len(a | b) for a, b in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    ) / len(many)
    right = sum(max(len(a & b) for b in sets[1]) for a in sets[0])

    def edge(m):
        return [(y, x) for y, x in pixels if m[y, x] != m[min(y + 1, len(m) - 1), x] or m[y, x] != m[y, min(x + 1, 8)]]

    edges = edge(first), edge(second)
    near = [np.mean([any(math.dist(p, q) <= 2 for q in b) for p in a]) for a, b in (edges, edges[::-1])]
    return iou, 2 * near[0] * near[1] / sum(near), right / len(pixels)


@pytest.mark.parametrize("seed", range(6))
def test_random_maps_measure_what_plain_loops_find(seed):
    rng = np.random.default_rng(seed)
    first = np.kron(rng.integers(0, 6, (3, 3)), np.ones((3, 3), int))
    second = np.where(rng.random((9, 9)) < 0.1, rng.integers(0, 4, (9, 9)), np.roll(first, 3, 1) // 2 + 1)
    found = matched_iou(first, second), boundary_f(first, second), explains(first, second)
    assert found == pytest.approx(by_loops(first, second))
    assert explains(first, second) == pytest.approx((oracle_labels(first, second) == second).mean())
