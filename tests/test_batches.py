"""Batches: equal sizes, halved where memory does not suffice, finished ones kept."""

import pytest
import torch

from genseg.batches import Batches, free_memory
from genseg.errors import is_out_of_memory, user_message


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


def test_a_halved_size_is_remembered_for_what_was_run_and_nothing_else():
    card, rows, halved = Card(7), torch.arange(50), {}
    Batches(25, halved, "small").map(card, rows)
    assert [Batches(size, halved, key).size for size, key in ((25, "small"), (2, "small"), (25, "large"))] == [5, 2, 25]


def test_a_single_row_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        Batches(4).map(Card(0), torch.arange(4))


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_a_card_runs_out_of_memory_in_many_words(message):
    assert is_out_of_memory(RuntimeError(message))


def test_users_see_an_error_of_a_library_that_may_mean_something_else():
    engine = "GET was unable to find an engine to execute this computation"
    assert f"out of memory ({engine}), although" in user_message(RuntimeError(engine))


def test_other_errors_are_not_swallowed():
    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        Batches(4).map(broken, torch.arange(4))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_free_memory_of_the_cpu_is_what_the_system_has():
    assert 1e6 < free_memory(torch.device("cpu")) < 1e14
