"""Agreement of segmentations against closed forms."""

import numpy as np
import pytest

from agreement import agreement


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
