"""COCO's instances by pycocotools; the panoptic format by its rules and by torchmetrics."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from exported import CLASSES, category_maps, made
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import PanopticQuality
from typer.testing import CliRunner

import genseg
from genseg.cli import app
from genseg.exports.coco_panoptic import rgb_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


def quietly(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


@pytest.mark.parametrize("classes", [None, "streets"])
def test_pycocotools_finds_the_masks_of_the_run(run, tmp_path, classes):
    genseg.export_run(run, "coco-instances", tmp_path / "out", classes=classes)
    coco = quietly(COCO, str(tmp_path / "out/annotations/instances.json"))
    names = CLASSES if classes else ("segment",)
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(names)
    for number, row in zip(coco.getImgIds(), run.rows(classes=classes), strict=True):
        assert coco.imgs[number]["key"] == row.key
        drawn = np.full(row.size, -1)
        for one in coco.imgToAnns[number]:
            mask = coco.annToMask(one).astype(bool)
            rows, columns = np.nonzero(mask)
            assert one["area"] == mask.sum()
            left, top, width, height = one["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (width, height) == (columns.max() - left + 1, rows.max() - top + 1)
            (label,) = np.unique(row.labels[mask])
            drawn[mask] = label
            assert one["category_id"] == 1 + (row.classes[label] if classes else 0)
        kept = np.ones(row.size, bool) if classes is None else row.class_labels >= 0
        assert np.array_equal(drawn, np.where(kept, row.labels, -1))


def scores(truth: COCO, results: list[dict]) -> np.ndarray:
    evaluation = COCOeval(truth, quietly(truth.loadRes, results), "segm")
    for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        quietly(step)
    return evaluation.stats


def test_an_export_scores_an_ap_of_1_against_itself_and_less_against_a_changed_one(run, tmp_path):
    genseg.export_run(run, "coco-instances", tmp_path / "out", classes="streets")
    path = tmp_path / "out/annotations/instances.json"
    truth, results = quietly(COCO, str(path)), json.loads(path.read_text())["annotations"]
    assert scores(truth, results)[0] == pytest.approx(1)
    assert scores(truth, results[::2])[0] < 0.9


def panoptic(folder) -> tuple[dict, list[np.ndarray]]:
    """The JSON, and each PNG's ids, read as panopticapi reads them."""
    found = json.loads((folder / "annotations/panoptic.json").read_text())
    ids = []
    for one in found["annotations"]:
        pixels = np.asarray(Image.open(folder / "annotations/panoptic" / one["file_name"])).astype(int)
        ids.append(pixels[..., 0] + 256 * pixels[..., 1] + 256**2 * pixels[..., 2])
    return found, ids


def broken_rules(found: dict, ids: list[np.ndarray]) -> set[str]:
    """The rules that panopticapi's evaluation and COCO's page state of the format, those that do not hold."""
    broken = set()
    categories = {category["id"]: category for category in found["categories"]}
    images = {image["id"]: image for image in found["images"]}
    if [one["image_id"] for one in found["annotations"]] != list(images):
        broken.add("an annotation for each image")
    for one, numbers in zip(found["annotations"], ids, strict=True):
        image, segments = images[one["image_id"]], one["segments_info"]
        if numbers.shape != (image["height"], image["width"]):
            broken.add("size")
        given = [segment["id"] for segment in segments]
        if len(set(given)) < len(given) or 0 in given:
            broken.add("ids unique, and 0 is VOID")
        if set(given) != set(np.unique(numbers).tolist()) - {0}:
            broken.add("the same ids in PNG and JSON")
        stuff = [s["category_id"] for s in segments if not categories.get(s["category_id"], {"isthing": 1})["isthing"]]
        if len(set(stuff)) < len(stuff):
            broken.add("one segment of stuff")
        for segment in segments:
            rows, columns = np.nonzero(numbers == segment["id"])
            if segment["category_id"] not in categories:
                broken.add("known categories")
            if segment["area"] != len(rows):
                broken.add("areas")
            if len(rows) and segment["bbox"] != [
                columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
            ]:  # fmt: skip
                broken.add("boxes")
            if segment["iscrowd"] != 0:
                broken.add("no crowds")
    return broken


@pytest.mark.parametrize("classes", [None, "streets"])
def test_panoptic_files_keep_the_rules_and_hold_the_run(run, tmp_path, classes):
    genseg.export_run(run, "coco-panoptic", tmp_path / "out", classes=classes, min_confidence=0.4)
    found, ids = panoptic(tmp_path / "out")
    assert broken_rules(found, ids) == set()
    assert all(category["isthing"] == (classes is None) for category in found["categories"])
    maps = category_maps(run, 0.4) if classes else [
        np.where(row.confidence < 0.4, -1, row.labels) for row in run.rows()
    ]  # fmt: skip
    for numbers, expected in zip(ids, maps, strict=True):
        assert np.array_equal(numbers, expected + 1)
        assert (numbers == 0).any()
    for one, row in zip(found["images"], run.rows(), strict=True):
        assert one["key"] == row.key
        assert one["file_name"].endswith(".jpg")  # which detectron2 makes of any name


