"""Names of sites, and how modules that are maps of the image are found."""

import pytest
import torch
from torch import nn

from genseg import FeatureTap
from genseg.sites.vocabulary import ModuleTensor, readable, shapes_recorded, site_name

U_NET = {
    "down_blocks.0.resnets.1": "down0.1.resnet",
    "down_blocks.0.downsamplers.0": "down0.downsample",
    "down_blocks.1": "down1.output",
    "mid_block.attentions.0": "mid.0.attention",
    "mid_block.attentions.0.to_q": "mid.0.query",
    "mid_block": "mid.output",
    "up_blocks.1.attentions.0": "up1.0.output",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q": "up1.0.query",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k": "up1.0.self-key",
    "up_blocks.1.attentions.0.transformer_blocks.0": "up1.0.b0.output",
    "up_blocks.2.attentions.1.transformer_blocks.1.ff": "up2.1.b1.mlp",
    "conv_in": None,
    "up_blocks.1.resnets.0.conv1": None,
}
BLOCKS = {
    "transformer_blocks.9": "b9.output",
    "transformer_blocks.9.norm1": "b9.normed",
    "transformer_blocks.9.attn.to_q": "b9.query",
    "transformer_blocks.9.attn2.to_q": "b9.self-query",  # beside joint attention, as in SD 3.5
    "transformer_blocks.9.attn.to_out.0": "b9.attention",
    "transformer_blocks.9.attn.add_q_proj": None,
    "vit.layers.3.attention.q_proj": "encoder3.query",
    "single_transformer_blocks.3": None,
}


@pytest.mark.parametrize(("path", "name"), [*U_NET.items(), *BLOCKS.items()])
def test_a_modules_output_has_the_name_of_its_block_and_kind(path, name):
    several = ("up_blocks.2.attentions.1.transformer_blocks.1", "up_blocks.1.attentions.0.transformer_blocks.0")
    paths = {*U_NET, *BLOCKS, *several}
    assert site_name(path, paths, {"transformer_blocks": "b", "vit.layers": "encoder"}) == name


SIZE = (48, 80)
DECLARED = FeatureTap("blocks.0.attn", 8, 16, (4, 4), first=7)


def found(*shape, path="blocks.1", of_declared=(1, 22, 8)):
    tensors = [ModuleTensor("blocks.0.attn", "output", 0, of_declared), ModuleTensor(path, "output", 0, shape)]
    site = readable(tensors, SIZE, 64, [DECLARED]).get(f"module:{path}")
    return site and (site.channels, site.stride, site.grid, site.first)


def test_maps_and_tokens_of_the_image_are_found_with_their_stride():
    assert found(1, 4, 6, 10) == (4, 8, (8, 8), 0)
    assert found(1, 15, 4) == (4, 16, (4, 4), 0)


def test_text_before_the_image_is_skipped_as_at_the_nearest_declared_site():
    assert found(1, 22, 4) == (4, 16, (4, 4), 7)
    assert found(1, 32, 4, of_declared=(1, 32, 8)) == (4, 16, (4, 4), 7)  # with padding behind


@pytest.mark.parametrize("shape", [(1, 7, 4), (1, 77, 4), (1, 4, 10, 6), (1, 4), (2, 15, 4), (1, 4, 6, 6)])
def test_what_is_no_map_of_the_image_is_left_out(shape):
    assert found(*shape) is None


def test_of_several_outputs_the_one_that_is_a_map_is_meant():
    tensors = [ModuleTensor("blocks.1", "output", 0, (1, 7, 4)), ModuleTensor("blocks.1", "output", 1, (1, 15, 4))]
    sites = readable(tensors, SIZE, 64, [])
    assert list(sites) == ["module:blocks.1", "module:blocks.1@output1"]
    assert sites["module:blocks.1"].item == 1


def test_recorded_shapes_are_of_the_first_run_and_leave_no_hook():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with shapes_recorded(model) as tensors:
        model(torch.zeros(1, 3))
        model(torch.zeros(9, 3))
    assert ("0", "input", 0, (1, 3)) in tensors
    assert ("0", "output", 0, (1, 4)) in tensors
    assert {tensor.shape[0] for tensor in tensors} == {1}
    assert not any(module._forward_hooks for module in model.modules())
