"""The miniature data sets that tests write, by what they are listed as."""

import layouts

from genseg.evaluation.datasets import list_datasets, load_dataset
from genseg.evaluation.metrics import IGNORE

# Per layout: the set's name, the number of classes, the ignored value, the truth's columns and their classes' names.
CLASSED = {
    layouts.coco_stuff: ("coco-stuff-171", 171, 255, (0, 11, 170, IGNORE), ("person", "stop sign", "wood")),
    layouts.coco_stuff_of_others: ("coco-stuff-171", 171, 255, (0, 11, 170, IGNORE), ("person", "stop sign", "wood")),
    layouts.coco_stuff_curated: (
        "coco-stuff-27", 27, 255, (9, 8, 24, IGNORE), ("person-things", "outdoor-things", "solid-stuff"),
    ),
    layouts.coco_stuff_of_diffseg: (
        "coco-stuff-27", 27, 255, (9, 8, 24, IGNORE), ("person-things", "outdoor-things", "solid-stuff"),
    ),
    layouts.coco_stuff_detectron2: ("coco-stuff-171", 171, 255, (0, 11, 170, IGNORE), ("person", "stop sign", "wood")),
    layouts.coco_stuff_cat_seg: (
        "coco-stuff-27", 27, 255, (9, 8, 24, IGNORE), ("person-things", "outdoor-things", "solid-stuff"),
    ),
    layouts.coco_stuff_mmsegmentation: (
        "coco-stuff-171", 171, 255, (0, 11, 170, IGNORE), ("person", "stop sign", "wood"),
    ),
    layouts.coco_object: ("coco-object", 81, None, (1, 12, 0, 80), ("person", "stop sign", "background", "toothbrush")),
    layouts.coco_object_maps: (
        "coco-object", 81, 255, (1, 12, 0, 80), ("person", "stop sign", "background", "toothbrush"),
    ),
    layouts.coco_object_of_diffcut: (
        "coco-object", 81, None, (1, 12, 0, 0), ("person", "stop sign", "background", "background"),
    ),
    layouts.ade20k_detectron2: ("ade20k-150", 150, 255, (0, 7, 149, IGNORE), ("wall", "bed", "flag")),
    layouts.ade20k: ("ade20k-150", 150, 0, (0, 7, 149, IGNORE), ("wall", "bed", "flag")),
    layouts.voc: ("voc-21", 21, 255, (0, 1, 20, IGNORE), ("background", "aeroplane", "tvmonitor")),
    layouts.voc_d2: ("voc-21", 21, 255, (0, 1, 20, IGNORE), ("background", "aeroplane", "tvmonitor")),
    layouts.voc_cat_seg: ("voc-21", 21, 255, (0, 1, 20, IGNORE), ("background", "aeroplane", "tvmonitor")),
    layouts.context: (
        "pascal-context-459", 459, 0, (0, 1, 430, 457), ("accordion", "aeroplane", "unknown", "wood"),
    ),
    layouts.context_converted: (
        "pascal-context-59", 59, 0, (IGNORE, 0, IGNORE, 58), ("aeroplane", "wood"),
    ),
    layouts.context_d2: (
        "pascal-context-459", 459, 65535, (0, 1, 430, IGNORE), ("accordion", "aeroplane", "unknown"),
    ),
    layouts.context_san: (
        "pascal-context-59", 59, 255, (IGNORE, 0, IGNORE, 58), ("aeroplane", "wood"),
    ),
    layouts.context_cat_seg: (
        "pascal-context-59", 59, 255, (IGNORE, 0, IGNORE, 58), ("aeroplane", "wood"),
    ),
    layouts.cityscapes_27: ("cityscapes-27", 27, 0, (0, 7, 26, IGNORE), ("road", "guard rail", "bicycle")),
    layouts.potsdam: (
        "potsdam-3", 3, 255, (0, 1, 2, IGNORE), ("roads and cars", "buildings and clutter", "vegetation and trees"),
    ),
    layouts.potsdam_mmsegmentation: (
        "potsdam-3", 3, 0, (0, 1, 2, IGNORE), ("roads and cars", "buildings and clutter", "vegetation and trees"),
    ),
    layouts.imagenet_of_concept_attention: (
        "imagenet-segmentation", 2, None, (0, 1, 1, 0), ("background", "object", "object", "background"),
    ),
    layouts.cityscapes: ("cityscapes-19", 19, 0, (0, 11, 18, IGNORE), ("road", "person", "bicycle")),
    layouts.cityscapes_train_ids: ("cityscapes-19", 19, 255, (0, 11, 18, IGNORE), ("road", "person", "bicycle")),
    layouts.camvid: ("camvid-11", 11, 11, (0, 1, 10, IGNORE), ("sky", "building", "bicyclist")),
    layouts.folder: ("folder", 3, 255, (0, 1, 2, IGNORE), ("sky", "sea", "sand")),
}  # fmt: skip


REGIONS = {layouts.bsds: "bsds500", layouts.folder_of_regions: "folder"}


def named(parameter) -> str | None:
    return getattr(parameter, "__name__", None)


def opened(layout, root):
    layout(root)
    return load_dataset(REGIONS[layout] if layout in REGIONS else CLASSED[layout][0], root)


def info(name):
    return next(info for info in list_datasets() if info.name == name)
