"""Miniatures of every layout that is read: two samples each, written below a root."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

H, W = 16, 20
PHOTO = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3)


def columns(*values, dtype=np.uint8) -> np.ndarray:
    """A map [H, W] of upright stripes."""
    return np.tile(np.repeat(np.array(values, dtype=dtype), W // len(values)), (H, 1))


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PHOTO).save(path)


def png(path: Path, labels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if palette:
        image.putpalette([255, 0, 7] * 256)
    image.save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def mat(path: Path, **variables) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=True)


COCO_KEYS = ["000000000139", "000000000285"]


def coco_stuff(root: Path) -> None:
    for key in COCO_KEYS:
        photo(root / f"images/val2017/{key}.jpg")
        png(root / f"stuffthingmaps/val2017/{key}.png", columns(0, 12, 181, 255))


def coco_stuff_of_others(root: Path) -> None:
    for key in COCO_KEYS:
        photo(root / f"val2017/{key}.jpg")
        png(root / f"annotations/val2017/{key}.png", columns(0, 12, 181, 255))
        png(root / f"annotations/val2017/{key}_labelTrainIds.png", columns(0, 11, 170, 255))


def coco_stuff_curated(root: Path) -> None:
    coco_stuff(root)
    text(root / "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt", COCO_KEYS[1])


def coco_stuff_of_diffseg(root: Path) -> None:
    for key in COCO_KEYS:
        photo(root / f"val2017/{key}.jpg")
        png(root / f"annotation_val2017/{key}.png", columns(0, 12, 181, 255))
    text(root / "Coco164kFull_Stuff_Coarse_7.txt", *COCO_KEYS)


def coco_stuff_detectron2(root: Path, place: str = "coco/stuffthingmaps_detectron2/val2017/{}.png") -> None:
    for key in COCO_KEYS:
        photo(root / f"{place.partition('/')[0]}/val2017/{key}.jpg")
        png(root / place.format(key), columns(0, 11, 170, 255))


def coco_stuff_cat_seg(root: Path) -> None:
    coco_stuff_detectron2(root, "coco-stuff/annotations_detectron2/val2017/{}.png")


def coco_stuff_mmsegmentation(root: Path) -> None:
    coco_stuff_detectron2(root, "coco_stuff164k/annotations/val2017/{}_labelTrainIds.png")


def box(category: int, left: int, right: int, **more) -> dict:
    outline = [left, 0, right, 0, right, H, left, H]
    return {"category_id": category, "segmentation": [outline], "iscrowd": 0, "image_id": 139} | more


def coco_object(root: Path) -> None:
    """A person (1), a stop sign (13) over half of it, and a crowd of toothbrushes (90) in run lengths by columns."""
    for key in COCO_KEYS:
        photo(root / f"images/val2017/{key}.jpg")
    crowd = {"size": [H, W], "counts": [15 * H, 5 * H]}
    found = [box(1, 0, 10), box(13, 5, 10), box(90, 0, 0, segmentation=crowd, iscrowd=1)]
    content = {
        "images": [{"id": int(key), "file_name": f"{key}.jpg", "height": H, "width": W} for key in COCO_KEYS],
        "categories": [{"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}, {"id": 90, "name": "toothbrush"}],
        "annotations": [{"id": number, "area": 1} | each for number, each in enumerate(found, start=1)],
    }
    text(root / "annotations/instances_val2017.json", json.dumps(content))


def coco_object_maps(root: Path) -> None:
    for key in COCO_KEYS:
        photo(root / f"images/val2017/{key}.jpg")
        png(root / f"annotations/val2017/{key}_instanceTrainIds.png", columns(1, 12, 0, 80))


def ade20k(root: Path) -> None:
    for number in (1, 2):
        photo(root / f"ADEChallengeData2016/images/validation/ADE_val_0000000{number}.jpg")
        png(root / f"ADEChallengeData2016/annotations/validation/ADE_val_0000000{number}.png", columns(1, 8, 150, 0))


def coco_object_of_diffcut(root: Path) -> None:
    """Person, stop sign, wood, unlabeled: things of COCO-Stuff's maps, and background."""
    for key in COCO_KEYS:
        photo(root / f"coco/images/val2017/{key}.jpg")
        png(root / f"coco/annotations/val2017/{key}.png", columns(0, 12, 181, 255))


