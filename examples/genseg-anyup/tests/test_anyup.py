"""The plug-in over a stand-in for AnyUp's repository: the same call, at tiny size. AnyUp itself is not downloaded."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import genseg
from genseg import GensegError
from genseg.registry import UPSAMPLERS

REPOSITORY = '''
import torch


class StandIn(torch.nn.Module):
    """Scales features to the nearest cell and adds the red of the image, weighted."""

    def __init__(self):
        super().__init__()
        self.red = torch.nn.Parameter(torch.zeros(()))

    def forward(self, image, features, output_size=None, vis_attn=False, q_chunk_size=None):
        assert q_chunk_size in (None, 5)
        size = output_size if output_size is not None else image.shape[-2:]
        return torch.nn.functional.interpolate(features, size) + self.red * image[:, :1]


def anyup_multi_backbone(use_natten=False, pretrained=True, device="cpu"):
    assert not pretrained  # its loader would unpickle anything
    return StandIn().to(device)
'''


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "hubconf.py").write_text(REPOSITORY)
    torch.save({"red": torch.tensor(2.0)}, tmp_path / "weights.pth")
    return tmp_path


def load(clone, **options):
    return UPSAMPLERS.load("anyup", model=str(clone), device="cpu", weights=str(clone / "weights.pth"), **options)


def test_the_network_gets_a_standardized_image_and_the_size(clone):
    photo, features = np.full((18, 27, 3), 255, np.uint8), torch.rand(4, 2, 3)
    white = 2 * (1 - 0.485) / 0.229
    expected = F.interpolate(features[None], (12, 18))[0] + white
    for options in ({}, {"chunk": 5}):
        result = genseg.upsample(photo, features, (12, 18), method=load(clone, **options))
        torch.testing.assert_close(result, expected)


def test_what_cannot_be_loaded_is_refused(clone, tmp_path):
    with pytest.raises(GensegError, match="has no hubconf"):
        UPSAMPLERS.load("anyup", model=str(tmp_path / "none"))
    with pytest.raises(GensegError, match="float32"):
        UPSAMPLERS.load("anyup", model=str(clone), dtype="float16")


def test_it_is_listed_with_its_licence():
    info = UPSAMPLERS.info("anyup")
    assert (info.provider, info.card.licence) == ("genseg-anyup:anyup", "CC BY 4.0")
