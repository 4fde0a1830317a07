"""Missing, damaged or strange files of a dataset are named."""

import layouts
import numpy as np
import pytest
from layouts import columns
from miniatures import CLASSED, REGIONS, info, named, opened

from genseg import GensegError
from genseg.evaluation.datasets import load_dataset

MAPS = [layout for layout in (*CLASSED, *REGIONS) if layout is not layouts.coco_object]


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


def test_a_color_picture_is_no_map(tmp_path):
    dataset = opened(layouts.camvid, tmp_path)
    layouts.png(dataset.labels.paths[dataset.keys[0]][0], layouts.PHOTO)
    with pytest.raises(GensegError, match="one whole number a pixel"):
        dataset[dataset.keys[0]]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            columns(0, 7),
            "holds the value 7, but classes.txt names 3 classes, so values are 0 to 2 and 255; change",
        ),
        (columns(0, 1)[:, :18], "has 18x16 pixels and its image 20x16; scale the labels to the image's size"),
        (layouts.PHOTO, "must hold one whole number a pixel, so give a grayscale or indexed PNG"),
    ],
)
def test_labels_of_ones_own_are_to_be_mended(labels, words, tmp_path):
    dataset = opened(layouts.folder, tmp_path)
    layouts.png(dataset.labels.paths["a"][0], labels)
    with pytest.raises(GensegError, match=f"a.png {words}"):
        dataset["a"]


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