def ade20k_detectron2(root: Path) -> None:
    for number in (1, 2):
        photo(root / f"ADEChallengeData2016/images/validation/ADE_val_0000000{number}.jpg")
        place = root / "ADEChallengeData2016/annotations_detectron2/validation"
        png(place / f"ADE_val_0000000{number}.png", columns(0, 7, 149, 255))


VOC_KEYS = ["2007_000033", "2007_000042"]


def voc(root: Path) -> None:
    top = root / "VOCdevkit/VOC2012"
    for key in (*VOC_KEYS, "2007_000099"):  # the last is in no list
        photo(top / f"JPEGImages/{key}.jpg")
    for key in VOC_KEYS:
        png(top / f"SegmentationClass/{key}.png", columns(0, 1, 20, 255), palette=True)
    text(top / "ImageSets/Segmentation/val.txt", *VOC_KEYS)


def voc_d2(root: Path) -> None:
    for key in VOC_KEYS:
        photo(root / f"pascal_voc_d2/images/validation/{key}.jpg")
        png(root / f"pascal_voc_d2/annotations_pascal21/validation/{key}.png", columns(0, 1, 20, 255))


def voc_cat_seg(root: Path, folder: str = "annotations_detectron2_bg") -> None:
    """The background is the last class."""
    top = root / "VOCdevkit/VOC2012"
    for key in VOC_KEYS:
        photo(top / f"JPEGImages/{key}.jpg")
        png(top / f"{folder}/val/{key}.png", columns(20, 0, 19, 255))
    text(top / "ImageSets/Segmentation/val.txt", *VOC_KEYS)


def context(root: Path) -> None:
    """Accordion, aeroplane, unknown and wood."""
    top = root / "VOCdevkit/VOC2010"
    for key in (*VOC_KEYS, "2007_000099"):
        photo(top / f"JPEGImages/{key}.jpg")
        mat(root / f"trainval/{key}.mat", LabelMap=columns(1, 2, 431, 458, dtype=np.uint16))
    text(top / "ImageSets/Main/val.txt", *VOC_KEYS)


def context_converted(root: Path) -> None:
    top = root / "VOCdevkit/VOC2010"
    for key in VOC_KEYS:
        photo(top / f"JPEGImages/{key}.jpg")
        png(top / f"SegmentationClassContext/{key}.png", columns(0, 1, 0, 59))
    text(top / "ImageSets/SegmentationContext/val.txt", *VOC_KEYS)


