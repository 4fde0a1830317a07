"""genseg's contract, and what is this backend's own."""

import pytest
import torch

import genseg
from genseg.sites import offset
from genseg.testing import BackendContract


class TestDCGAN(BackendContract):
    @pytest.fixture(scope="class")
    def backend(self):
        return genseg.load_backend("dcgan", device="cpu", steps=20)


@pytest.fixture(scope="module")
def dcgan():
    return genseg.load_backend("dcgan", device="cpu", steps=20)


@pytest.fixture(scope="module")
def recipe(dcgan):
    return genseg.load_recipe(calibration=dcgan.recipe)


def image_of(dcgan, latent, recipe):
    return dcgan.regenerate(latent, dcgan.points["block2"], torch.zeros(1, 16, 16), recipe)


def test_a_generated_face_is_what_the_generator_makes(dcgan, recipe):
    latent = dcgan.generate("", 1, recipe)
    assert torch.equal(image_of(dcgan, latent, recipe), dcgan.network(latent))


def test_optimisation_comes_near_a_face(recipe):
    dcgan = genseg.load_backend("dcgan", device="cpu")
    face = image_of(dcgan, dcgan.generate("", 1, recipe), recipe)
    found = dcgan.encode(face, recipe, seed=0)
    assert (image_of(dcgan, found, recipe) - face).square().mean().sqrt() < 0.15


def test_every_step_of_the_optimisation_is_counted(recipe):
    dcgan = genseg.load_backend("dcgan", device="cpu", steps=3)
    with torch.inference_mode():
        dcgan.encode(torch.zeros(1, 3, 64, 64), recipe, seed=0)
    assert dcgan.meter.evaluations == 64 + 3 * 4 + 4


def test_batch_norm_does_not_take_the_offset_out(dcgan, recipe):
    latent = dcgan.generate("", 1, recipe)
    for name, point in dcgan.points.items():
        with torch.inference_mode(), offset(dcgan.network, point, torch.ones(1, *point.grid), "rms"):
            changed = dcgan.network(latent)
        assert (changed - dcgan.network(latent)).abs().mean() > 0.01, name


def test_features_have_no_checkerboard(dcgan, recipe):
    tap = dcgan.taps["block2"]
    features = dcgan.features(dcgan.generate("", 1, recipe), tap, recipe)
    alternating = torch.tensor([1.0, -1.0]).repeat(8)
    inner = features[:, 1:-1, 1:-1]  # the border is repeated, which leaves a little
    pattern = (inner * alternating[:14] * alternating[:14, None]).mean(dim=(1, 2))
    assert pattern.norm() < 0.01 * inner.mean(dim=(1, 2)).norm()


def test_words_and_other_sizes_are_refused(dcgan, recipe):
    with pytest.raises(genseg.GensegError, match="no words"):
        dcgan.generate("a cat", 0, recipe)
    with pytest.raises(genseg.GensegError, match="64×64"):
        dcgan.encode(torch.zeros(1, 3, 64, 128), recipe, seed=0)


def test_a_photo_that_is_no_square_is_squeezed_and_segmented():
    dcgan = genseg.load_backend("dcgan", device="cpu", steps=3)
    assert genseg.segment(torch.rand(3, 50, 400), dcgan).labels.shape == (50, 400)


def test_a_file_that_holds_other_weights_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "weights.tar")
    with pytest.raises(genseg.GensegError, match="holds no weights of this DCGAN"):
        genseg.load_backend("dcgan", model=str(tmp_path / "weights.tar"))
