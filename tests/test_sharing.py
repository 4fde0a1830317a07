"""Masks that share a branch."""

import torch
import torch.nn.functional as F

from genseg.modulate import pack_masks


def columns(*positions: int, width: int = 12) -> torch.Tensor:
    """Masks of one column each on a grid of 3 rows."""
    return F.one_hot(torch.tensor(positions), width)[:, None].expand(-1, 3, -1).float()


def test_without_reach_every_mask_has_its_own_branch():
    masks = columns(0, 5, 10)
    branches, attribute = pack_masks(masks, None)
    assert torch.equal(branches, masks)
    maps = torch.rand(3, 6, 24)
    assert torch.equal(attribute(maps), maps)


def test_masks_share_a_branch_only_where_their_surroundings_are_apart():
    masks = columns(0, 2, 5, 11)  # at reach 1 the first two overlap in column 1; all others are apart
    branches, _ = pack_masks(masks, 1)
    assert len(branches) == 2
    assert torch.equal(branches.sum(dim=0), masks.sum(dim=0))  # every mask is in one branch
    assert (
        not (branches * masks[0]).sum(dim=(1, 2)).bool().logical_and((branches * masks[1]).sum(dim=(1, 2)).bool()).any()
    )
    assert len(pack_masks(masks, 0)[0]) == 1
    assert len(pack_masks(masks, 6)[0]) == 4


def test_a_mask_is_given_its_branchs_changes_within_its_surroundings_alone():
    masks = columns(0, 5, 11)
    branches, attribute = pack_masks(masks, 1)
    assert len(branches) == 1
    maps = attribute(torch.ones(1, 6, 24))  # two pixels a cell
    expected = [range(4), range(8, 14), range(20, 24)]
    for found, pixels in zip(maps, expected, strict=True):
        assert found[0].nonzero().flatten().tolist() == list(pixels)
        assert torch.equal(found, found[:1].expand(6, -1))


def test_a_reach_beyond_the_grid_is_that_of_the_grid():
    masks = columns(0, 5, 11)
    branches, attribute = pack_masks(masks, 999_999_999)
    assert torch.equal(branches, masks)
    assert torch.equal(attribute(torch.ones(3, 6, 24)), torch.ones(3, 6, 24))
