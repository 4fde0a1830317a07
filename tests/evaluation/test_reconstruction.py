"""The reconstruction error against scikit-image's, and what a backend's reconstruction is."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

import genseg
from genseg.comparison.metrics import reconstruction_error
from genseg.images import mirrored, to_tensor

QUICK = {"n_clusters": 3, "n_init": 1, "draws": 1, "replay_steps": 1, "size": 32}


def test_the_error_is_that_of_another_library():
    image, other = torch.rand(2, 1, 3, 8, 8) * 2 - 1
    rmse, psnr = reconstruction_error(image, other)
    assert rmse == pytest.approx(np.sqrt(np.mean((image.numpy() - other.numpy()) ** 2)), rel=1e-5)
    assert psnr == pytest.approx(peak_signal_noise_ratio(image.numpy(), other.numpy(), data_range=2), rel=1e-5)


def test_values_out_of_range_are_seen_as_the_picture_shows_them():
    assert reconstruction_error(torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 1.5))[0] == 0


def test_a_perfect_reconstruction_has_a_finite_psnr():
    same = torch.zeros(1, 3, 4, 4)
    assert reconstruction_error(same, same) == (0, pytest.approx(150.5, abs=0.05))


def test_the_embedded_model_gives_the_image_back_without_its_margin(tiny, photo):
    segmenter = genseg.Segmenter(tiny, margin=16, **QUICK)
    image, again = segmenter.reconstruction(photo)
    assert torch.equal(image, to_tensor(photo, (image.shape[3], image.shape[2])))
    assert again.shape == image.shape
    assert reconstruction_error(image, again)[0] < 1e-5


def test_a_reconstruction_is_what_encoding_and_an_offset_of_zero_give(sd, photo):
    segmenter = genseg.Segmenter(sd, margin=32, **QUICK | {"size": 64})
    image, again = segmenter.reconstruction(photo)
    state = sd.encode(mirrored(image, 32), segmenter.recipe, 0)
    rows, columns = ((side + 64) // segmenter.point.stride for side in image.shape[2:])
    whole = sd.decode(sd.regenerate(state, segmenter.point, torch.zeros(1, rows, columns), segmenter.recipe))
    assert torch.equal(again, whole[:, :, 32:-32, 32:-32])
    assert reconstruction_error(image, again)[0] > 1e-3  # an autoencoder of random weights
