"""Batches: equal sizes, halved where memory does not suffice, finished ones kept."""

import pytest
import torch

from genseg.batches import Batches, free_memory, is_out_of_memory


class Card:
    """Runs at most ``rows`` rows at once, as a device with little memory does."""

    def __init__(self, rows: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.rows, self.error, self.sizes = rows, error, []

    def __call__(self, part: torch.Tensor) -> torch.Tensor:
        if len(part) > self.rows:
            raise self.error("CUDA out of memory. Tried to allocate")
        self.sizes.append(len(part))
        return part * 2


@pytest.mark.parametrize(("size", "sizes"), [(16, [13, 13, 12, 12]), (50, [50]), (64, [50]), (1, [1] * 50)])
def test_batches_are_as_equal_as_can_be(size, sizes):
    card, rows = Card(64), torch.arange(50)
    assert torch.equal(Batches(size).map(card, rows), 2 * rows)
    assert card.sizes == sizes


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_a_batch_that_does_not_fit_is_halved_and_so_are_those_after_it(error):
    card, rows, batches = Card(7, error), torch.arange(50), Batches(25)
    assert torch.equal(batches.map(card, rows), 2 * rows)
    assert max(card.sizes) <= 7
    assert sum(card.sizes) == 50  # no row twice: finished batches are kept
    card.sizes.clear()
    batches.map(card, rows)
    assert card.sizes[0] > 3  # the size that fits is remembered, and no smaller than need be


def test_a_single_row_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        Batches(4).map(Card(0), torch.arange(4))


def test_other_errors_are_not_swallowed():
    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        Batches(4).map(broken, torch.arange(4))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_free_memory_of_the_cpu_is_what_the_system_has():
    assert 1e6 < free_memory(torch.device("cpu")) < 1e14
