"""YOLO's polygons, by supervision and by Pillow."""

import warnings

import numpy as np
import pytest
import yaml
from exported import CLASSES, SIZE, category_maps, made
from PIL import Image, ImageDraw

import genseg
from genseg.segmentation.polygons import polygons

with warnings.catch_warnings(action="ignore"):  # it says that OpenCV is not there
    import supervision


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


def filled(mask: np.ndarray) -> np.ndarray:
    """The polygons of a mask, filled by Pillow."""
    drawn = np.zeros_like(mask)
    for ring in polygons(mask):
        canvas = Image.new("1", mask.shape[::-1])
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in ring.tolist()], fill=1, outline=1)
        drawn |= np.asarray(canvas)
    return drawn


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def masks(*lines: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in line] for line in lines])


@pytest.mark.parametrize(
    ("mask", "rings"),
    [
        (masks("###", "###", "###"), 1),
        (masks("##...", "##...", "...##", "...##"), 2),
        (masks("##..", "##..", "..##", "..##"), 1),  # touch at a corner
        (masks("#####", "#...#", "#...#", "#####"), 1),  # a hole, in a wall of one pixel
        (masks("#########", "#..##..##", "#..##..##", "#########", "#########"), 1),
        (masks("#######", "#.....#", "#.###.#", "#.###.#", "#.....#", "#######"), 2),  # an island in a hole
        (masks("##.##", "##.##", "#####", "##.##"), 1),
    ],
)
def test_filled_polygons_are_the_mask(mask, rings):
    assert len(list(polygons(mask))) == rings
    assert np.array_equal(filled(mask), mask)


def test_rings_turn_at_each_point_and_lines_are_left_out():
    (ring,) = polygons(masks("....", ".###", ".###", ".###"))
    assert sorted(map(tuple, ring.tolist())) == [(1, 1), (1, 3), (3, 1), (3, 3)]
    assert list(polygons(masks("#.##", "#...", "#...", "#..#"))) == []


def test_polygons_are_the_masks_of_a_run(run):
    found = [
        iou(filled(row.labels == mask.label), row.labels == mask.label) for row in run.rows() for mask in row.masks
    ]
    assert len(found) >= 40
    assert min(found) > 0.95
    assert np.mean(found) > 0.995


def test_supervision_reads_the_masks_of_a_run(run, tmp_path):
    genseg.export_run(run, "yolo-seg", tmp_path / "out", classes="streets", min_confidence=0.4)
    root = tmp_path / "out"
    found = supervision.DetectionDataset.from_yolo(
        str(root / "images/train"), str(root / "labels/train"), str(root / "data.yaml")
    )
    assert found.classes == list(CLASSES)
    order = [root / f"images/train/{name}" for name in
             ("street_a_photo.jpg", "street_b.png", "street_B-2.png", "c.png", "inside.webp")]  # fmt: skip
    by_path = {path: (image, detections) for path, image, detections in found}
    assert set(by_path) == {str(path) for path in order}
    for path, row, categories in zip(order, run.rows(), category_maps(run, 0.4), strict=True):
        image, detections = by_path[str(path)]
        assert image.shape[:2] == row.size
        for category in np.unique(categories[categories >= 0]):
            mine = detections.mask[detections.class_id == category].any(axis=0)
            assert iou(mine, categories == category) > 0.95


def test_supervision_reads_coco_with_images_that_are_linked(run, tmp_path):
    genseg.export_run(run, "coco-instances", tmp_path / "out")
    paths = [str(tmp_path / "out" / name) for name in ("images", "annotations/instances.json")]
    found = supervision.DetectionDataset.from_coco(*paths, force_masks=True)
    sizes = [(image.shape[:2], len(detections)) for _, image, detections in found]
    assert sizes == [(row.size, len(row.masks)) for row in run.rows()]


def test_lines_are_fractions_from_which_rounding_and_cutting_off_find_the_same_pixels(run, tmp_path):
    genseg.export_run(run, "yolo-seg", tmp_path / "out", images="none")
    lines = (tmp_path / "out/labels/train/street_b.txt").read_text().splitlines()
    row = list(run.rows())[1]
    rings = [ring for mask in row.masks for ring in polygons(row.labels == mask.label)]
    for line, ring in zip(lines, rings, strict=True):
        category, *numbers = line.split()
        assert category == "0"
        points = np.array(numbers, dtype=np.float32).reshape(-1, 2)
        assert points.min() >= 0
        assert points.max() < 1
        assert np.array_equal((points * np.array(SIZE, np.float32)).astype(int), ring)
        assert np.array_equal(np.round(points * np.array(SIZE, np.float32)).astype(int), ring)


def test_data_yaml_has_the_names(run, tmp_path):
    genseg.export_run(run, "yolo-seg", tmp_path / "out", classes="mine", images="none")
    found = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert found == {
        "train": "images/train", "val": "images/train", "names": {0: "thing", 1: "stuff", 2: '"x" & <y>'}
    }  # fmt: skip
    assert not (tmp_path / "out/images").exists()
