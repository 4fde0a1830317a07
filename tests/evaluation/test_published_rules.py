"""Rules of published methods: each sets what its code does, and is named wherever its numbers are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from genseg.cli import app
from genseg.errors import GensegError
from genseg.evaluation.datasets import Dataset, from_rows
from genseg.evaluation.evaluate import evaluate
from genseg.evaluation.method import Masks
from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.protocols import PROTOCOLS
from genseg.evaluation.published_rules import DIFFCUT, RULES, Rules, merged
from genseg.evaluation.refinements import REFINEMENTS, refined
from genseg.evaluation.resolution import RESOLUTIONS
from genseg.evaluation.results_table import rows_of

FIELDS = np.zeros((64, 64), dtype=np.uint8)  # background on the left in two colors, two objects on the right
FIELDS[32:, :32], FIELDS[:32, 32:], FIELDS[32:, 32:] = 1, 2, 3
COLORS = np.array([[30, 30, 30], [220, 220, 30], [200, 40, 40], [40, 40, 200]], dtype=np.uint8)
SETTINGS = {"methods": ("rgb-kmeans",), "n_clusters": 4}


def rows(classes: tuple[str, ...], labels: list[int], name: str = "rows") -> Dataset:
    """One photo of four fields with the given labels."""
    return from_rows(
        [{"image": Image.fromarray(COLORS[FIELDS]), "label": np.array(labels, np.uint8)[FIELDS]}],
        classes=classes, name=name,
    )  # fmt: skip


def scores(dataset: Dataset, out: Path, rules: str) -> dict[str, float]:
    figures = evaluate(dataset, out, rules=rules, **SETTINGS).results["figures"]["rgb-kmeans"][rules]
    return {name: figures[name]["value"] for name in ("miou", "accuracy")}


# --- DiffCut's background -------------------------------------------------------------------------------------------


def test_segments_of_the_background_count_as_one(tmp_path):
    classes = ("background", "cat", "dog")
    found = scores(rows(classes, [0, 0, 1, 2]), tmp_path / "merged", "diffcut")
    assert found["miou"] > 0.97
    other = scores(rows(("ground", "cat", "dog"), [0, 0, 1, 2]), tmp_path / "apart", "diffcut")
    assert other["accuracy"] == pytest.approx(0.75, abs=0.02)  # without a background, one of the two takes no class


def test_what_is_not_measured_counts_as_background(tmp_path):
    classes = ("background", "cat", "dog")
    found = scores(rows(classes, [255, 0, 1, 2]), tmp_path / "out", "diffcut")
    assert found["miou"] > 0.97
    assert found["accuracy"] > 0.97


def test_merged_segments_have_the_number_after_the_last():
    segments = np.array([[0, 1, 2, 3]], np.int32)
    assert merged(segments, np.array([[2, 0, 2, 2]]), 3).tolist() == [[4, 1, 4, 4]]
    assert merged(segments, np.array([[0, 1, 0, IGNORE]]), 3)[0, 1] == 1


def test_background_comes_last_and_void_with_it():
    dataset = DIFFCUT.labels(rows(("background", "cat", "dog"), [0, 1, 2, 255], "voc-21"))
    assert dataset.classes == ("cat", "dog", "background")
    truth = dataset[dataset.keys[0]].truths[0]
    assert truth[[0, 63, 0, 63], [0, 0, 63, 63]].tolist() == [2, 0, 1, 2]


def test_what_is_no_class_of_pascal_context_is_its_background():
    names = tuple(f"class{i}" for i in range(59))
    dataset = DIFFCUT.labels(rows(names, [0, 58, 255, 255], "pascal-context-59"))
    assert (dataset.n_classes, dataset.classes[-1]) == (60, "background")
    assert np.unique(dataset[dataset.keys[0]].truths[0]).tolist() == [0, 58, 59]


def test_other_things_of_ade20k_are_a_class_and_its_last_class_is_none():
    names = tuple(f"class{i}" for i in range(150))
    dataset = DIFFCUT.labels(rows(names, [0, 148, 149, 255], "ade20k-150"))
    assert dataset.classes == ("other", *names[:149])
    truth = dataset[dataset.keys[0]].truths[0]
    assert truth[[0, 63, 0, 63], [0, 0, 63, 63]].tolist() == [1, 149, IGNORE, 0]


def test_the_median_follows_the_refinement_of_diffcut():
    lines = np.zeros((32, 32), np.int32)
    lines[:, 10], lines[20:, :] = 7, 9  # numbers with gaps, as after merging
    image = Image.fromarray(COLORS[np.unique(lines, return_inverse=True)[1].reshape(32, 32)])
    thin, thick = (refined(Masks(lines), image, how).segments for how in ("pamr", "pamr-diffcut"))
    assert (thin[:16, 10] == 1).all()
    assert (thick[:19] == 0).all()  # without the line of one pixel
    assert thick[19, 8:13].tolist() == [0, 1, 1, 1, 0]  # where 0, 1 and 2 meet, for the median is of numbers
    assert (thick[20:] == 2).all()


# --- names ----------------------------------------------------------------------------------------------------------


def test_every_rule_goes_by_its_name_and_names_what_exists():
    assert {name.partition("+")[0] for name in RULES} == {"diffcut", "diffseg", "stego", "cause", "seg4diff"}
    for name, rules in RULES.items():
        assert rules.name == name
        assert rules.protocol in PROTOCOLS
        assert {rules.resolution, *rules.resolutions.values()} <= set(RESOLUTIONS)
        assert (rules.refine in REFINEMENTS) == ("+" in name)


def test_results_say_their_rules_everywhere(tmp_path):
    evaluation = evaluate(rows(("a", "b", "c"), [0, 0, 1, 2]), tmp_path, rules="seg4diff", **SETTINGS)
    evaluation.to_json(tmp_path / "results.json")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["rules"] == results["rules"]["name"] == "seg4diff"
    assert results["rules"]["differences"] == ["the code of cvlab-kaist/Seg4Diff does not evaluate rows"]
    assert results["figures"]["rgb-kmeans"]["seg4diff"]["protocol"] == "seg4diff"
    assert evaluation.rows()[0]["protocol"] == "seg4diff"
    said = "rules seg4diff (but the code of cvlab-kaist/Seg4Diff does not evaluate rows)"
    assert said in evaluation.caption()
    assert said in evaluation._repr_html_()
    assert said in evaluation.to_markdown(tmp_path / "table.md").read_text()
    assert said in evaluation.to_latex(tmp_path / "table.tex").read_text()
    assert evaluation.plot().axes[0].get_title().endswith("protocol seg4diff")
    assert [row.rule for row in rows_of(tmp_path / "results.json")] == ["seg4diff"]


def test_rules_do_not_mix_in_one_folder(tmp_path):
    dataset = rows(("a", "b", "c"), [0, 0, 1, 2])
    evaluate(dataset, tmp_path, rules="diffseg", **SETTINGS)
    with pytest.raises(GensegError, match="another rules; choose another output folder"):
        evaluate(dataset, tmp_path, protocols=("per-image-hungarian-all",), resolution="diffseg", **SETTINGS)
    with pytest.raises(GensegError, match=r"another .*rules"):
        evaluate(dataset, tmp_path, rules="diffcut", **SETTINGS)


def test_rules_stand_alone(tmp_path):
    dataset = rows(("a", "b", "c"), [0, 0, 1, 2])
    with pytest.raises(GensegError, match="set protocol, resolution, refinement and parts"):
        evaluate(dataset, tmp_path, rules="diffcut", resolution="128", **SETTINGS)
    with pytest.raises(GensegError, match="unknown rules 'diffsex': did you mean diffseg"):
        evaluate(dataset, tmp_path, rules="diffsex", **SETTINGS)


def test_the_command_refuses_what_rules_set(tmp_path):
    (tmp_path / "images").mkdir()
    line = ["evaluate", "folder", str(tmp_path), "--rules", "stego", "--min-pixels", "3", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code != 0
    assert "--rules stego sets what --min-pixels would" in result.output + str(result.exception)


def test_differences_name_the_images():
    dataset = rows(("a", "b"), [0, 0, 1, 1], "coco-object")
    assert DIFFCUT.differences(dataset, 0) == ["the images are those of all in place of val-curated", "0 of 1 images"]
    assert (DIFFCUT.split_of("coco-object"), DIFFCUT.split_of("camvid-11")) == ("val-curated", None)
    own = Rules("mine", "me/mine", "oracle", "full", splits={"coco-object": "all"})
    assert own.differences(dataset, 1) == []
