"""Specks go to the neighbor that they touch most, and nothing else changes."""

import numpy as np
import pytest

from genseg.parts import cleaned, components


def noisy(seed, shape=(40, 50)):
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 5, (4, 5)), np.ones((10, 10), int))
    return np.where(rng.random(shape) < 0.15, rng.integers(0, 5, shape), blocks).astype(np.int32)


def plainly(segments, min_pixels):
    """The same by looking at the whole map again after each merger; only where no two are equally small or long."""
    segments = segments.copy()
    while True:
        parts = components(segments)
        sizes = np.bincount(parts.ravel())
        first = int(sizes.argmin())
        if len(sizes) == 1 or sizes[first] >= min_pixels:
            return segments
        borders = np.zeros(len(sizes))
        for before, after in ((parts[:, :-1], parts[:, 1:]), (parts[:-1], parts[1:])):
            for a, b in ((before, after), (after, before)):
                np.add.at(borders, b[(a == first) & (b != first)], 1)
        segments[parts == first] = segments[parts == borders.argmax()][0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_pixels", [2, 5, 60])
def test_no_component_is_smaller_afterwards_and_doing_it_again_changes_nothing(seed, min_pixels):
    segments = noisy(seed)
    assert np.bincount(components(segments).ravel()).min() < min_pixels
    result = cleaned(segments, min_pixels)
    assert np.bincount(components(result).ravel()).min() >= min_pixels
    assert result.dtype == segments.dtype
    assert (cleaned(result, min_pixels) == result).all()


def test_components_that_are_large_enough_stay():
    segments = noisy(0)
    parts = components(segments)
    large = np.bincount(parts.ravel())[parts] >= 6
    assert (cleaned(segments, 6)[large] == segments[large]).all()


@pytest.mark.parametrize("seed", range(6))
def test_mergers_are_those_of_looking_at_the_map_again_after_each(seed):
    rng = np.random.default_rng(seed)
    widths, heights = rng.permutation(np.arange(1, 9)), rng.permutation(np.arange(1, 9))
    segments = np.repeat(np.repeat(rng.integers(0, 3, (8, 8)), heights, axis=0), widths, axis=1)
    assert (cleaned(segments, 8) != segments).any()
    assert (cleaned(segments, 8) == plainly(segments, 8)).all()


def test_a_speck_takes_the_longest_border():
    segments = np.zeros((6, 6), int)
    segments[:, 3:] = 1
    segments[2, 3] = 2  # three sides to segment 1, one to segment 0
    assert (cleaned(segments, 2) == np.where(segments == 2, 1, segments)).all()


def test_parts_that_a_speck_kept_apart_are_one_afterwards():
    segments = np.array([[0, 0, 1, 0, 0, 2, 2, 2, 2, 2, 2]] * 2)  # 0 and 0 have four pixels each, together ten with 1
    assert (cleaned(segments, 5) == np.where(segments == 1, 0, segments)).all()


def test_an_image_that_is_too_small_is_one_component():
    assert len(np.unique(cleaned(np.arange(12).reshape(3, 4), 100))) == 1


def test_nothing_to_do():
    segments = np.repeat([4, 9], 8).reshape(2, 8)
    assert (cleaned(segments, 8) == segments).all()


def test_what_has_grown_and_is_still_small_is_merged_in_its_turn():
    assert (cleaned(np.array([[0, 1, 1, 2, 2, 2, 2, 2]]), 5) == 2).all()