def test_things_are_segments_by_mask_and_stuff_by_class(run, tmp_path):
    """panopticapi averages over things and over stuff, and divides by the number of each: both must occur."""
    out = tmp_path / "out"
    arguments = [run.store.url, "coco-panoptic", "-o", str(out), "--classes", "streets", "--things", "car, road"]
    assert CliRunner().invoke(app, ["export", *arguments], catch_exceptions=False).exit_code == 0
    found, ids = panoptic(out)
    assert broken_rules(found, ids) == set()
    assert [category["isthing"] for category in found["categories"]] == [1, 0, 1]  # road, sky, car
    for one, numbers, row in zip(found["annotations"], ids, run.rows(classes="streets"), strict=True):
        category_of = {segment["id"]: segment["category_id"] - 1 for segment in one["segments_info"]}
        assert np.array_equal(np.vectorize({0: -1, **category_of}.get)(numbers), row.class_labels)
        for number, category in category_of.items():
            labels = np.unique(row.labels[numbers == number])
            assert len(labels) == (1 if CLASSES[category] != "sky" else (row.classes == 1).sum())


def test_panoptic_files_of_different_folders_have_different_last_parts(run, tmp_path):
    """detectron2's evaluator writes predictions under the last part of the image's name, into one folder."""
    genseg.export_run(run, "coco-panoptic", tmp_path / "out")
    found = json.loads((tmp_path / "out/annotations/panoptic.json").read_text())
    for entries in (found["images"], found["annotations"]):
        assert not any("/" in entry["file_name"] for entry in entries)
        stems = [entry["file_name"].split(".") for entry in entries]
        assert all(len(parts) == 2 for parts in stems)  # panopticapi's converter takes what precedes the first dot
        assert [parts[0] for parts in stems] == ["street_a_photo", "street_b", "street_B-2", "c", "inside"]


def test_the_rules_can_be_broken(run, tmp_path):
    genseg.export_run(run, "coco-panoptic", tmp_path / "out", classes="streets")
    text = (tmp_path / "out/annotations/panoptic.json").read_text()
    _, ids = panoptic(tmp_path / "out")

    def after(change) -> set[str]:
        found = json.loads(text)
        change(found, found["annotations"][0]["segments_info"])
        return broken_rules(found, ids)

    assert after(lambda _, segments: segments.pop()) == {"the same ids in PNG and JSON"}
    assert after(lambda _, segments: segments[0].update(area=1)) == {"areas"}
    assert after(lambda _, segments: segments[0].update(category_id=9)) == {"known categories"}
    assert after(lambda _, segments: segments[0].update(bbox=[0, 0, 1, 1])) == {"boxes"}
    assert "ids unique, and 0 is VOID" in after(lambda _, segments: segments.append(segments[0]))
    assert "one segment of stuff" in after(lambda _, segments: segments.append(segments[0]))
    assert after(lambda found, _: found["images"][0].update(height=1)) == {"size"}
    assert after(lambda found, _: found["images"].reverse()) == {"an annotation for each image"}


def test_ids_beyond_a_byte_are_spread_over_the_channels():
    numbers = np.array([[0, 255, 256, 65_536 + 2 * 256 + 3]], dtype=np.int32)
    assert rgb_of(numbers).tolist() == [[[0, 0, 0], [255, 0, 0], [0, 1, 0], [3, 2, 1]]]


def quality(things: set[int], stuffs: set[int], pairs) -> float:
    metric = PanopticQuality(things=things, stuffs=stuffs, allow_unknown_preds_category=False)
    for truth, other in pairs:
        metric.update(torch.from_numpy(other)[None], torch.from_numpy(truth)[None])
    return float(metric.compute())


@pytest.mark.parametrize("classes", [None, "streets"])
def test_panoptic_quality_against_itself_is_1_and_less_against_a_changed_one(run, tmp_path, classes):
    """By torchmetrics: a pixel is its category and the number of its segment."""
    genseg.export_run(run, "coco-panoptic", tmp_path / "out", classes=classes)
    found, ids = panoptic(tmp_path / "out")
    maps = []
    for one, numbers in zip(found["annotations"], ids, strict=True):
        category_of = np.zeros(numbers.max() + 1, dtype=int)
        for segment in one["segments_info"]:
            category_of[segment["id"]] = segment["category_id"]
        maps.append(np.stack([np.where(numbers == 0, 99, category_of[numbers]), numbers], axis=-1))
    things = {category["id"] for category in found["categories"] if category["isthing"]}
    stuffs = {category["id"] for category in found["categories"]} - things | {99}
    assert quality(things, stuffs, zip(maps, maps, strict=True)) == pytest.approx(1)
    shifted = [np.roll(each, 40, axis=1) for each in maps]
    assert quality(things, stuffs, zip(maps, shifted, strict=True)) < 0.8
