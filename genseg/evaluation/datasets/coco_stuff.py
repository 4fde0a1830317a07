"""COCO-Stuff with 171 fine or 27 coarse classes (Caesar et al., 2018).

Values of the published pixel maps are the ids 1..182 of cocostuff's ``labels.txt`` minus one, 255 for unlabeled
pixels; eleven of the ids occur in no file. Converters number the 171 others from 0 on. The 27 classes and what they
comprise are those of IIC and PiCIE, which STEGO and EmerDiff report on.
"""

from __future__ import annotations

from pathlib import Path

from genseg.evaluation.datasets.base import Dataset, DatasetInfo
from genseg.evaluation.datasets.files import FileDataset, FolderDataset, Reader, class_names, home, read_lines
from genseg.evaluation.metrics import IGNORE

UNUSED = {
    "street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door", "blender", "hair brush",
}  # fmt: skip
N_THINGS = 91  # ids of things, with the gaps; stuff follows
LICENCE = "images: terms of Flickr; labels: CC BY 4.0"
IMAGES = "images/SPLIT2017/*.jpg (or SPLIT2017/*.jpg)"
STUFF_LABELS = "stuffthingmaps/SPLIT2017/*.png (or annotations/SPLIT2017/*.png)"
CURATED = "Coco164kFull_Stuff_Coarse_7.txt"
FOLDERS = ("coco", "cocostuff", "coco-stuff", "coco_stuff164k")
SOURCE = "val2017.zip from http://images.cocodataset.org/zips"
MAPS_SOURCE = "stuffthingmaps_trainval2017.zip from http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset"
CURATED_SOURCE = "the folder curated of https://github.com/janghyuncho/PiCIE"
OTHERS = (
    "annotation_SPLIT2017/*.png (DiffSeg)",
    "stuffthingmaps_detectron2/SPLIT2017/*.png (zsseg, SAN)",
    "annotations_detectron2/SPLIT2017/*.png (CAT-Seg)",
    "annotations/SPLIT2017/*_labelTrainIds.png (mmsegmentation)",
)


def open_stuff(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """Open COCO-Stuff; with 27 classes, only the curated images if their list is there.

    The split is then called ``"val-curated"``, so that scores of one are not mistaken for those of the other.
    """
    own = coco_home(root, split)
    labels, numbers = stuff_maps(own, split)
    keys = None
    if info.n_classes == 27:
        classes = class_names("coco-stuff-27")
        coarse = class_names("coco-stuff-182-coarse")
        values = {value: classes.index(coarse[number]) for value, number in numbers.items()}
        curated = curated_list(own, split)
        keys = read_lines(curated, info) if curated.exists() else None
    else:
        fine = class_names("coco-stuff-182")
        classes = tuple(name for name in fine if name not in UNUSED)
        values = {value: classes.index(fine[number]) for value, number in numbers.items() if fine[number] in classes}
    return FileDataset(
        info, split if keys is None else f"{split}-curated", coco_images(own, split), labels,
        keys=keys, classes=classes, values=values | {255: IGNORE}, ignore=255,
    )  # fmt: skip


def coco_home(root: Path, split: str) -> Path:
    """Find the folder with COCO's images: the root or one below it."""
    return home(root, [f"images/{split}2017", f"{split}2017"], "", *FOLDERS)


def coco_images(own: Path, split: str) -> FolderDataset:
    """Find the images of a split."""
    return FolderDataset.find(own, f"images/{split}2017/*.jpg", f"{split}2017/*.jpg")


def curated_list(own: Path, split: str) -> Path:
    """Return the path of the list of curated images; DiffSeg and DiffCut keep that of val beside the images."""
    beside = own / CURATED
    return beside if split == "val" and beside.exists() else own / f"curated/{split}2017/{CURATED}"


def stuff_maps(own: Path, split: str) -> tuple[FolderDataset, dict[int, int]]:
    """Find COCO-Stuff's maps, published ones first.

    Returns:
        The maps, and the number 0..181 among the 182 names that each of their values but 255 stands for.
    """
    converted = f"annotations/{split}2017/*_labelTrainIds.png"
    published = FolderDataset.find(
        own, f"stuffthingmaps/{split}2017/*.png", f"annotations/{split}2017/*.png", f"annotation_{split}2017/*.png"
    )
    # Other tools write maps such as NAME_labelTrainIds.png beside the published ones.
    published.paths = {key: paths for key, paths in published.paths.items() if "TrainIds" not in key}
    renumbered = FolderDataset.find(
        own, f"stuffthingmaps_detectron2/{split}2017/*.png", f"annotations_detectron2/{split}2017/*.png", converted
    )
    if published.paths or not renumbered.paths:
        return published, {number: number for number in range(182)}
    used = [number for number, name in enumerate(class_names("coco-stuff-182")) if name not in UNUSED]
    return renumbered, dict(enumerate(used))


READERS = (
    Reader(
        DatasetInfo(
            "coco-stuff-171", "COCO-Stuff 164k", 171, ("val", "train"), LICENCE, (IMAGES, STUFF_LABELS),
            f"{SOURCE} and {MAPS_SOURCE}", OTHERS,
        ),
        open_stuff,
    ),
    Reader(
        DatasetInfo(
            "coco-stuff-27", "COCO-Stuff 164k, 27 coarse classes", 27, ("val", "train"), LICENCE,
            (IMAGES, STUFF_LABELS, f"curated/SPLIT2017/{CURATED} (optional: these images alone)"),
            f"{SOURCE} and {MAPS_SOURCE}, and for STEGO's images {CURATED_SOURCE}",
            (*OTHERS, f"{CURATED} in place of curated, for val (DiffSeg)"),
        ),
        open_stuff,
    ),
)  # fmt: skip
