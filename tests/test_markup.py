"""Results as notebooks show them: small pictures, figures in tables, and no text that is taken for HTML."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from genseg import Calibration, Comparison, Cost, Recipe, Segmentation
from genseg.calibration.trials import Trial
from genseg.comparison.inputs import Failure
from genseg.display.palette import palette
from genseg.evaluation.results import Evaluation

NAME = "<b>me & mine</b>"
ESCAPED = "&lt;b&gt;me &amp; mine&lt;/b&gt;"


def cells(html: str) -> list[list[str]]:
    """The cells of a table's rows, headings first."""
    assert NAME not in html
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in html.split("<tr>")[1:]]


@pytest.fixture(scope="module")
def seg() -> Segmentation:
    """A photo of 900×600 pixels in three stripes."""
    labels = np.repeat(np.arange(3, dtype=np.int32), 300)[None].repeat(600, axis=0)
    return Segmentation(
        labels=labels,
        grid_labels=labels[::300, ::300],
        embeddings=np.eye(3, dtype=np.float32),
        colors=palette(3),
        image=np.full((600, 900, 3), 100, dtype=np.uint8),
        scores=None,
        cost=Cost(39, 30, {"features": 1.25, "modulate": 3.0}),
        recipe=Recipe(),
        backend=NAME,
        seed=7,
    )


def test_a_segmentation_shows_image_and_overlay_small_and_facts(seg):
    html = seg._repr_html_()
    photo, overlay = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
        for data in re.findall(r"src=\"data:image/\w+;base64,([^\"]+)", html)
    )
    assert photo.shape == overlay.shape == (267, 400, 3)
    assert np.abs(photo - 100).max() <= 3
    assert np.abs(overlay[100, 50] - (50 + seg.colors[0] / 2)).max() <= 8
    assert f"{ESCAPED}, 3 segments, 900×600 pixels, seed 7; 4.2 s, 39 model evaluations" in html
    assert NAME not in html


def test_the_picture_alone_has_both_small_and_small_ones_are_not_made_large(seg):
    picture = Image.open(io.BytesIO(seg._repr_jpeg_()))
    assert picture.size == (804, 267)
    seen = np.asarray(picture).astype(int)
    assert np.abs(seen[100, 50] - 100).max() <= 3
    assert np.abs(seen[100, 454] - (50 + seg.colors[0] / 2)).max() <= 8
    little = replace(seg, labels=seg.labels[::20, ::20], image=seg.image[::20, ::20])
    assert Image.open(io.BytesIO(little._repr_jpeg_())).size == (94, 30)


def test_a_comparison_is_a_row_for_each_model():
    figures = {"segments": (12.0, 15.0), "seconds": (1.234, 20.0), "evaluations": (39.0, 814.0)}
    summary = [
        {"first": name, "second": "", "figure": figure, "mean": values[i], "low": 0.0, "high": 1.0}
        for i, name in enumerate(("tiny", NAME))
        for figure, values in figures.items()
    ]
    summary.append({"first": "tiny", "second": NAME, "figure": "ari", "mean": 0.4567, "low": 0.0, "high": 1.0})
    comparison = Comparison(
        images=pd.DataFrame({"image": ["a", "a", "b", "b"]}),
        pairs=pd.DataFrame(),
        summary=pd.DataFrame(summary),
        failures=pd.DataFrame([Failure("", "c", "is damaged")]),
        recipes={"tiny": Recipe(), NAME: Recipe()},
        protocols=[],
        seed=3,
        folder=Path(),
    )
    assert cells(comparison._repr_html_()) == [
        ["backend", "segments", "seconds", "evaluations", "ARI to tiny", f"ARI to {ESCAPED}"],
        ["tiny", "12", "1.23", "39", "", "0.46"],
        [ESCAPED, "15", "20", "814", "0.46", ""],
    ]
    assert "2 models, means over 2 images, seed 3; 1 left out, see failures" in comparison._repr_html_()


def test_a_calibration_is_a_row_for_each_factor():
    start = {"tap": "up", "channels": "all", "t_f": 1, "point": NAME, "t_m": 281, "strength": 10.0}
    trials = [Trial("0", start, 0.25), Trial("1", start | {"strength": 25.0}, 0.5), Trial("2", start | {"t_m": 1}, 0.1)]
    calibration = Calibration(
        recipe=Recipe(strength=25.0),
        trials=trials,
        best=trials[1],
        backend="mine",
        model=None,
        preset="paper",
        shipped=Recipe(),
        criterion="mean of this & that",
        images=4,
        seed=3,
        date="2026-01-31",
    )
    assert cells(calibration._repr_html_()) == [
        ["factor", "chosen", "best score by value"],
        ["tap", "up", "up: 0.500"],
        ["channels", "all", "all: 0.500"],
        ["t_f", "1", "1: 0.500"],
        ["point", ESCAPED, f"{ESCAPED}: 0.500"],
        ["t_m", "281", "1: 0.100, 281: 0.500"],
        ["strength", "25.0", "10.0: 0.250, 25.0: 0.500"],
    ]
    words = "mine, mean of this &amp; that: score 0.500, 0.250 to begin with; 4 images, seed 3"
    assert words in calibration._repr_html_()


def test_an_evaluation_is_its_table():
    figure = {"value": 0.4831, "interval": [0.4, 0.5]}
    results = {
        "dataset": {"name": NAME, "split": "val", "images": 5},
        "settings": {"model": {"backend": "tiny"}, "resolution": "512", "recipe": {"n_clusters": 15}},
        "figures": {"modulation": {"oracle": {"miou": figure}}, "naive": {"oracle": {"miou": figure}}},
    }
    evaluation = Evaluation(results, store=None, dataset=None)
    row = ["oracle", "modulation", "0.483 [0.400, 0.500]"]
    assert cells(evaluation._repr_html_()) == [
        ["protocol", "method", "mIoU"],
        row,
        ["oracle", "naive", row[-1]],
    ]
    assert f"{ESCAPED} (val), 5 images" in evaluation._repr_html_()


def test_colors_are_stable_and_distinct():
    assert np.array_equal(palette(5), palette(40)[:5])
    assert len(np.unique(palette(40), axis=0)) == 40