def tif(path: Path, *values: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(columns(*values, dtype=np.uint16)).save(path)


def context_d2(root: Path) -> None:
    for key in VOC_KEYS:
        photo(root / f"pascal_ctx_d2/images/validation/{key}.jpg")
        png(root / f"pascal_ctx_d2/annotations_ctx59/validation/{key}.png", columns(255, 0, 255, 58))
        tif(root / f"pascal_ctx_d2/annotations_ctx459/validation/{key}.tif", 0, 1, 430, 65535)


def context_san(root: Path) -> None:
    for key in VOC_KEYS:
        for folder in ("pcontext", "pcontext_full"):
            photo(root / f"{folder}/val/image/{key}.jpg")
        png(root / f"pcontext/val/label/{key}.png", columns(255, 0, 255, 58))
        tif(root / f"pcontext_full/val/label/{key}.tif", 0, 1, 430, 65535)


def context_cat_seg(root: Path) -> None:
    top = root / "VOCdevkit/VOC2010"
    for key in VOC_KEYS:
        photo(top / f"JPEGImages/{key}.jpg")
        png(top / f"annotations_detectron2/pc59_val/{key}.png", columns(255, 0, 255, 58))
        tif(top / f"annotations_detectron2/pc459_val/{key}.tif", 0, 1, 430, 65535)
    text(top / "ImageSets/Main/val.txt", *VOC_KEYS)


CITY_KEYS = ["frankfurt_000000_000294", "munster_000001_000019"]


def cityscapes(root: Path, kind: str = "labelIds", values: tuple[int, ...] = (7, 24, 33, 4)) -> None:
    for key in CITY_KEYS:
        place = f"val/{key.partition('_')[0]}/{key}"
        photo(root / f"leftImg8bit/{place}_leftImg8bit.png")
        png(root / f"gtFine/{place}_gtFine_{kind}.png", columns(*values))
        png(root / f"gtFine/{place}_gtFine_color.png", PHOTO)


def cityscapes_train_ids(root: Path) -> None:
    cityscapes(root, "labelTrainIds", (0, 11, 18, 255))


def cityscapes_27(root: Path) -> None:
    """Road, guard rail, bicycle, static."""
    cityscapes(root / "cityscapes", values=(7, 14, 33, 4))


def potsdam(root: Path) -> None:
    """Cars, buildings, trees, unlabeled."""
    for key in ("100_0_0", "100_0_1"):
        mat(root / f"potsdam/imgs/{key}.mat", img=np.concatenate([PHOTO, PHOTO[..., :1]], axis=2))
        mat(root / f"potsdam/gt/{key}.mat", gt=columns(4, 1, 3, 255, dtype=np.int32))
    text(root / "potsdam/labelled_test.txt", "100_0_0", "100_0_1")


def potsdam_mmsegmentation(root: Path) -> None:
    for key in ("2_10_0_0_512_512", "2_10_512_0_1024_512"):
        photo(root / f"potsdam/img_dir/val/{key}.png")
        png(root / f"potsdam/ann_dir/val/{key}.png", columns(5, 2, 4, 0))


def imagenet_of_concept_attention(root: Path) -> None:
    for key in ("0", "1"):
        photo(root / f"imagenet_segmentation/images/{key}.png")
        png(root / f"imagenet_segmentation/segmentation_masks/{key}.png", columns(0, 1, 1, 0))


def imagenet_mat(root: Path) -> None:
    """As MATLAB 7.3 writes it: references to arrays, whose axes are reversed."""
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "gtsegs_ijcv.mat", "w") as file:
        images, truths = (file.create_dataset(f"value/{name}", (2, 1), dtype=h5py.ref_dtype) for name in ("img", "gt"))
        for number in range(2):
            images[number, 0] = file.create_dataset(f"#refs#/image{number}", data=PHOTO.T).ref
            cell = file.create_dataset(f"#refs#/cell{number}", (1, 1), dtype=h5py.ref_dtype)
            cell[0, 0] = file.create_dataset(f"#refs#/truth{number}", data=columns(0, 1, 1, 0).T).ref
            truths[number, 0] = cell.ref


def camvid(root: Path) -> None:
    for key in ("0016E5_07959", "0016E5_07961"):
        photo(root / f"CamVid/val/{key}.png")
        png(root / f"CamVid/valannot/{key}.png", columns(0, 1, 10, 11))


def bsds(root: Path) -> None:
    """Two annotators: four regions, and two."""
    for key in ("101085", "101087"):
        photo(root / f"BSR/BSDS500/data/images/val/{key}.jpg")
        cells = np.empty((1, 2), dtype=object)
        for number, labels in enumerate((columns(1, 2, 3, 4), columns(2, 9))):
            cells[0, number] = {"Segmentation": labels.astype(np.uint16), "Boundaries": labels > 1}
        mat(root / f"BSR/BSDS500/data/groundTruth/val/{key}.mat", groundTruth=cells)


def folder(root: Path) -> None:
    photo(root / "images/a.jpg")
    photo(root / "images/b-2.png")
    for key in ("a", "b-2"):
        png(root / f"labels/{key}.png", columns(0, 1, 2, 255))
    text(root / "classes.txt", "sky", "sea", "sand")


def folder_of_regions(root: Path) -> None:
    for key in ("101085", "101087"):
        photo(root / f"images/{key}.jpg")
        for number, labels in {0: columns(5, 6, 7, 8), 2: columns(1, 2), 10: columns(3, 3, 3, 9)}.items():
            png(root / f"labels/{key}.{number}.png", labels)
