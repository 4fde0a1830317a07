"""Comparing models: what is kept and made again, what is left out, and what is refused beforehand."""

import shutil
from itertools import accumulate
from operator import or_

import pytest
from compared import QUICK, TRUTHS, stages, two_photos
from models import write_sd_checkpoint
from PIL import Image

import genseg
from genseg import GensegError
from genseg.comparison import compare as comparing


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return two_photos()


@pytest.fixture(autouse=True)
def _tiny_at_hand(tiny, monkeypatch):
    """The embedded model is not loaded again for every run."""

    def load(name, **options):
        return tiny if name == "tiny" and options["dtype"] is None else genseg.load_backend(name, **options)

    monkeypatch.setattr(comparing, "load_backend", load)


def again(images, out, **changes):
    told = []
    settings = {"out": out, "progress": lambda *what: told.append(what)} | QUICK | changes
    genseg.compare(images, ["tiny"], **settings)
    return [how for _, _, how in stages(told)]


def test_a_killed_run_goes_on_with_what_is_missing(images, tmp_path):
    def killed(_backend, image, stage, *_):
        if image == "image1" and stage == "labels":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        genseg.compare(images, ["tiny"], out=tmp_path, progress=killed, **QUICK)
    assert again(images, tmp_path) == ["kept", "done"]
    assert again(images, tmp_path) == ["kept", "kept"]


def test_what_a_change_would_change_is_made_again_and_so_is_what_was_before_it(images, tmp_path):
    changes = {"seed": 1}, {"dtype": "bfloat16"}, {"blur": 0.0, "modulate": True}
    settings = [*accumulate(changes, or_, initial={}), {}]
    assert [again(images[:1], tmp_path, **each) for each in settings] == [["done"]] * 5


def test_another_image_of_the_same_name_is_segmented_anew(images, tmp_path):
    assert [again([image], tmp_path) for image in (images[0], images[1])] == [["done"], ["done"]]


def test_other_weights_at_the_same_path_are_another_model(images, tmp_path):
    ends, model = [], tmp_path / "model"
    for seed in (0, 0, 1):
        if not ends or seed == 1:
            shutil.rmtree(model, ignore_errors=True)
            write_sd_checkpoint(model, seed=seed)
        settings = QUICK | {"out": tmp_path / "out", "models": {"sd14": str(model)}}
        genseg.compare(images[:1], ["sd14"], progress=lambda *what: ends.append(what), **settings)
    assert [how for *_, how in stages(ends)] == ["done", "kept", "done"]


def test_loaded_backends_are_run_again_since_their_weights_have_no_name(images, tmp_path, tiny):
    ends = []
    for _ in range(2):
        genseg.compare(images[:1], [tiny], out=tmp_path, progress=lambda *what: ends.append(what), **QUICK)
    assert [how for *_, how in stages(ends)] == ["done", "done"]


def test_a_damaged_file_of_a_result_means_that_it_is_made_again(images, tmp_path):
    again(images[:1], tmp_path)
    for damaged in ("image0.json", "image0.npz"):
        (tmp_path / "tiny" / damaged).write_text("[")
        assert again(images[:1], tmp_path) == ["done"], damaged


def test_a_backend_without_weights_is_reported_and_the_others_go_on(images, tmp_path):
    found = genseg.compare(images, ["sd14", "tiny"], models={"sd14": str(tmp_path / "none")}, **QUICK)
    assert list(found.recipes) == ["tiny"]
    assert found.failures.values.tolist()[0][:2] == ["sd14", ""]
    assert len(found.images) == 2
    assert found.pairs.empty
    with pytest.raises(GensegError, match="no backend is left to compare"):
        genseg.compare(images, ["sd14"], models={"sd14": str(tmp_path / "none")}, **QUICK)


def test_an_image_that_one_model_fails_on_is_left_out_of_all(images, tiny, sd):
    # 6 clusters: at this size the wide photo has 2×4 positions in this model, the square one 2×2
    found = genseg.compare(images, [tiny, sd], **QUICK | {"n_clusters": 6})
    assert found.failures[["backend", "image"]].values.tolist() == [["stable-diffusion", "image1"]]
    assert set(found.images["image"]) == {"image0"}
    assert len(found.images) == 2


@pytest.mark.parametrize(
    ("backends", "change", "words"),
    [
        (["tinny"], {}, "did you mean tiny"),
        (["tiny", "tiny"], {}, "named twice"),
        ([], {}, "no backend given"),
        (["tiny"], {"models": {"sd15": "x"}}, "unknown backend in models 'sd15'"),
        (["tiny"], {"recipe": "papper"}, "did you mean paper"),
        (["tiny"], {"strenght": 3}, "did you mean strength"),
        (["tiny"], {"seed": -1}, "seed must be at least 0"),
        (["tiny"], {"truths": []}, "0 truths and 2 images"),
        (["tiny"], {"truths": {"image0": TRUTHS[0]}}, "no truth of image 'image1'"),
        (["tiny"], {"truths": TRUTHS[::-1]}, "96x64 pixels|64x64 pixels"),
        (["tiny"], {"truths": TRUTHS, "protocols": ["orakle"]}, "did you mean oracle"),
        (["tiny"], {"truths": TRUTHS, "protocols": ["open-vocabulary"]}, "needs an embedder that names masks"),
        (["tiny"], {"truths": TRUTHS, "protocols": []}, "no protocol given"),
        (["tiny"], {"truths": [0 * truth + 255 for truth in TRUTHS]}, "no pixel of the ground truth has a class"),
        (["tiny"], {"protocols": ["oracle", "concept"]}, "give the truths too"),
    ],
)
def test_what_can_be_refused_is_refused_before_a_model_is_loaded(images, monkeypatch, backends, change, words):
    monkeypatch.setattr(comparing, "load_backend", None)
    with pytest.raises(GensegError, match=words):
        genseg.compare(images, backends, **QUICK | change)


def test_no_image_and_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(GensegError, match="no image given"):
        genseg.compare([], ["tiny"])
    with pytest.raises(GensegError, match="two images are named 'a'"):
        genseg.compare([tmp_path / "a.png", tmp_path / "a.jpg"], ["tiny"])


def test_a_missing_package_is_named_with_how_to_get_it(images, monkeypatch):
    monkeypatch.setattr(comparing.importlib.util, "find_spec", lambda name: None if name == "pandas" else name)
    with pytest.raises(GensegError, match=r"'pandas'; run: pip install 'genseg\[compare\]'"):
        genseg.compare(images, ["tiny"])
