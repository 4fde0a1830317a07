import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from genseg import Cost, GensegError, Recipe, Segmentation
from genseg.display.palette import palette

mpl.use("Agg")


@pytest.fixture
def seg() -> Segmentation:
    """Five clusters in two families, one darker than the other, of which label 4 has no pixel; 40×30 pixels."""
    blocks = np.array([[0, 0, 1], [2, 3, 3]], dtype=np.int32)
    labels = np.kron(blocks, np.ones((15, 14), dtype=np.int32))[:, :40]
    embeddings = np.array([[0, 0], [0.1, 0], [9, 9], [9, 9.2], [8.5, 9]], dtype=np.float32)
    return Segmentation(
        labels=labels,
        grid_labels=np.array([[0, 4, 1], [2, 3, 3]], dtype=np.int32),
        embeddings=embeddings,
        colors=palette(5),
        image=np.repeat(np.where(labels < 2, 100, 180)[..., None], 3, axis=2).astype(np.uint8),
        scores=np.random.default_rng(0).random((5, 6, 8), dtype=np.float32),
        cost=Cost(10, 4, {"encode": 0.5}, 1000),
        recipe=Recipe(n_clusters=5),
        backend="tiny",
        seed=3,
        confidence=(np.arange(labels.size).reshape(labels.shape) / labels.size).astype(np.float16),
    )


def test_merge_joins_what_is_alike_and_touches(seg: Segmentation):
    merged = seg.merge(2)
    assert merged.n_segments == 2
    assert np.array_equal(merged.labels, np.isin(seg.labels, [2, 3]))
    assert merged.grid_labels.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert merged.embeddings.shape == (2, 2)
    assert merged.scores is None
    largest = max([0, 1], key=lambda k: (seg.labels == k).sum())
    assert np.array_equal(merged.colors[0], seg.colors[largest])
    assert np.array_equal(seg.cut(0.5).labels, merged.labels)
    assert np.array_equal(seg.merge("auto").labels, merged.labels)
    assert len(seg.tree.heights) == 3


def test_merges_are_nested(seg: Segmentation):
    finer, coarser = seg.merge(3), seg.merge(2)
    for k in range(3):
        assert len(np.unique(coarser.labels[finer.labels == k])) == 1


def test_merge_to_all_and_to_one(seg: Segmentation):
    assert np.array_equal(seg.merge(4).labels, seg.labels)
    assert seg.merge(1).merge(1).n_segments == 1


def test_parts_of_one_label_have_colors_of_their_own(seg: Segmentation):
    apart = replace(seg, labels=np.where(seg.labels == 1, 2, seg.labels), names=tuple("abcde"))
    assert apart.n_segments == 3
    parts = apart.merge(4)
    assert len(np.unique(parts.colors, axis=0)) == 4
    assert parts.names == ("a", "c", "c", "d")
    assert np.array_equal(parts.labels, apart.components().labels)


@pytest.mark.parametrize("n", [0, 5, 2.5, "few"])
def test_merge_out_of_range(seg: Segmentation, n: Any):
    with pytest.raises(GensegError, match="from 1 to 4"):
        seg.merge(n)


@pytest.mark.parametrize("value", [-1, 5.0, "0.5", None, float("nan")])
def test_shares_out_of_range(seg: Segmentation, value: Any):
    for name, take in (
        ("height", seg.cut),
        ("min_area", seg.clean),
        ("opacity", seg.overlay),
        ("threshold", seg.confident_labels),
    ):
        with pytest.raises(GensegError, match=rf"{name} must lie in \[0, 1\], not be {value!r}"):
            take(value)
    with pytest.raises(GensegError, match="heights in"):
        seg.hierarchy({"whole": value})


@pytest.mark.parametrize("place", [(5.5, 2), (5, "2")])
def test_between_pixels_is_no_mask(seg: Segmentation, place: Any):
    with pytest.raises(GensegError, match="x and y count whole pixels"):
        seg.at(*place)


def test_a_users_session_with_masks(seg: Segmentation):
    masks = seg.masks()
    assert [mask.label for mask in masks] == [0, 3, 2, 1]
    assert [mask.area for mask in masks] == sorted(seg.areas[:4].tolist(), reverse=True)
    assert seg.areas.tolist() == [420, 180, 210, 390, 0]
    first = seg.mask(0)
    assert first.bbox == (0, 0, 28, 15)
    assert np.array_equal(first.segmentation, seg.labels == 0)
    assert first.confidence == pytest.approx(float(seg.mask_confidence[0]))
    assert seg.at(39, 0).label == 1
    assert seg.at(0, 29).label == 2
    assert repr(seg) == "Segmentation(40×30, 4 segments, backend='tiny', seed=3)"
    assert "label=0, area=420" in repr(first)
    assert seg.clean(0.2).merge(2).n_segments == 2
    assert set(np.unique(seg.clean(0.16).labels)) == {0, 2, 3}
    assert (seg.clean(0.16).confidence[seg.labels == 1] == 0).all()
    sam = first.to_sam()
    ((x, y),) = sam["point_coords"]
    assert sam["segmentation"][int(y), int(x)]
    assert sam["bbox"] == [0, 0, 28, 15]
    with pytest.raises(GensegError, match="no pixel has the label 4"):
        seg.mask(4)
    with pytest.raises(GensegError, match="none at x=40"):
        seg.at(40, 0)
    with pytest.raises(GensegError, match="min_area must lie in"):
        seg.clean(5)


