"""The schedule of many workers, where the answer is known."""

import numpy as np
import pytest

from scale import makespan


def test_equal_shards_go_round_and_the_last_ones_wait():
    shards = np.full(10, 6.0)
    assert makespan(shards, 1, 2, 0, 0) == 2 + 60
    assert makespan(shards, 5, 2, 0, 0) == 2 + 12
    assert makespan(shards, 4, 2, 0, 0) == 2 + 18, "two are left for a third round"
    assert makespan(shards, 100, 2, 0, 0) == 2 + 6


def test_a_worker_that_dies_does_its_shard_again():
    one = np.array([3600.0])
    assert makespan(one, 1, 10, 1 - 1e-12, 0) > 3600 + 20, "it dies within the hour, starts again and does all of it"
    many = [makespan(one, 1, 0, 0.5, seed) for seed in range(2000)]
    assert np.mean(np.array(many) > 3600) == pytest.approx(0.5, abs=0.04)
