"""Segments get the names that their pixels' embeddings are nearest to, and keep them."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from colors import COLORS, Colors, registry
from PIL import Image

import genseg
from genseg import Cost, GensegError, Recipe, Segmentation
from genseg.display.palette import palette
from genseg.naming import (
    IMAGENET_TEMPLATES,
    TEMPLATES,
    class_embeddings,
    classes_of,
    mask_embeddings,
    name_masks,
    named_classes,
)

mpl.use("Agg")
ORDER = ("red", "green", "blue", "red")  # of the stripes 0, 1, 3 and 4; no pixel is of label 2


@pytest.fixture(scope="module")
def stripes() -> tuple[np.ndarray, Image.Image]:
    """Labels of four vertical stripes, two rows of each another's, and the picture that they are of: 128×64 pixels."""
    labels = np.repeat(np.array([0, 1, 3, 4], dtype=np.int32), 32)[None].repeat(64, axis=0)
    values = np.array([COLORS[name] for name in ORDER])
    pixels = np.repeat(values, 32, axis=0)[None].repeat(64, axis=0)
    return labels, Image.fromarray(((pixels + 1) * 127.5).astype(np.uint8))


@pytest.fixture
def seg(stripes) -> Segmentation:
    labels, image = stripes
    return Segmentation(
        labels=labels.copy(), grid_labels=labels[::16, ::16], colors=palette(6), image=np.asarray(image), scores=None,
        embeddings=np.array([[0.0], [9], [5], [20], [0.1], [50]], dtype=np.float32), cost=Cost(), recipe=Recipe(),
        backend="tiny", seed=0,
    )  # fmt: skip


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genseg.registry.EMBEDDERS.plugins", registry())


def test_every_segment_gets_the_name_of_its_color(stripes):
    names, scores = name_masks(*stripes, "blue, green,red", Colors())
    assert names == ("red", "green", "", "blue", "red")
    assert scores.shape == (5, 3)
    assert scores.dtype == np.float32
    assert scores.max(axis=1) == pytest.approx([1, 1, 0, 1, 1], abs=1e-3), "a label without pixels scores nothing"
    assert named_classes(*stripes, ["blue", "green", "red"], Colors()).tolist() == [2, 1, -1, 0, 2]


def test_the_mean_is_over_the_pixels_of_a_segment():
    labels = np.random.default_rng(0).integers(0, 4, (23, 17))
    pixels = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))
    rows, columns = ((np.arange(n) + 0.5) / n * cells for n, cells in ((23, 6), (17, 7)))
    spread = pixels.numpy()[:, rows.astype(int)][:, :, columns.astype(int)]
    expected = np.stack([spread[:, labels == k].mean(axis=1) for k in range(4)])
    assert np.allclose(mask_embeddings(labels, pixels), expected, atol=1e-6)


def test_prompts_are_averaged_at_length_one():
    class Two(Colors):
        def texts(self, prompts):
            return torch.tensor(
                [{"a cat": [4.0, 0.0], "the cat": [0.0, 1.0], "a lynx": [2.0, 0.0]}[p] for p in prompts]
            )

    found = class_embeddings(["cat"], Two(), ["a {}", "the {}"])
    assert np.allclose(found, np.sqrt(0.5)), "the longer embedding weighs no more"
    synonyms = Two()
    synonyms.texts = lambda prompts: Two.texts(synonyms, [p.replace("the lynx", "a lynx") for p in prompts])
    mean = np.array([3, 1]) / 4
    found = class_embeddings(["cat| lynx"], synonyms, ["a {}", "the {}"])
    assert np.allclose(found, mean / np.linalg.norm(mean))


def test_the_templates_are_those_of_clip_and_maskclip():
    assert len(set(IMAGENET_TEMPLATES)) == len(IMAGENET_TEMPLATES) == 80
    assert len(set(TEMPLATES)) == 85
    known = {"itap of my {}.", "a photo of the hard to see {}.", "graffiti of the {}.", "a {} in a video game."}
    assert known | {"the origami {}.", "a black and white photo of the {}.", "a photo of many {}."} < set(TEMPLATES)


