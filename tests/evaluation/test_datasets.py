"""Data sets are read from miniature copies of their published layouts."""

from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import columns
from miniatures import CLASSED, REGIONS, info, named, opened
from PIL import Image

from genseg import GensegError
from genseg.evaluation.datasets import from_rows, list_datasets, load_dataset
from genseg.evaluation.datasets.files import class_names
from genseg.evaluation.metrics import IGNORE


@pytest.mark.parametrize("layout", CLASSED, ids=named)
def test_classes_are_read_from_each_layout(layout, tmp_path):
    name, n_classes, ignore, truth, names = CLASSED[layout]
    layout(tmp_path)
    dataset = load_dataset(name, tmp_path)
    assert (dataset.name, dataset.n_classes, dataset.ignore) == (name, n_classes, ignore)
    assert len(set(dataset.classes)) == n_classes
    samples = list(dataset)
    assert [sample.key for sample in samples] == dataset.keys == sorted(dataset.keys)
    first = samples[0]
    assert (first.image.mode, first.image.size, len(first.truths)) == ("RGB", (layouts.W, layouts.H), 1)
    assert first.truths[0].dtype == np.int64
    assert np.array_equal(first.truths[0], columns(*truth, dtype=np.int64))
    assert tuple(dataset.classes[number] for number in truth if number != IGNORE) == names


@pytest.mark.parametrize("layout", REGIONS, ids=named)
def test_regions_of_all_annotators_are_read_and_numbered_from_0(layout, tmp_path):
    layout(tmp_path)
    dataset = load_dataset(REGIONS[layout], tmp_path)
    assert (dataset.classes, dataset.n_classes, dataset.ignore) == ((), None, None)
    assert list(dataset.keys) == ["101085", "101087"]
    truths = dataset["101087"].truths
    expected = [columns(0, 1, 2, 3), columns(0, 1), columns(0, 0, 0, 1)][: len(truths)]
    assert len(truths) == (2 if layout is layouts.bsds else 3)
    assert all(np.array_equal(*pair) for pair in zip(truths, expected, strict=True))


def test_the_59_classes_are_found_among_the_459(tmp_path):
    layouts.context(tmp_path)
    dataset = load_dataset("pascal-context-59", tmp_path)
    assert np.array_equal(dataset[dataset.keys[0]].truths[0], columns(IGNORE, 0, IGNORE, 58, dtype=np.int64))
    assert dataset.classes == class_names("pascal-context-59")


# Ids of labels.py in the cityscapesScripts, of the classes with a trainId.
CITY_IDS = (
    "7 road, 8 sidewalk, 11 building, 12 wall, 13 fence, 17 pole, 19 traffic light, 20 traffic sign, 21 vegetation, "
    "22 terrain, 23 sky, 24 person, 25 rider, 26 car, 27 truck, 28 bus, 31 train, 32 motorcycle, 33 bicycle"
)


def test_every_id_of_cityscapes_has_its_class(tmp_path):
    dataset = opened(layouts.cityscapes, tmp_path)
    ids = np.arange(layouts.H * layouts.W, dtype=np.uint8).reshape(layouts.H, layouts.W) % 34
    layouts.png(dataset.labels.paths[dataset.keys[0]][0], ids)
    truth = dataset[dataset.keys[0]].truths[0]
    found = {int(number): dataset.classes[truth[ids == number][0]] for number in np.unique(ids[truth != IGNORE])}
    assert ", ".join(f"{number} {name}" for number, name in found.items()) == CITY_IDS


def test_keys_are_those_of_the_split(tmp_path):
    layouts.voc(tmp_path)
    layouts.cityscapes(tmp_path)
    layouts.coco_stuff_curated(tmp_path)
    assert list(load_dataset("voc-21", tmp_path).keys) == layouts.VOC_KEYS
    assert list(load_dataset("cityscapes-19", tmp_path).keys) == layouts.CITY_KEYS
    curated = load_dataset("coco-stuff-27", tmp_path)
    assert (list(curated.keys), curated.split) == (layouts.COCO_KEYS[1:], "val-curated")
    assert load_dataset("coco-stuff-171", tmp_path).split == "val"


