from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import columns
from PIL import Image

from genseg import GensegError
from genseg.evaluation.datasets import from_rows, list_datasets, load_dataset
from genseg.evaluation.datasets.files import class_names
from genseg.evaluation.metrics import IGNORE

# Per layout: the set's name, the number of classes, the ignored value, the truth's columns and their classes' names.
CLASSED = {
    layouts.coco_stuff: ("coco-stuff-171", 171, 255, (0, 11, 170, IGNORE), ("person", "stop sign", "wood")),
    layouts.coco_stuff_of_others: ("coco-stuff-171", 171, 255, (0, 11, 170, IGNORE), ("person", "stop sign", "wood")),
    layouts.coco_stuff_curated: (
        "coco-stuff-27", 27, 255, (9, 8, 24, IGNORE), ("person-things", "outdoor-things", "solid-stuff"),
    ),
    layouts.coco_object: ("coco-object", 81, None, (1, 12, 0, 80), ("person", "stop sign", "background", "toothbrush")),
    layouts.coco_object_maps: (
        "coco-object", 81, 255, (1, 12, 0, 80), ("person", "stop sign", "background", "toothbrush"),
    ),
    layouts.ade20k: ("ade20k-150", 150, 0, (0, 7, 149, IGNORE), ("wall", "bed", "flag")),
    layouts.voc: ("voc-21", 21, 255, (0, 1, 20, IGNORE), ("background", "aeroplane", "tvmonitor")),
    layouts.context: (
        "pascal-context-459", 459, 0, (0, 1, 430, 457), ("accordion", "aeroplane", "unknown", "wood"),
    ),
    layouts.context_converted: (
        "pascal-context-59", 59, 0, (IGNORE, 0, IGNORE, 58), ("aeroplane", "wood"),
    ),
    layouts.cityscapes: ("cityscapes-19", 19, 0, (0, 11, 18, IGNORE), ("road", "person", "bicycle")),
    layouts.cityscapes_train_ids: ("cityscapes-19", 19, 255, (0, 11, 18, IGNORE), ("road", "person", "bicycle")),
    layouts.camvid: ("camvid-11", 11, 11, (0, 1, 10, IGNORE), ("sky", "building", "bicyclist")),
    layouts.folder: ("folder", 3, 255, (0, 1, 2, IGNORE), ("sky", "sea", "sand")),
}  # fmt: skip
REGIONS = {layouts.bsds: "bsds500", layouts.folder_of_regions: "folder"}


def named(parameter) -> str | None:
    return getattr(parameter, "__name__", None)


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


MAPS = [layout for layout in (*CLASSED, *REGIONS) if layout is not layouts.coco_object]


def opened(layout, root):
    layout(root)
    return load_dataset(REGIONS[layout] if layout in REGIONS else CLASSED[layout][0], root)


@pytest.mark.parametrize("layout", [*CLASSED, *REGIONS], ids=named)
def test_a_missing_file_is_said_with_what_to_fetch(layout, tmp_path):
    for kind in ("images", "labels"):
        root = tmp_path / kind
        dataset = opened(layout, root)
        files, last = getattr(dataset, kind).paths, dataset.keys[-1]
        for path in files[last]:
            path.unlink()
        with pytest.raises(GensegError) as caught:
            load_dataset(dataset.name, root)
        assert info(dataset.name).source in str(caught.value)
        if len(dataset) == 2 and files[dataset.keys[0]] != files[last]:
            assert "1 of 2 samples have no" in str(caught.value)
            assert last in str(caught.value)


def info(name):
    return next(info for info in list_datasets() if info.name == name)


