"""CVAT's XML, decoded by the rule that CVAT publishes and compared pixel by pixel."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from exported import made, segmented
from PIL import Image
from scipy import ndimage

import genseg
from genseg.cli.files import write
from genseg.segmentation.cvat import mask_element


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


def decoded(element: ET.Element, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a mask: its runs, of 0 first, along the rows of its box."""
    left, top, width, height = (int(element.attrib[name]) for name in ("left", "top", "width", "height"))
    runs = [int(run) for run in element.attrib["rle"].split(",")]
    box = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = np.zeros(size, dtype=bool)
    mask[top : top + height, left : left + width] = box
    return mask


def images_of(file: Path) -> Iterator[tuple[dict[str, str], list[tuple[str, str, np.ndarray]]]]:
    """Each image's attributes, and of its masks the label, the confidence and the pixels."""
    for image in ET.parse(file).getroot().iter("image"):
        size = int(image.attrib["height"]), int(image.attrib["width"])
        masks = [(each.attrib["label"], each.findtext("attribute"), decoded(each, size)) for each in image]
        yield image.attrib, masks


@pytest.mark.parametrize("corner", [False, True])
def test_runs_are_the_pixels_of_a_mask(corner):
    mask = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((20, 30)), 1) > 0.2
    mask[:2], mask[:, -3:] = False, False
    mask[2, 0] = corner
    assert np.array_equal(decoded(ET.fromstring(mask_element(mask, "x")), mask.shape), mask)


def test_a_run_is_read_back_with_its_labels(run, tmp_path):
    names = "thing", "stuff", '"x" & <y>'
    genseg.export_run(run, "cvat", tmp_path / "out", classes="mine", min_confidence=0.4)
    meta = ET.parse(tmp_path / "out/annotations.xml").getroot().find("meta/task")
    labels = json.loads((tmp_path / "out/labels.json").read_text())
    assert tuple(label.findtext("name") for label in meta.iter("label")) == names
    assert tuple(label["name"] for label in labels) == names
    images = list(images_of(tmp_path / "out/annotations.xml"))
    for number, (row, (image, masks)) in enumerate(zip(run.rows(classes="mine"), images, strict=True)):
        with Image.open(tmp_path / "out/images" / image["name"]) as picture:
            assert (image["id"], picture.size) == (str(number), row.size[::-1])
        kept = np.where(row.confidence < 0.4, -1, row.labels)
        expected = [label for label in np.unique(kept[kept >= 0]).tolist() if row.classes[label] >= 0]
        for label, (name, confidence, mask) in zip(expected, masks, strict=True):
            assert name == names[row.classes[label]]
            assert np.array_equal(mask, kept == label)
            assert float(confidence) == pytest.approx(row.confidence[mask].mean(dtype=float), abs=1e-3)


def test_a_segmentation_is_saved_beside_the_others(tmp_path):
    segmentation = segmented("coffee")
    write(segmentation, {"cvat": tmp_path / "a.cvat.xml"}, Path("photos/a & b.png"))
    ((image, masks),) = images_of(tmp_path / "a.cvat.xml")
    assert image["name"] == "a & b.png"
    assert {name for name, _, _ in masks} == {"segment"}
    assert np.array_equal(sum(label * mask for label, (_, _, mask) in enumerate(masks)), segmentation.labels)
