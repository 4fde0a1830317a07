"""A dataset is found in its own folder too, and near a wrong one the right one is named."""

from pathlib import Path

import layouts
import pytest
from miniatures import named, opened

from genseg import GensegError
from genseg.evaluation.datasets import load_dataset

# For each layout the dataset's own folder, and one that is too deep.
OWN_FOLDERS = {
    layouts.ade20k: ("ADEChallengeData2016", "ADEChallengeData2016/images"),
    layouts.voc: ("VOCdevkit/VOC2012", "VOCdevkit/VOC2012/JPEGImages"),
    layouts.voc_d2: ("pascal_voc_d2", "pascal_voc_d2/images/validation"),
    layouts.context_san: ("pcontext", "pcontext/val"),
    layouts.context_cat_seg: ("VOCdevkit/VOC2010", "VOCdevkit/VOC2010/annotations_detectron2"),
    layouts.coco_stuff: (".", "stuffthingmaps/val2017"),
    layouts.coco_stuff_cat_seg: ("coco-stuff", "coco-stuff/val2017"),
    layouts.cityscapes_27: ("cityscapes", "cityscapes/leftImg8bit/val"),
    layouts.camvid: ("CamVid", "CamVid/val"),
    layouts.potsdam: ("potsdam", "potsdam/imgs"),
    layouts.bsds: ("BSR/BSDS500/data", "BSR/BSDS500/data/images"),
    layouts.imagenet_of_concept_attention: ("imagenet_segmentation", "imagenet_segmentation/images"),
}


@pytest.mark.parametrize("layout", OWN_FOLDERS, ids=named)
def test_a_datasets_own_folder_is_read_and_one_in_it_refused_with_the_folder_to_name(layout, tmp_path):
    own, deeper = OWN_FOLDERS[layout]
    dataset = opened(layout, tmp_path)
    again = load_dataset(dataset.name, tmp_path / own)
    assert (again.keys, again.split, again.fingerprint()) == (dataset.keys, dataset.split, dataset.fingerprint())
    with pytest.raises(GensegError) as caught:
        load_dataset(dataset.name, tmp_path / deeper)
    assert f"{tmp_path / deeper} is not the folder of {dataset.name}, but " in str(caught.value)
    assert "fetch" not in str(caught.value)
    named_one = Path(str(caught.value).partition(", but ")[2].partition(" is; name that one")[0])
    assert list(load_dataset(dataset.name, named_one).keys) == list(dataset.keys)


def test_a_folder_above_is_refused_with_the_folder_to_name(tmp_path):
    layouts.coco_stuff(tmp_path / "my data")
    with pytest.raises(GensegError, match=r"is not the folder of coco-stuff-171, but .*my data is; name that one"):
        load_dataset("coco-stuff-171", tmp_path)


def test_another_year_of_voc_is_not_taken_for_2012(tmp_path):
    layouts.voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012").rename(tmp_path / "VOCdevkit/VOC2010")
    with pytest.raises(GensegError, match="fetch VOCtrainval_11-May-2012"):
        load_dataset("voc-21", tmp_path / "VOCdevkit/VOC2010")


def test_maps_without_background_are_refused_with_what_is_missing(tmp_path):
    layouts.voc_cat_seg(tmp_path, "annotations_detectron2")
    with pytest.raises(GensegError, match=r"has the 20 objects without the background.*unpack VOC's SegmentationClass"):
        load_dataset("voc-21", tmp_path)
