"""Label maps: Cityscapes by its own scripts, VOC and both by genseg's readers, Hugging Face by datasets."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from exported import CLASSES, KEYS, category_maps, label_maps, made, segmented
from PIL import Image

import genseg
from genseg import GensegError
from genseg.evaluation.datasets import load_dataset
from genseg.exports.label_values import class_values, voc_colors
from genseg.runs.rows import Row
from genseg.runs.run import MANIFEST
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


CITYSCAPES_IDS = {"road": 7, "sky": 23, "car": 26}


def test_cityscapes_maps_are_read_by_its_own_scripts(run, tmp_path, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_DATASET", str(tmp_path / "out"))
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(tmp_path / "out/gtFine"))
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as scripts  # noqa: N813
    from cityscapesscripts.helpers.csHelpers import getCsFileInfo
    from cityscapesscripts.helpers.labels import name2label

    genseg.export_run(run, "cityscapes", tmp_path / "out", classes="streets", min_confidence=0.4)
    truths = sorted(str(path) for path in (tmp_path / "out/gtFine/train").glob("*/*_gtFine_labelIds.png"))
    assert len(truths) == 5
    scripts.args.predictionPath = scripts.args.predictionWalk = None
    scripts.args.evalInstLevelScore, scripts.args.JSONOutput, scripts.args.quiet = False, False, True
    predictions = [scripts.getPrediction(scripts.args, truth) for truth in truths]
    assert predictions == truths
    results = scripts.evaluateImgLists(predictions, truths, scripts.args)
    assert {name for name, score in results["classScores"].items() if score == 1} == set(CLASSES)
    ids = {name: name2label[name].id for name in CLASSES}
    assert ids == CITYSCAPES_IDS
    with (tmp_path / "out/classes.csv").open(newline="") as file:
        assert {row["class"]: int(row["value"]) for row in csv.DictReader(file)} == ids
    assert {getCsFileInfo(path).city for path in truths} == {"street", "genseg"}
    assert {getCsFileInfo(path).type for path in truths} == {"gtFine"}
    table = np.array([*ids.values(), 0])
    names = ["street/street_000000_a-photo", "street/street_000000_b", "street/street_000000_B-2"]
    names += ["genseg/genseg_000000_c", "genseg/genseg_000000_inside"]
    for name, expected in zip(names, category_maps(run, 0.4), strict=True):
        found = Image.open(tmp_path / f"out/gtFine/train/{name}_gtFine_labelIds.png")
        assert np.array_equal(np.asarray(found), table[expected])


def test_cityscapes_and_voc_are_read_by_the_readers_of_data_sets(run, tmp_path):
    genseg.export_run(run, "cityscapes", tmp_path / "city", classes="streets", min_confidence=0.4)
    city = load_dataset("cityscapes-19", tmp_path / "city", "train")
    numbers = np.array([*(city.classes.index(name) for name in CLASSES), -1])
    expected = dict(zip(KEYS, category_maps(run, 0.4), strict=True))
    order = {
        "genseg_000000_c": "../c.png", "genseg_000000_inside": "inside", "street_000000_B-2": "street/B.jpg",
        "street_000000_a-photo": "street/a photo.jpg", "street_000000_b": "street/b.png",
    }  # fmt: skip
    assert list(city.keys) == list(order)
    for sample in city:
        assert np.array_equal(sample.truths[0], numbers[expected[order[sample.key]]])
    run.assign("objects", ["car", "background", "sofa"], lambda _: np.arange(10, dtype=np.int32) % 4 - 1)
    genseg.export_run(run, "voc", tmp_path / "voc", classes="objects", min_confidence=0.4)
    voc = load_dataset("voc-21", tmp_path / "voc", "train")
    numbers = np.array([7, 0, 18, -1])
    assert list(voc.keys) == ["c", "inside", "street_B-2", "street_a_photo", "street_b"]
    order = ["../c.png", "inside", "street/B.jpg", "street/a photo.jpg", "street/b.png"]
    for sample, key in zip(voc, order, strict=True):
        assert np.array_equal(sample.truths[0], numbers[expected[key]])


def test_names_leave_the_lines_of_vocs_label_map_whole(run, tmp_path):
    run.assign("odd", ["a:b", "#1\nx"], lambda _: np.arange(10, dtype=np.int32) % 2)
    genseg.export_run(run, "voc", tmp_path / "out", classes="odd")
    lines = (tmp_path / "out/VOCdevkit/VOC2012/labelmap.txt").read_text().splitlines()
    assert lines[1:] == ["a_b:128,0,0::", "_1_x:0,128,0::"]


def test_voc_has_its_palette_its_ignore_its_objects_and_its_list(run, tmp_path):
    genseg.export_run(run, "voc", tmp_path / "out", classes="mine", min_confidence=0.4)
    root = tmp_path / "out/VOCdevkit/VOC2012"
    assert (root / "labelmap.txt").read_text().splitlines()[1:3] == ["thing:128,0,0::", "stuff:0,128,0::"]
    names = (root / "ImageSets/Segmentation/train.txt").read_text().split()
    for name, row, categories in zip(names, run.rows(), category_maps(run, 0.4), strict=True):
        found = Image.open(root / f"SegmentationClass/{name}.png")
        assert found.mode == "P"
        assert found.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        assert found.getpalette()[-3:] == [224, 224, 192]
        assert np.array_equal(np.asarray(found), np.array([1, 2, 3, 255])[categories])
        objects = np.asarray(Image.open(root / f"SegmentationObject/{name}.png"))
        assert np.array_equal(objects == 255, categories < 0)
        present = np.unique(row.labels[categories >= 0])
        assert np.unique(objects[objects < 255]).tolist() == list(range(1, len(present) + 1))
        for number, label in enumerate(present, start=1):
            assert np.array_equal(objects == number, (row.labels == label) & (categories >= 0))
        assert Image.open(root / f"JPEGImages/{name}.jpg").format == "JPEG"


def test_the_colors_of_voc():
    """As published with the data: of background, the classes, and 255."""
    colors = voc_colors()
    assert colors[:8].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128]
    ]  # fmt: skip
    assert colors[[15, 20, 255]].tolist() == [[192, 128, 128], [0, 64, 128], [224, 224, 192]]
    assert len(np.unique(colors, axis=0)) == 256


def test_masks_without_classes_are_objects_of_voc(run, tmp_path):
    genseg.export_run(run, "voc", tmp_path / "out")
    root = tmp_path / "out/VOCdevkit/VOC2012"
    for row, name in zip(run.rows(), (root / "ImageSets/Segmentation/train.txt").read_text().split(), strict=True):
        assert (np.asarray(Image.open(root / f"SegmentationClass/{name}.png")) == 1).all()
        objects = np.asarray(Image.open(root / f"SegmentationObject/{name}.png"))
        assert np.array_equal(objects - 1, np.unique(row.labels, return_inverse=True)[1].reshape(row.size))


def test_more_classes_than_a_map_holds_are_refused(run, tmp_path):
    assert class_values(["a", "b"], {"a": 7}, 2) == [1, 2]
    assert class_values(["b", "a"], {"a": 7, "b": 9}, 2) == [9, 7]
    run.assign("many", [f"c{k}" for k in range(255)], lambda _: np.zeros(10, dtype=np.int32))
    for name in ("voc", "cityscapes"):
        with pytest.raises(GensegError, match="holds 254 classes, not 255"):
            genseg.export_run(run, name, tmp_path / name, classes="many")


def test_more_segments_than_voc_numbers_are_refused(tmp_path):
    found = segmented("coffee")
    labels = (np.arange(found.labels.size, dtype=np.int32) % 300).reshape(found.labels.shape)
    many = replace(found, labels=labels, embeddings=np.zeros((300, 2), np.float32), colors=np.zeros((300, 3), np.uint8))
    store = Store(str(tmp_path / "run"))
    store.write_table("shards/shard-00000.parquet", table_of([Row.of(many, "a", ImageSource("a.png"), "hash")]))
    store.write_json(MANIFEST, {})
    with pytest.raises(GensegError, match="voc numbers 254 segments an image, and a has 300"):
        genseg.export_run(tmp_path / "run", "voc", tmp_path / "out", images="none")


@pytest.fixture
def load(tmp_path):
    from datasets import load_dataset as load_parquet

    return lambda folder: load_parquet(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def test_datasets_loads_images_maps_and_the_names_of_classes(run, tmp_path, load):
    genseg.export_run(run, "huggingface", tmp_path / "out", classes="streets", min_confidence=0.4)
    found = load(tmp_path / "out")
    assert found.features["classes"].feature.names == list(CLASSES)
    assert found["key"][:] == list(KEYS)
    for record, row, categories in zip(found, run.rows(), category_maps(run, 0.4), strict=True):
        assert np.array_equal(np.asarray(record["image"].convert("RGB")), np.asarray(row.picture()))
        assert np.array_equal(np.asarray(record["label"]), np.where(categories < 0, 255, categories))
        assert record["classes"] == np.unique(categories[categories >= 0]).tolist()


def test_datasets_loads_segments_and_maps_of_16_bits(run, tmp_path, load):
    genseg.export_run(run, "huggingface", tmp_path / "segments", images="none")
    found = load(tmp_path / "segments")
    assert set(found.features) == {"key", "label"}
    for record, labels in zip(found, label_maps(run), strict=True):
        assert np.array_equal(np.asarray(record["label"]), labels)
    last = np.array([299, -1, *range(8)], dtype=np.int32)
    run.assign("many", [f"c{k}" for k in range(300)], lambda _: last)
    genseg.export_run(run, "huggingface", tmp_path / "many", classes="many")
    for record, labels in zip(load(tmp_path / "many"), label_maps(run), strict=True):
        assert np.array_equal(np.asarray(record["label"]), np.where(labels == 1, 65535, last[labels]))


def test_groups_and_files_of_parquet_end_where_they_are_full(run, tmp_path, load, monkeypatch):
    monkeypatch.setattr("genseg.exports.huggingface.ROWS", 2)
    monkeypatch.setattr("genseg.exports.huggingface.GROUPS", 1)
    genseg.export_run(run, "huggingface", tmp_path / "out", images="none")
    assert len(list((tmp_path / "out/data").iterdir())) == 3
    assert load(tmp_path / "out")["key"][:] == list(KEYS)