def test_masks_overlap_at_the_levels_of_the_tree(seg: Segmentation):
    named = replace(seg, names=tuple("abcde"))
    masks = named.hierarchy({"whole": 0.5, "part": 0.1, "subpart": 0.0})
    assert [mask.level for mask in masks] == ["whole", "whole", "subpart", "subpart", "subpart", "subpart"]
    assert [mask.area for mask in masks] == [600, 600, 420, 390, 210, 180]
    upper, lower = masks[:2]
    assert upper.parent is None
    assert upper.name == "a"
    assert {child.area for child in upper.children} == {420, 180}
    for whole in (upper, lower):
        assert np.array_equal(np.add(*(child.segmentation for child in whole.children)), whole.segmentation)
        assert all(child.parent is whole for child in whole.children)
    assert {mask.label for mask in masks} == set(range(6)), "all nodes of the tree but its root"
    assert "level='whole', 2 children" in repr(upper)
    for levels in ({"part": 0.1, "whole": 0.5}, {"whole": 1.5}):
        with pytest.raises(GensegError, match="the coarsest first"):
            seg.hierarchy(levels)


def test_json_is_what_coco_reads(seg: Segmentation, tmp_path: Path):
    coco = COCO(seg.save(tmp_path / "x.json"))
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "segment"}]
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = seg.mask(annotation["id"] - 1)
        assert np.array_equal(coco.annToMask(annotation), mask.segmentation)
        assert annotation["area"] == mask.area
        assert annotation["bbox"] == list(mask.bbox)


def test_masks_are_made_one_at_a_time(seg: Segmentation, tmp_path: Path):
    """Of a photo's hundreds of segments, each mask is as large as the photo."""
    labels = np.tile(np.arange(300, dtype=np.int32), (200, 1))
    many = replace(seg, labels=labels, colors=palette(300), image=np.zeros((200, 300, 3), np.uint8), confidence=None)
    tracemalloc.start()
    try:
        assert many.at(299, 199).label == 299
        many.save(tmp_path / "x.json")
        assert tracemalloc.get_traced_memory()[1] < 50 * labels.size
    finally:
        tracemalloc.stop()


def test_a_segmentation_scaled_down_is_whole(seg: Segmentation, tmp_path: Path):
    small = seg.resized(20)
    assert {mask.label for mask in small.masks()} == {0, 1, 2, 3}
    assert Segmentation.load(small.save(tmp_path / "x.npz")).labels.shape == (15, 20)


def test_names_may_be_empty_or_of_several_lines(seg: Segmentation):
    named = replace(seg, names=("sky\nat night", "", "tree", "tree", ""))
    assert [entry["name"] for entry in named.to_coco()["categories"]] == ["sky\nat night", "tree", "segment"]
    assert named.overlay().size == (40, 30)


def test_confidence_is_averaged_over_masks_and_cut_at_a_threshold(seg: Segmentation):
    assert seg.mask_confidence.tolist() == pytest.approx(
        [seg.confidence[seg.labels == k].astype(float).mean() for k in range(4)] + [0], rel=1e-3
    )
    kept = seg.confident_labels(0.5)
    assert np.array_equal(kept == -1, seg.confidence < 0.5)
    assert np.array_equal(kept[kept >= 0], seg.labels[kept >= 0])
    with pytest.raises(GensegError, match="without confidence"):
        replace(seg, confidence=None).confident_labels(0.5)


def test_npz_round_trip(seg: Segmentation, tmp_path: Path):
    for given in (seg, replace(seg, scores=None)):
        loaded = Segmentation.load(given.save(tmp_path / "x.npz"))
        for name in ("labels", "grid_labels", "embeddings", "colors", "image", "scores", "confidence"):
            expected, found = getattr(given, name), getattr(loaded, name)
            assert type(found) is type(expected)
            assert found is None or (found.dtype == expected.dtype and np.array_equal(found, expected))
        assert (loaded.recipe, loaded.cost, loaded.backend, loaded.seed) == (seg.recipe, seg.cost, "tiny", 3)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"], "no temporary file stays"