def halve(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("layout", MAPS, ids=named)
def test_a_damaged_file_is_named(layout, tmp_path):
    dataset = opened(layout, tmp_path)
    first, last = dataset.keys[0], dataset.keys[-1]
    label = dataset.labels.paths[first][-1]
    halve(label)
    with pytest.raises(GensegError, match=f"{label.name}.* (damaged|not an image|cannot be opened)"):
        dataset[first]
    photo = dataset.images.paths[last][0]
    halve(photo)
    with pytest.raises(GensegError, match=photo.name):
        dataset[last]


STRANGE = {
    layouts.coco_stuff: 11, layouts.coco_stuff_curated: 182, layouts.ade20k: 151, layouts.voc: 21,
    layouts.cityscapes: 34, layouts.cityscapes_train_ids: 19, layouts.camvid: 12, layouts.folder: 3,
    layouts.context_converted: 60, layouts.coco_object_maps: 81,
}  # fmt: skip


@pytest.mark.parametrize("layout", STRANGE, ids=named)
def test_an_unknown_value_is_named_with_its_file(layout, tmp_path):
    dataset = opened(layout, tmp_path)
    path = dataset.labels.paths[dataset.keys[0]][0]
    layouts.png(path, columns(STRANGE[layout], 1))
    with pytest.raises(GensegError, match=f"{path.name} holds the value {STRANGE[layout]}"):
        dataset[dataset.keys[0]]


@pytest.mark.parametrize(
    ("variable", "labels", "words"),
    [
        ("LabelMap", columns(460, 2, dtype=np.uint16), "holds the value 460"),
        ("LabelMap", columns(1, 2)[:, :10], "has 10x16 pixels and its image 20x16"),
        ("LabelMap", columns(1, 2).astype(float), "one whole number a pixel"),
        ("Other", columns(1, 2), "no variable LabelMap"),
    ],
)
def test_a_matlab_file_that_is_no_map_of_the_image_is_refused(variable, labels, words, tmp_path):
    dataset = opened(layouts.context, tmp_path)
    layouts.mat(tmp_path / f"trainval/{dataset.keys[0]}.mat", **{variable: labels})
    with pytest.raises(GensegError, match=f"{dataset.keys[0]}.mat.*{words}"):
        dataset[dataset.keys[0]]


def test_regions_without_their_field_are_refused(tmp_path):
    dataset = opened(layouts.bsds, tmp_path)
    layouts.mat(dataset.labels.paths["101085"][0], groundTruth=columns(1, 2))
    with pytest.raises(GensegError, match=r"101085.mat has no groundTruth\{i\}.Segmentation"):
        dataset["101085"]


def test_damaged_instances_are_named(tmp_path):
    layouts.coco_object(tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(GensegError, match=r"instances_val2017.json is damaged"):
        load_dataset("coco-object", tmp_path)


def test_an_image_without_objects_is_background(tmp_path):
    dataset = opened(layouts.coco_object, tmp_path)
    assert not dataset[layouts.COCO_KEYS[1]].truths[0].any()


def test_a_colour_picture_is_no_map(tmp_path):
    dataset = opened(layouts.camvid, tmp_path)
    layouts.png(dataset.labels.paths[dataset.keys[0]][0], layouts.PHOTO)
    with pytest.raises(GensegError, match="one whole number a pixel"):
        dataset[dataset.keys[0]]


def test_a_folder_without_classes_says_which_file_to_write(tmp_path):
    layouts.folder(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(GensegError, match=r"classes.txt is missing; write the names of the classes"):
        load_dataset("folder", tmp_path)


@pytest.mark.parametrize("content", ["sky\n\nsea\nsand\n", "sky\nsea\nsky\n", "sky\nsea\nMöwe\n"])
def test_classes_that_are_no_list_of_names_are_refused(content, tmp_path):
    layouts.folder(tmp_path)
    (tmp_path / "classes.txt").write_bytes(content.encode("latin-1"))
    with pytest.raises(GensegError, match=r"classes\.txt (must name each class once|is not text in UTF-8)"):
        load_dataset("folder", tmp_path)


def test_one_map_among_those_of_annotators_is_refused(tmp_path):
    layouts.folder_of_regions(tmp_path)
    (tmp_path / "labels/101085.0.png").rename(tmp_path / "labels/101085.png")
    with pytest.raises(GensegError, match=r"101085.png must be named NAME.0.png"):
        load_dataset("folder", tmp_path)


def test_a_name_that_cannot_name_results_is_refused(tmp_path):
    layouts.folder(tmp_path)
    for path in (tmp_path / "images/a.jpg", tmp_path / "labels/a.png"):
        path.rename(path.with_stem("my photo"))
    with pytest.raises(GensegError, match=r"my photo.jpg must be renamed"):
        load_dataset("folder", tmp_path)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("genseg.evaluation.datasets.files.MAX_PIXELS", layouts.H * layouts.W - 1)
    dataset = opened(layouts.voc, tmp_path)
    with pytest.raises(GensegError, match=r"\.jpg has 20x16 pixels, over the limit"):
        dataset[dataset.keys[0]]


@pytest.mark.parametrize("layout", [*CLASSED, *REGIONS], ids=named)
def test_the_fingerprint_follows_the_files_and_not_the_place(layout, tmp_path):
    found = opened(layout, tmp_path / "one").fingerprint()
    second = opened(layout, tmp_path / "two")
    assert second.fingerprint() == found
    path = second.labels.paths[second.keys[0]][-1]
    path.write_bytes(path.read_bytes() + b" ")
    assert second.fingerprint() != found


def test_unknown_names_and_places_say_what_there_is(tmp_path):
    with pytest.raises(GensegError, match="unknown data set 'voc': did you mean voc-21"):
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


@pytest.mark.parametrize("layout", [*CLASSED, *REGIONS], ids=named)
def test_what_is_listed_is_what_is_opened(layout, tmp_path):
    dataset = opened(layout, tmp_path)
    listed = info(dataset.name)
    assert dataset.licence == listed.licence
    assert dataset.split.removesuffix("-curated") == listed.splits[0]
    assert listed.n_classes in (dataset.n_classes, None)


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
        ({"classes": ["sky"]}, "row 0 of rows holds the value 1"),
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
