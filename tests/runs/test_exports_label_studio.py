"""Pre-annotations, by Label Studio's own converter."""

import json

import numpy as np
import pytest
from exported import KEYS, made
from label_studio_converter.brush import decode_from_annotation, decode_rle
from label_studio_tools.core.label_config import parse_config

import genseg
from genseg.segmentation.label_studio import brush_rle


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 7), (40, 61), (200, 300)])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_label_studio_decodes_brush_masks(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    found = decode_rle(brush_rle(mask)).reshape(*shape, 4)
    assert np.array_equal(found, np.where(mask[..., None], 255, 0).repeat(4, axis=-1))


@pytest.mark.parametrize("length", [1, 2, 4, 8, 64, 4096, 16383, 16384, 16385, 32768, 40000])
def test_runs_of_every_length_are_decoded(length):
    mask = np.zeros((1, length + 3), bool)
    mask[0, 1 : length + 1] = True
    assert np.array_equal(decode_rle(brush_rle(mask))[3::4] > 0, mask[0])


def test_label_studio_finds_the_masks_of_a_run(run, tmp_path):
    genseg.export_run(run, "label-studio", tmp_path / "out", classes="mine", min_confidence=0.4)
    config = parse_config((tmp_path / "out/label_config.xml").read_text())
    assert set(config) == {"label"}
    assert (config["label"]["type"], config["label"]["labels"]) == ("BrushLabels", ["thing", "stuff", '"x" & <y>'])
    assert config["label"]["inputs"] == [{"type": "Image", "value": "image"}]
    tasks = json.loads((tmp_path / "out/tasks/00000.json").read_text())
    assert [task["data"]["key"] for task in tasks] == list(KEYS)
    for task, row in zip(tasks, run.rows(classes="mine"), strict=True):
        prefix, path = task["data"]["image"].split("?d=")
        assert prefix == "/data/local-files/"
        assert (tmp_path / "out" / path).exists()
        (prediction,) = task["predictions"]
        kept = np.where(row.confidence < 0.4, -1, row.labels)
        expected = {label for label in np.unique(kept[kept >= 0]).tolist() if row.classes[label] >= 0}
        assert {int(result["id"]) for result in prediction["result"]} == expected
        for result in prediction["result"]:
            names = {key: result[key] for key in ("from_name", "to_name", "image_rotation")}
            assert names == {"from_name": "label", "to_name": "image", "image_rotation": 0}
            flat = result | result["value"]  # as the converter has it of an annotation
            ((name, mask),) = decode_from_annotation("label", [flat]).items()
            label = int(result["id"])
            assert name == f"label-{config['label']['labels'][row.classes[label]]}-0"
            assert np.array_equal(mask > 0, kept == label)


def test_tasks_are_in_files_of_a_few(run, tmp_path, monkeypatch):
    monkeypatch.setattr("genseg.exports.label_studio.TASKS", 2)
    genseg.export_run(run, "label-studio", tmp_path / "out", images="none")
    files = sorted((tmp_path / "out/tasks").iterdir())
    assert [file.name for file in files] == ["00000.json", "00001.json", "00002.json"]
    tasks = [task for file in files for task in json.loads(file.read_text())]
    assert [task["data"]["key"] for task in tasks] == list(KEYS)
    assert tasks[4]["data"]["image"] == "s3://gone/inside"
    assert all(result["value"]["brushlabels"] == ["segment"] for result in tasks[0]["predictions"][0]["result"])
