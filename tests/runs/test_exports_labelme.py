"""labelme's JSON, read by the rules of its own loader and compared pixel by pixel."""

from pathlib import Path

import labelme_files
import numpy as np
import pytest
from exported import KEYS, made
from scipy import ndimage

import genseg
from genseg.segmentation.labelme import document, shapes_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("smooth", [0, 0.7, 2])
def test_shapes_are_the_pixels_of_a_mask(smooth):
    mask = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((60, 80)), smooth) > 0
    content = document(list(shapes_of(mask, "x", 7)), "x.png", mask.shape)
    assert {shape["shape_type"] for shape in content["shapes"]} == {"polygon", "mask"}
    (found,) = labelme_files.instances(content).values()
    assert np.array_equal(found, mask)


def test_parts_are_polygons_but_for_holes_and_lines():
    mask = np.zeros((12, 30), dtype=bool)
    mask[1:6, 1:6] = mask[1:11, 10:20] = mask[9, 22:28] = True
    mask[4:6, 13:15] = False
    block, hole, line = sorted(shapes_of(mask, "x", 7, 0.5), key=lambda shape: shape["points"][0][0])
    assert block["shape_type"] == "polygon"
    assert sorted(block["points"]) == [[1, 1], [1, 5], [5, 1], [5, 5]]
    assert (hole["shape_type"], hole["points"]) == ("mask", [[10, 1], [19, 10]])
    assert (line["shape_type"], line["points"]) == ("mask", [[22, 9], [27, 9]])
    assert {(shape["group_id"], shape["description"]) for shape in (block, hole, line)} == {(7, "confidence 0.50")}


def test_a_run_is_read_back_beside_its_images(run, tmp_path):
    names = "thing", "stuff", '"x" & <y>'
    genseg.export_run(run, "labelme", tmp_path / "out", classes="mine", min_confidence=0.4)
    files = ["street/a_photo", "street/b", "street/B-2", "c", "inside"]
    for row, key, name in zip(run.rows(classes="mine"), KEYS, files, strict=True):
        content, image = labelme_files.read(tmp_path / f"out/{name}.json")
        assert (content["key"], Path(content["imagePath"]).stem) == (key, Path(name).name)
        assert np.array_equal(image, np.asarray(row.picture()))
        kept = np.where(row.confidence < 0.4, -1, row.labels)
        found = labelme_files.instances(content)
        labels = [label for label in np.unique(kept[kept >= 0]).tolist() if row.classes[label] >= 0]
        assert found.keys() == {(names[row.classes[label]], label) for label in labels}
        assert all(np.array_equal(mask, kept == label) for (_, label), mask in found.items())


def test_images_that_are_left_out_are_named_by_their_place(run, tmp_path):
    genseg.export_run(run, "labelme", tmp_path / "out", images="none", limit=1)
    content, image = labelme_files.read(tmp_path / "out/street/a_photo.json")
    assert np.array_equal(image, np.asarray(next(run.rows()).picture()))
    assert {shape["label"] for shape in content["shapes"]} == {"segment"}
