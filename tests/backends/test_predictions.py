"""Prediction type and scaling of latents: read from the checkpoint, or set by the caller."""

import pytest
import torch
from families import PIPELINES
from models import sd_vae
from safetensors.torch import load_file
from single_files import save, unet_weights
from test_layouts import assert_reads, load

import genseg
from genseg_backends.engine.codecs import KLCodec

STEPS = "global_step"


def written(files, folder, layout="sd1", marks=(), **said):
    """A copy of a layout's single file with marks, or metadata, of what it predicts."""
    tensors = {mark: torch.zeros(1) for mark in marks}
    if STEPS in said:
        tensors[STEPS] = torch.tensor(said.pop(STEPS))
    file = folder / "file.safetensors"
    save(load_file(files[layout]) | tensors, file, said.pop("prediction", None), **said)
    return file


@pytest.mark.usefixtures("small_configs")
@pytest.mark.parametrize(
    ("said", "prediction"),
    [
        ({"marks": ["v_pred"]}, "v_prediction"),
        ({"prediction": "v"}, "v_prediction"),
        ({"prediction": "epsilon"}, "epsilon"),
    ],
    ids=["mark", "metadata", "epsilon"],
)
def test_a_single_file_predicts_what_it_says(files, tmp_path, said, prediction):
    assert load("sd15", written(files, tmp_path, **said)).schedule.prediction_type == prediction


@pytest.mark.usefixtures("small_configs")
@pytest.mark.parametrize(
    "said",
    [{"prediction": "epsilon"}, {STEPS: 875_000}, {STEPS: 220_000}, {"architecture": "stable-diffusion-v2-512"}],
    ids=str,
)
def test_a_file_of_2_x_that_predicts_noise_is_one_of_512_pixels(files, tmp_path, said):
    assert_reads(load("sd21", written(files, tmp_path, "sd2-512", **said)), "sd2-512")


@pytest.mark.usefixtures("small_configs")
def test_noise_without_signal_at_the_end_is_read_from_its_mark(files, tmp_path):
    backend = load("sd15", written(files, tmp_path, marks=["v_pred", "ztsnr"]))
    assert backend.schedule.prediction_type == "v_prediction"
    assert backend.schedule.alpha_bar[-1] < 1e-6 < load("sd15", files["sd1"]).schedule.alpha_bar[-1]


@pytest.mark.usefixtures("small_configs")
@pytest.mark.parametrize(
    ("name", "layout", "assumed"), [("sd15", "sd1", "epsilon"), ("sd21", "sd2-768-v", "v_prediction")]
)
def test_what_a_silent_file_predicts_is_assumed_aloud_or_given(files, tmp_path, name, layout, assumed):
    file = written(files, tmp_path, layout)
    with pytest.warns(
        UserWarning, match=rf"does not say what its network predicts; {assumed} is assumed.*prediction_type="
    ):
        assert load(name, file).schedule.prediction_type == assumed
    assert load(name, file, prediction_type="sample").schedule.prediction_type == "sample"


def test_a_folders_prediction_may_be_corrected_and_a_flows_may_not(folders, tmp_path):
    backend = load("sd15", folders["sd1"], prediction_type="v_prediction")
    assert backend.schedule.prediction_type == "v_prediction"
    with pytest.raises(genseg.GensegError, match="prediction_type must be epsilon, v_prediction or sample, not 'v'"):
        load("sd15", folders["sd1"], prediction_type="v")
    PIPELINES["sd3"]().save_pretrained(tmp_path)
    with pytest.raises(genseg.GensegError, match=r"is a rectified flow.*leave prediction_type out"):
        load("sd3", tmp_path, prediction_type="epsilon")


@pytest.mark.usefixtures("small_configs")
@pytest.mark.parametrize(("marks", "prediction", "words"), [
    (["v_pred"], "epsilon", "says that its network predicts epsilon and v_prediction; pass prediction_type="),
    ([], "score", "says that its network predicts score; pass prediction_type="),
    (["edm_mean"], None, "trained with EDM's noise levels"),
])  # fmt: skip
def test_a_file_that_contradicts_itself_or_says_what_is_not_known_is_refused(files, tmp_path, marks, prediction, words):
    with pytest.raises(genseg.GensegError, match=words):
        load("sd15", written(files, tmp_path, marks=marks, prediction=prediction))


def test_a_single_file_of_sdxl_predicts_what_it_says(tmp_path):
    pipeline = PIPELINES["sdxl"]()
    pipeline.save_pretrained(tmp_path / "whole")
    file = tmp_path / "xl.safetensors"
    save(unet_weights(pipeline.unet) | {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, file, None)
    backend = load("sdxl", file, config=str(tmp_path / "whole"))
    assert backend.schedule.prediction_type == "v_prediction"
    assert backend.schedule.alpha_bar[-1] < 1e-6


@torch.no_grad()
def test_latents_that_are_standardised_by_channel_are_as_in_the_librarys_pipelines():
    vae, mean, deviation = sd_vae(), [0.5, -1.0, 2.0, 0.0], [1.0, 2.0, 0.5, 4.0]
    vae.register_to_config(latents_mean=mean, latents_std=deviation)
    codec, image = KLCodec(vae), torch.rand(1, 3, 32, 32) * 2 - 1
    moments = vae.encode(image).latent_dist.mean
    shape = (1, 4, 1, 1)
    # as StableDiffusionXLImg2ImgPipeline.prepare_latents has it
    expected = (moments - torch.tensor(mean).view(shape)) * 0.18215 / torch.tensor(deviation).view(shape)
    torch.testing.assert_close(codec.encode(image), expected)
    torch.testing.assert_close(codec.decode(expected), vae.decode(moments).sample, rtol=1e-4, atol=1e-5)
