"""Resamples: fixed by an image's key, the same in any order, and of the distribution they should have."""

import numpy as np
import pytest

from genseg.evaluation.bootstrap import Means, Totals, weights


def test_weights_depend_on_key_and_seed_alone():
    assert (weights("a", 3, 50) == weights("a", 3, 50)).all()
    assert (weights("a", 3, 50) != weights("b", 3, 50)).any()
    assert (weights("a", 3, 50) != weights("a", 4, 50)).any()
    assert weights("a")[0] == 1


def test_weights_are_poisson_of_one():
    drawn = np.concatenate([weights(str(i), draws=1000)[1:] for i in range(40)])
    shares = np.bincount(drawn, minlength=4)[:4] / drawn.size
    assert shares == pytest.approx(np.exp(-1) / np.array([1, 1, 2, 6]), abs=0.01)


def test_the_spread_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(400)
    means = Means(["x"])
    for i, value in enumerate(values):
        means.add({"x": value}, weights(str(i)))
    result = means.values("x")
    assert result[0] == pytest.approx(values.mean())
    assert result[1:].std() == pytest.approx(values.std() / 20, rel=0.1)


def test_images_without_a_figure_do_not_count():
    means = Means(["x", "y"], draws=20)
    means.add({"x": 3.0, "y": np.nan}, np.full(21, 2))
    means.add({"x": 5.0, "y": np.nan}, np.full(21, 1))
    assert means.values("x") == pytest.approx(np.full(21, 11 / 3))
    assert np.isnan(means.values("y")).all()


def test_totals_are_whole_numbers_in_any_order():
    rng = np.random.default_rng(0)
    images = [(str(i), rng.integers(0, 3, 7) * 10**9) for i in range(12)]
    results = []
    for order in (images, images[::-1]):
        totals = Totals(7, draws=30)
        for key, pixels in order:
            totals.add(pixels, weights(key, draws=30))
        results.append(totals.values())
    assert results[0].dtype == np.int64
    assert (results[0] == results[1]).all()
    assert (results[0][0] == sum(pixels for _, pixels in images)).all()
    assert (results[0][5] == sum(pixels * weights(key, draws=30)[5] for key, pixels in images)).all()