def test_png_is_indexed_with_the_labels_colors(seg: Segmentation, tmp_path: Path):
    with Image.open(seg.save(tmp_path / "x.png")) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), seg.labels)
        assert np.array_equal(np.asarray(picture.convert("RGB")), seg.colors[seg.labels])


def test_more_labels_than_a_palette_holds_are_16_bits_of_gray(seg: Segmentation, tmp_path: Path):
    many = replace(seg, colors=palette(300), labels=seg.labels + 290)
    with Image.open(many.save(tmp_path / "x.PNG")) as picture:
        assert picture.mode == "I;16"
        assert np.array_equal(np.asarray(picture), many.labels)


@pytest.mark.parametrize("name", ["x.jpg", "x"])
def test_unknown_suffix(seg: Segmentation, tmp_path: Path, name: str):
    with pytest.raises(GensegError, match=r"\.npz"):
        seg.save(tmp_path / name)


def test_files_that_are_not_ours(tmp_path: Path):
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(GensegError, match="not a segmentation"):
        Segmentation.load(tmp_path / "x.npz")
    with pytest.raises(GensegError, match="does not exist"):
        Segmentation.load(tmp_path / "y.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(GensegError, match="no regular file"):
        Segmentation.load(tmp_path / "pipe.npz")
    np.savez(tmp_path / "z.npz", meta='{"format": 99}')
    with pytest.raises(GensegError, match="another version"):
        Segmentation.load(tmp_path / "z.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.full((30, 40), 99)}, "labels must lie in"),
        ({"labels": np.zeros((5, 5), dtype=np.int32)}, "another size"),
        ({"grid_labels": np.full((4, 4), -1)}, "grid_labels must lie in"),
        ({"embeddings": np.full((5, 2), np.nan)}, "finite"),
        ({"image": np.zeros((64, 64), dtype=np.uint8)}, "image is missing or of another kind"),
        ({"confidence": np.full((30, 40), 2.0)}, "confidence must lie in"),
        ({"scores": np.zeros(3)}, "scores is missing or of another kind"),
        ({"colors": None}, "colors is missing"),
        ({"names": ["a"]}, "name for each label"),
        ({"names": [1, 2, 3, 4, 5]}, "names must be words"),
        ({"labels": np.full((30, 40), 2**32)}, "labels has numbers out of range"),
        ({"embeddings": np.zeros((5, 0))}, "embeddings are missing"),
        ({"recipe": "other.yaml"}, "not the name of another file"),
        ({"cost": {"seconds": {"encode": "long"}}}, "cost must be numbers"),
        ({"recipe": {"size": -1}}, "size must be a whole number"),
        ({"recipe": 3}, "not a segmentation"),
        ({"cost": {"watts": 3}}, "not a segmentation"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_files_of_wrong_content_are_refused(seg: Segmentation, tmp_path: Path, changes: dict, message: str):
    with np.load(seg.save(tmp_path / "x.npz")) as file:
        content = {name: file[name] for name in file.files if changes.get(name, "") is not None}
    meta = json.loads(str(content["meta"]))
    ((name, value),) = changes.items()
    content |= {"meta": json.dumps(meta | changes)} if name in meta else {} if value is None else changes
    np.savez_compressed(tmp_path / "x.npz", **content)
    with pytest.raises(GensegError, match=message):
        Segmentation.load(tmp_path / "x.npz")


def test_a_file_that_would_fill_the_memory_is_refused(seg: Segmentation, tmp_path: Path, monkeypatch):
    even = replace(seg, scores=np.zeros((5, 1000, 1000), dtype=np.float32))
    path = even.save(tmp_path / "x.npz")
    assert Segmentation.load(path).scores is not None
    monkeypatch.setattr("genseg.files.LARGE", 2**20)
    with pytest.raises(GensegError, match="unpacks to 20 MB"):
        Segmentation.load(path)
    assert Segmentation.load(even.save(path)).scores is not None  # ours are never refused


def test_an_unwritable_place_is_an_error_and_leaves_nothing(seg: Segmentation, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GensegError, match="choose another output folder"):
        seg.save(tmp_path / "file" / "x.npz")
    assert (tmp_path / "file").read_text() == ""


def test_overlay_draws_boundaries_and_colors(seg: Segmentation):
    overlay = np.asarray(seg.overlay(opacity=1.0))
    assert overlay.shape == seg.image.shape
    assert np.array_equal(overlay[5, 5], seg.colors[seg.labels[5, 5]])
    border = np.flatnonzero(np.diff(seg.labels[5]))[0]
    assert overlay[5, border].tolist() == [255, 255, 255]
    assert np.array_equal(seg.overlay(opacity=1.0, outlines=False), seg.colors[seg.labels])


def test_a_plot_has_a_title(seg: Segmentation):
    ax = seg.plot()
    assert "4 segments" in ax.get_title()
    assert seg.plot(ax) is ax
