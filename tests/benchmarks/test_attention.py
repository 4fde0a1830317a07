"""All ways to attend that are compared give the same."""

import pytest
import torch

import attention


@pytest.mark.parametrize("way", [attention.wide_sdpa, attention.repeated_sdpa])
def test_every_way_gives_the_same(way):
    torch.manual_seed(0)
    query, key, values = torch.randn(4, 30, 8), torch.randn(4, 20, 8), torch.randn(3, 20, 32)
    expected = attention.side_by_side(query, key, values)
    assert expected.shape == (3, 30, 32)
    torch.testing.assert_close(way(query, key, values), expected)
    alone = attention.side_by_side(query, key, values[1:2])
    torch.testing.assert_close(alone[0], expected[1])
