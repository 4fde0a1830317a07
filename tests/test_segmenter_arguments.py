"""Arguments of a segmenter and recipe keys: what is refused, what has no effect, and which one wins."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genseg
from genseg import GensegError, Segmenter, load_recipe
from genseg.images import to_tensor

QUICK = {"draws": 1, "replay_steps": 1, "n_init": 1, "n_clusters": 4, "size": 32, "margin": 0, "modulate": True}


@pytest.fixture(scope="module")
def segmenter(tiny) -> Segmenter:
    return Segmenter(tiny, **QUICK)


FREE = QUICK | {"modulate": False}
MODULATED = {"strength": 9, "t_m": 900, "point": "up1.0.self", "reach": 0, "decoder": "tiny", "blur": 5}


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (FREE, []),
        (FREE | {"strength": 25.0, "decoder": "latent"}, ["do not depend on decoder; give modulate=true"]),
        (FREE | MODULATED, ["on t_m, point, strength, decoder, reach, blur; give modulate=true"]),
        ({"recipe": {"preset": "fast", **FREE, "strength": 9}}, ["on strength; give modulate=true"]),
        (QUICK | {"strength": 9}, []),
        (QUICK | {"keep_scores": True}, []),
        (QUICK | {"keep_scores": True, "n_clusters": "auto"}, ["no scores for keep_scores; give a number of clusters"]),
        (QUICK | {"keep_scores": True, "connected": True}, ["no scores for keep_scores; give connected=false"]),
    ],
)
def test_keys_of_the_caller_that_change_nothing_are_named_in_a_warning(tiny, photo, options, messages):
    segmenter = Segmenter(tiny, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert len(list(segmenter.map([photo, photo]))) == 2
    said = [str(warning.message) for warning in caught]
    assert len(said) == len(messages)
    assert all(text.endswith(message) for text, message in zip(said, messages, strict=True))


@pytest.mark.filterwarnings("error")
def test_what_modulates_whatever_the_recipe_says_heeds_all_keys(tiny, photo):
    maps = [Segmenter(tiny, **FREE, blur=each).analyse(to_tensor(photo, (32, 32))).differences for each in (0, 5)]
    assert not torch.equal(*maps)


def test_generated_images_depend_on_the_sampler_without_modulation(tiny):
    segmenter = Segmenter(tiny, **FREE, num_inference_steps=2, t_m=500, strength=9)
    with pytest.warns(UserWarning, match="do not depend on strength; give") as caught:
        segmenter.generate()
    assert len(caught) == 1


def test_mistakes_are_found_before_a_model_is_loaded():
    with pytest.raises(GensegError, match="did you mean paper"):
        Segmenter("sd15", recipe="papr")
    with pytest.raises(GensegError, match="did you mean n_clusters"):
        Segmenter("sd15", recipe="paper", n_cluster=3)
    for seed in (-1, 1.5, "1", None):
        with pytest.raises(GensegError, match="seed must be"):
            Segmenter("tiny", seed=seed)


def test_seeds_of_numpy_are_numbers(segmenter: Segmenter):
    assert type(Segmenter(segmenter.backend, seed=np.int64(3)).seed) is int
    with pytest.raises(GensegError, match=r"seed must be a whole number, not 1\.5"):
        segmenter.generate(seed=1.5)


@pytest.mark.parametrize("images", ["im/photo.jpg", Path("photo.jpg"), b"GIF89a", Image.new("RGB", (32, 32)), None])
def test_one_image_is_no_list_of_images(segmenter: Segmenter, images):
    for take in (
        lambda: next(segmenter.map(images)),
        lambda: genseg.calibrate(segmenter.backend, images),
        lambda: genseg.compare(images, [segmenter.backend]),
    ):
        with pytest.raises(GensegError, match="give a list of images, not a "):
            take()
    with pytest.raises(GensegError, match="give a list of backends, not a str"):
        genseg.compare([images], "tiny")


@pytest.mark.parametrize("option", [{"model": "x"}, {"dtype": "bfloat16"}, {"device": "cuda"}])
def test_a_loaded_backend_takes_no_options_of_loading(tiny, photo, option, tmp_path):
    functions = (genseg.segment, photo), (genseg.features, photo), (genseg.atlas, photo), (genseg.synth, tmp_path, 1)
    for take, *arguments in ((Segmenter,), *functions):
        with pytest.raises(GensegError, match=f"{next(iter(option))}='.*' does not change a loaded backend"):
            take(*arguments, tiny, **option)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 12}, "size=12 is smaller than the recipe's margin of 16; give a larger size or margin=0"),
        ({"margin": 5}, "margin must be a multiple of 16, not 5"),
    ],
)
def test_a_margin_that_does_not_fit_is_refused(tiny, photo, options, message):
    with pytest.raises(GensegError, match=message):
        Segmenter(tiny, **options)
    with pytest.raises(GensegError, match=message):
        genseg.atlas(photo, tiny, **{"margin": 16} | options)


def test_unknown_tap_and_point(tiny):
    with pytest.raises(GensegError, match="unknown tap"):
        Segmenter(tiny, tap="up9")
    with pytest.raises(GensegError, match="unknown point"):
        Segmenter(tiny, point="up9")


def test_calibration_lies_between_preset_and_caller(tiny):
    assert Segmenter(tiny).recipe == load_recipe(tiny.preset, calibration=tiny.recipe)
    assert Segmenter(tiny, recipe="paper").recipe.t_f == tiny.recipe["t_f"]
    assert Segmenter(tiny, t_f=5).recipe.t_f == 5
    plus = Segmenter(tiny, "plus").recipe
    assert (plus.size, plus.point) == (tiny.recipe["plus"]["size"], tiny.recipe["point"])
    assert Segmenter(tiny, "plus", size=96).recipe.size == 96
