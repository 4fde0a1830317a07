"""The commands that measure quality, on two photos a set."""

import json

import pytest
from PIL import Image

import calibrate_tiny
import genseg
import quality
from genseg.evaluation.metrics import IGNORE

CHEAP = ["draws=1", "replay_steps=1", "n_init=1", "size=32", "margin=0"]


@pytest.mark.slow
def test_quality_measures_every_method_and_resumes(data, monkeypatch, capsys):
    out = data / "results" / "quality.json"
    command = ["--data", str(data), "--sets", "camvid", "bsds", *CHEAP, "--clusters", "4", "--out", str(out)]
    quality.main(command)
    report = json.loads(out.read_text())
    assert set(report["sets"]) == {"camvid", "bsds"}
    for figures in report["sets"].values():
        assert figures["images"] == 2
        assert set(figures["methods"]) == set(quality.METHODS)
        for entry in figures["methods"].values():
            low, high = entry["interval"]["accuracy"]
            assert 0 <= low <= entry["accuracy"] <= high <= 1
            assert 0 < entry["covering"] <= 1
        assert figures["methods"]["rgb-kmeans"]["accuracy"] > 0.95  # four plain colors
        assert figures["methods"]["naive"]["gain_over_naive"]["miou"] == [0, 0]
    assert report["recipe"]["n_clusters"] == 4
    assert report["recipe"]["draws"] == 1
    assert all(len(digest) == 64 for digest in report["weights_sha256"].values())
    assert "modulation-rms" in capsys.readouterr().out

    monkeypatch.setattr(quality, "model_labels", None)  # a second run needs no model
    quality.main(command)
    assert json.loads(out.read_text())["sets"] == report["sets"]


def test_modulation_is_what_the_segmenter_does(data):
    backend = genseg.load_backend("tiny")
    square = quality.center_square(Image.open(data / "camvid" / "images" / "one.png"))
    square = square.resize((quality.SIDE, quality.SIDE))
    options = [*CHEAP, "n_clusters=3", "margin=16", "tap=up1.0.output", "strength=5", "normalise=rms", "modulate=true"]
    recipe = genseg.load_recipe(backend.preset, calibration=backend.recipe, options=options)
    labels = quality.model_labels(backend, square, recipe, seed=3)["modulation"]
    assert (labels == genseg.Segmenter(backend, recipe, seed=3)(square).labels).all()


@pytest.mark.slow
def test_calibration_sweeps_one_factor_at_a_time_and_resumes(data, monkeypatch, capsys):
    out = data / "sweep.jsonl"
    command = ["--data", str(data), "--sets", "camvid", "--images", "1", "--clusters", "3", "--out", str(out), *CHEAP]
    calibrate_tiny.main([*command, "--grid", "strength=5"])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["setting"] for line in lines] == [CHEAP, [*CHEAP, "strength=5"]]
    assert set(lines[0]["results"]) == {"camvid", "mean"}
    assert lines[0]["results"]["camvid"]["naive"] == lines[1]["results"]["camvid"]["naive"]
    monkeypatch.setattr(calibrate_tiny, "measure", None)
    calibrate_tiny.main([*command, "--grid", "strength=5"])
    assert len(out.read_text().splitlines()) == 2
    assert "strength=5" in capsys.readouterr().out


def test_settings_of_a_sweep():
    grids = ["t_f=1,101", "tap=a,b"]
    assert calibrate_tiny.settings(grids, False) == [[], ["t_f=1"], ["t_f=101"], ["tap=a"], ["tap=b"]]
    assert ["t_f=101", "tap=a"] in calibrate_tiny.settings(grids, True)
    with pytest.raises(ValueError, match="key=value"):
        calibrate_tiny.settings(["t_f"], False)


def test_photos_are_evenly_spaced_and_cropped_with_their_labels(data):
    samples, n_classes = quality.load_set(data / "camvid", 1)
    assert [sample.name for sample in samples] == ["one"]
    assert n_classes == 4
    assert samples[0].square.size == (150, 150)
    assert samples[0].truths[0].shape == (quality.SIDE, quality.SIDE)
    assert (samples[0].truths[0][0] == IGNORE).all()