def test_names_are_read_where_a_set_brings_its_own(tmp_path):
    layouts.ade20k(tmp_path)
    rows = [f"{number}\t0.1\t9\t9\tthing {number}, other word" for number in range(1, 151)]
    layouts.text(tmp_path / "ADEChallengeData2016/objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName", *rows)
    assert load_dataset("ade20k-150", tmp_path).classes[149] == "thing 150"
    layouts.context(tmp_path)
    names = list(class_names("pascal-context-459"))
    names[0], names[1] = "squeezebox", "aero plane"
    table = tmp_path / "labels.txt"
    layouts.text(table, *(f"{number}: {name}" for number, name in enumerate(names, start=1)))
    assert load_dataset("pascal-context-459", tmp_path).classes == ("squeezebox", "aeroplane", *names[2:])
    for lines in (["1: accordion"], [f"{number}: {name}" for number, name in enumerate(names)]):
        layouts.text(table, *lines)
        with pytest.raises(GensegError, match=r"labels\.txt must name the classes 1 to 459"):
            load_dataset("pascal-context-59", tmp_path)
    layouts.text(tmp_path / "ADEChallengeData2016/objectInfo150.txt", *rows)
    with pytest.raises(GensegError, match=r"objectInfo150\.txt must have the rows 1 to 150"):
        load_dataset("ade20k-150", tmp_path)


def test_coarse_classes_of_coco_comprise_their_fine_ones():
    coarse = dict(zip(class_names("coco-stuff-182"), class_names("coco-stuff-182-coarse"), strict=True))
    assert set(coarse.values()) == set(class_names("coco-stuff-27"))
    for name in ("wall-brick", "floor-wood", "ceiling-tile", "building-other", "water-other", "window-blind"):
        assert coarse[name] == f"{name.partition('-')[0]}-stuff"
    assert [coarse[name] for name in ("giraffe", "tree", "clouds", "pizza", "salad", "tv")] == [
        "animal-things", "plant-stuff", "sky-stuff", "food-things", "food-stuff", "electronic-things",
    ]  # fmt: skip


@pytest.mark.parametrize("layout", [*CLASSED, *REGIONS], ids=named)
def test_the_fingerprint_follows_the_files_and_not_the_place(layout, tmp_path):
    found = opened(layout, tmp_path / "one").fingerprint()
    second = opened(layout, tmp_path / "two")
    assert second.fingerprint() == found
    path = second.labels.paths[second.keys[0]][-1]
    path.write_bytes(path.read_bytes() + b" ")
    assert second.fingerprint() != found


def test_unknown_names_and_places_say_what_there_is(tmp_path):
    with pytest.raises(GensegError, match="unknown dataset 'voc': did you mean voc-21"):
        load_dataset("voc", tmp_path)
    with pytest.raises(GensegError, match=r"unknown split of voc-21 'validation': .*available: train, trainval, val"):
        load_dataset("voc-21", tmp_path, "validation")
    with pytest.raises(GensegError, match="nowhere is no folder; give the one that holds VOCdevkit"):
        load_dataset("voc-21", tmp_path / "nowhere")


def test_other_splits_are_read_from_their_own_folders(tmp_path):
    layouts.camvid(tmp_path)
    for path in list(tmp_path.rglob("*.png")):
        path.parent.with_name(path.parent.name.replace("val", "test")).mkdir(exist_ok=True)
        path.rename(str(path).replace("/val", "/test"))
    assert len(load_dataset("camvid-11", tmp_path, "test")) == 2
    with pytest.raises(GensegError, match=r"camvid-11 lacks .*CamVid/val/\*.png; fetch the folder CamVid of"):
        load_dataset("camvid-11", tmp_path)


def test_a_whole_kind_of_files_that_is_missing_is_said(tmp_path):
    layouts.camvid(tmp_path)
    (tmp_path / "CamVid/valannot").rename(tmp_path / "CamVid/annotations")
    with pytest.raises(GensegError, match=r"camvid-11 lacks .*CamVid/valannot/\*.png; fetch"):
        load_dataset("camvid-11", tmp_path)


def test_every_set_that_is_listed_has_a_miniature_a_licence_and_a_line_in_the_docs():
    tried = {entry[0] for entry in CLASSED.values()} | set(REGIONS.values())
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    for each in list_datasets():
        assert each.name in tried
        assert each.licence
        assert f"| `{each.name}` |" in page
        assert all(path in page for path in each.paths), each.name
        assert all(other in " ".join(page.replace("`", "").split()) for other in each.others), each.name


@pytest.mark.parametrize("layout", [*CLASSED, *REGIONS], ids=named)
def test_what_is_listed_is_what_is_opened(layout, tmp_path):
    dataset = opened(layout, tmp_path)
    listed = info(dataset.name)
    assert dataset.licence == listed.licence
    assert dataset.split.removesuffix("-curated").removesuffix("-mmsegmentation") == listed.splits[0]
    assert listed.n_classes in (dataset.n_classes, None)


def test_the_other_number_of_classes_is_read_from_the_same_folders(tmp_path):
    layouts.context_d2(tmp_path / "odise")
    layouts.context_san(tmp_path / "san")
    layouts.context_cat_seg(tmp_path / "cat-seg")
    for place, name, truth in (
        ("odise", "pascal-context-59", (IGNORE, 0, IGNORE, 58)),
        ("san", "pascal-context-459", (0, 1, 430, IGNORE)),
        ("cat-seg", "pascal-context-459", (0, 1, 430, IGNORE)),
    ):
        dataset = load_dataset(name, tmp_path / place)
        assert np.array_equal(dataset[dataset.keys[0]].truths[0], columns(*truth, dtype=np.int64))