def test_texts_are_embedded_once_for_all_images_and_forgotten_with_the_embedder(stripes):
    embedder = Colors()
    for _ in range(2):
        named_classes(*stripes, ["red", "blue"], embedder)
    assert len(embedder.asked) == 2 * 85
    name_masks(*stripes, ["red", "blue"], embedder, ["a {}"])
    assert embedder.asked[2 * 85 :] == ["a red", "a blue"]
    gone = weakref.ref(embedder)
    del embedder
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("classes", "said"),
    [("", "no name"), ("sky,,tree", "no name"), ([], "no name"), ("|", "no name"), ("a,b, a", "'a' is named")],
)
def test_classes_that_cannot_be_used(classes, said):
    with pytest.raises(GensegError, match=said):
        classes_of(classes)


@pytest.mark.parametrize("templates", [[], ["a photo"]])
def test_templates_that_cannot_be_used(stripes, templates):
    with pytest.raises(GensegError, match="every template needs"):
        name_masks(*stripes, "red", Colors(), templates)


@pytest.mark.usefixtures("installed")
def test_embedders_are_listed_and_loaded_through_the_hook():
    infos = {info.name: info for info in genseg.list_embedders()}
    assert {"maskclip", "tcl", "clippy", "colors"} == set(infos)
    assert all(info.usable and info.description for info in infos.values())
    assert infos["colors"].provider == "test:colors"
    assert infos["maskclip"].card.licence == "MIT"
    assert isinstance(genseg.load_embedder("colors"), Colors)
    with pytest.raises(GensegError, match="unknown embedder 'maskklip': did you mean maskclip"):
        genseg.load_embedder("maskklip")
    with pytest.raises(GensegError, match="unknown option of embedder 'colors', 'sise': available: none"):
        genseg.load_embedder("colors", sise=3)


@pytest.mark.usefixtures("installed")
def test_a_segmentation_is_named(seg):
    named = seg.name("blue,red|gray,green", embedder="colors")
    assert named.names == ("red", "green", "", "blue", "red", ""), "labels 2 and 5 have no pixel"
    assert named.classes == ("red", "green", "blue")
    assert named.class_labels.dtype == np.int32
    assert named.class_labels[0, ::32].tolist() == [0, 1, 2, 0]
    assert seg.names is None
    for missing in ("classes", "class_labels"):
        with pytest.raises(GensegError, match="call name"):
            getattr(seg, missing)
    with pytest.raises(GensegError, match="unknown embedder"):
        seg.name("blue", embedder="nothing")


@pytest.mark.usefixtures("installed")
def test_masks_are_named_by_the_name_of_an_embedder(stripes):
    assert name_masks(*stripes, "blue,green,red", "colors").names == ("red", "green", "", "blue", "red")
    with pytest.raises(GensegError, match="unknown embedder 'nothing'"):
        name_masks(*stripes, "blue", "nothing")


def test_names_outlive_merging_and_saving(seg, tmp_path: Path):
    named = replace(seg, names=("roof", "tree", "", "sky", "wall", ""))
    named.labels[:40, :32] = 4  # a part of the wall, larger than the roof with which it is merged
    assert named.merge(4).names == ("wall", "tree", "sky", "wall")
    assert seg.merge(3).names is None
    for given in (seg, named):
        assert Segmentation.load(given.save(tmp_path / "x.npz")).names == given.names


def test_files_from_before_there_were_names_are_read(seg, tmp_path: Path):
    with np.load(seg.save(tmp_path / "x.npz")) as file:
        content = dict(file)
    content["meta"] = str(content["meta"]).replace(', "names": null', "")
    assert "names" not in content["meta"]
    np.savez(tmp_path / "old.npz", **content)
    assert Segmentation.load(tmp_path / "old.npz").names is None


def test_the_overlay_shows_the_names_and_the_label_picture_does_not(seg, tmp_path: Path):
    plain, named = (np.asarray(s.overlay()) for s in (seg, replace(seg, names=("a", "b", "", "", "Mm", ""))))
    changed = (plain != named).any(axis=(0, 2))
    assert changed[:32].any()
    assert changed[96:].any()
    assert not changed[64:96].any(), "the blue stripe has no name"
    assert plain.shape == named.shape
    saved = [s.save(tmp_path / "x.png").read_bytes() for s in (seg, replace(seg, names=("a",) * 6))]
    assert saved[0] == saved[1]
    assert replace(seg, names=("a",) * 6).plot() is not None


def test_a_long_name_at_the_border_stays_inside(seg):
    picture = np.asarray(replace(seg, names=("pavement", "", "", "", "", "")).overlay())
    plain = np.asarray(seg.overlay())
    columns = np.flatnonzero((picture != plain).any(axis=(0, 2)))
    assert columns[0] >= 1
    assert columns[-1] > 32, "the text is wider than its stripe and is moved, not cut"
