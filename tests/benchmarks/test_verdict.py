"""The table of modulation beside upsamplers, on two photos a set."""

import json
from dataclasses import replace

import numpy as np
import pytest
import transformers
from PIL import Image

import genseg
import verdict
from genseg.evaluation.baselines import METHODS
from genseg.evaluation.method import MethodInput

CHEAP = ["draws=1", "replay_steps=1", "n_init=1", "size=32", "margin=0"]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Fit the Gaussians of upsample-anything in two steps."""
    monkeypatch.setattr("genseg.upsampling.splatting.STEPS", 2)


def test_shared_work_gives_the_segments_that_each_method_gives_alone(data, tiny):
    square = Image.open(data / "camvid" / "images" / "one.png")
    recipe = tiny.resolve(None, [*CHEAP, "n_clusters=3", "refine=none"])
    scene = MethodInput(square, (verdict.SIDE, verdict.SIDE), recipe, 3, genseg.Segmenter(tiny, recipe, seed=3))
    labels = verdict.labels_of(scene, [3, 4])
    assert len(labels) == 2 * len((*verdict.BASELINES, *verdict.MODULATED))
    for name, segments in labels.items():
        method, count = name.split()
        own = replace(recipe, n_clusters=int(count))
        alone = MethodInput(square, scene.size, own, 3, genseg.Segmenter(tiny, own, seed=3))
        expected = METHODS[method](alone).segments
        assert (np.unique(segments, return_inverse=True)[1].reshape(scene.size) == expected).mean() > 0.999, name


def test_the_table_has_every_comparison_and_a_second_run_resumes(data, monkeypatch):
    out = data / "results" / "verdict.json"
    command = ["--data", str(data), "--sets", "camvid", "bsds", *CHEAP, "--clusters", "3,4", "--out", str(out)]
    verdict.main(command)
    report, text = json.loads(out.read_text()), out.with_suffix(".md").read_text()
    assert [(entry["set"], entry["clusters"]) for entry in report["results"]] == [
        (name, count) for name in ("camvid", "bsds") for count in (3, 4)
    ]
    for entry in report["results"]:
        assert entry["images"] == 2
        assert len(entry["differences"]) == len(verdict.PAIRS)
        for first, other in verdict.PAIRS:
            difference = entry["scores"][first]["miou"] - entry["scores"][other]["miou"]
            low, high = entry["differences"][f"{first} − {other}"]["miou"]
            assert low - 1e-9 <= difference <= high + 1e-9
    assert "| modulation+jbu − jbu | " in text
    assert "camvid (2), K = 4" in text

    monkeypatch.setattr(verdict, "labels_of", None)
    verdict.main(command)
    assert out.with_suffix(".md").read_text() == text


def test_a_difference_is_bold_where_zero_lies_outside():
    assert verdict.cell([0.001, 0.02]) == "**+0.1 to +2.0**"
    assert verdict.cell([-0.02, -0.001]) == "**−2.0 to −0.1**"
    assert verdict.cell([-0.02, 0.001]) == "−2.0 to +0.1"
    assert verdict.standing([[0.1, 0.2], [-0.1, 0.2], [-0.2, -0.1], [-0.2, 0.0]]) == "1 / 2 / 1"


def test_an_encoder_is_compared_without_modulation(data):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 8}
    folder, out = data / "dinov2", data / "results" / "encoder.json"
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(folder)
    command = ["--data", str(data), "--sets", "camvid", "--encoder", "dinov2", "--model", str(folder)]
    verdict.main([*command, "--clusters", "3", "--out", str(out), "n_init=1"])
    assert "| jbu − naive | " in out.with_suffix(".md").read_text()
    assert set(json.loads(out.read_text())["results"][0]["scores"]) == set(verdict.BASELINES)