def test_objects_are_read_from_the_curated_images_of_coco_stuff_when_asked(tmp_path):
    layouts.coco_object(tmp_path)
    layouts.coco_stuff_curated(tmp_path)
    assert len(load_dataset("coco-object", tmp_path)) == 2
    curated = load_dataset("coco-object", tmp_path, "val-curated")
    assert (list(curated.keys), curated.split) == (layouts.COCO_KEYS[1:], "val-curated")
    truth = curated[layouts.COCO_KEYS[1]].truths[0]  # the things of COCO-Stuff's map; no instance is in this image
    assert np.array_equal(truth, columns(1, 12, 0, 0, dtype=np.int64))
    (tmp_path / "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt").unlink()
    with pytest.raises(GensegError, match=r"coco-object lacks .*Coarse_7\.txt; fetch .*PiCIE"):
        load_dataset("coco-object", tmp_path, "val-curated")


def test_ovsegs_maps_are_read_in_the_order_of_its_table(tmp_path):
    layouts.context_cat_seg(tmp_path)
    own = tmp_path / "VOCdevkit/VOC2010"
    names = ["wood", *(name for name in class_names("pascal-context-59") if name != "wood")]
    layouts.text(own / "59_labels.txt", *(f"{number}: {name}" for number, name in enumerate(names, start=1)))
    assert load_dataset("pascal-context-59", tmp_path).classes == tuple(names)
    layouts.text(own / "trainval_merged.json", "{}")
    with pytest.raises(GensegError, match=r"may be CAT-Seg's or OVSeg's.*; remove trainval_merged\.json if"):
        load_dataset("pascal-context-59", tmp_path)


def test_imagenet_segmentation_is_read_from_matlabs_file(tmp_path):
    layouts.imagenet_mat(tmp_path)
    dataset = load_dataset("imagenet-segmentation", tmp_path)
    assert (list(dataset.keys), dataset.classes, dataset.ignore) == (["0", "1"], ("background", "object"), None)
    sample = dataset["1"]
    assert np.array_equal(np.asarray(sample.image), layouts.PHOTO)
    assert np.array_equal(sample.truths[0], columns(0, 1, 1, 0, dtype=np.int64))
    assert load_dataset("imagenet-segmentation", tmp_path).fingerprint() == dataset.fingerprint()
    with pytest.raises(KeyError):
        dataset["2"]
    path = tmp_path / "gtsegs_ijcv.mat"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(GensegError, match=r"gtsegs_ijcv\.mat is damaged"):
        load_dataset("imagenet-segmentation", tmp_path)


ROWS = [
    {"image": Image.fromarray(layouts.PHOTO), "label": Image.fromarray(columns(0, 1, 255, 1))},
    {"image": layouts.PHOTO, "label": columns(0, 1, 255, 1, dtype=np.int32)},
]


def test_rows_of_a_table_are_a_data_set():
    dataset = from_rows(ROWS * 6, classes=["sky", "sea"], name="mine")
    assert (dataset.name, dataset.n_classes, len(dataset)) == ("mine", 2, 12)
    assert list(dataset.keys) == [f"{number:02d}" for number in range(12)]
    for key in ("00", "01"):
        assert np.array_equal(dataset[key].truths[0], columns(0, 1, IGNORE, 1, dtype=np.int64))
        assert np.array_equal(np.asarray(dataset[key].image), layouts.PHOTO)
    assert dataset.fingerprint() != from_rows(ROWS, classes=["sky", "sea"], name="mine").fingerprint()


def test_a_class_of_a_table_may_be_ignored():
    dataset = from_rows(ROWS[:1], classes=[str(number) for number in range(256)], ignore=0)
    assert np.array_equal(dataset["0"].truths[0], columns(IGNORE, 1, 255, 1, dtype=np.int64))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": ["sky"]}, "row 0 of rows holds the value 1, but the argument classes names 1 class, so values"),
        ({"classes": ["sky", "sea"], "label": "labels"}, "unknown column of rows 'labels': did you mean label"),
        ({"classes": ["sky", "sea"], "ignore": -1}, "ignore must be a value from 0 on"),
    ],
)
def test_rows_that_cannot_be_read_are_refused(options, words):
    with pytest.raises(GensegError, match=words):
        from_rows(ROWS, **options)["0"]


def test_a_table_without_rows_is_refused():
    with pytest.raises(GensegError, match="rows has no rows"):
        from_rows([], classes=["sky"])
