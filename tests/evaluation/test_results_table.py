"""Results of several evaluations in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from genseg.cli import app
from genseg.evaluation.results_table import read_table, to_markdown


@pytest.fixture
def results() -> dict[str, object]:
    """The parts of an evaluation's results.json that a table has."""
    figure = {"value": 0.5, "interval": [0.25, 0.75]}
    scores = dict.fromkeys(("miou", "accuracy", "boundary_f", "covering"), figure)
    return {
        "dataset": {"name": "folder", "split": "all", "images": 3},
        "settings": {
            "genseg": "0.1.0",
            "resolution": "128",
            "refine": "pamr",
            "min_pixels": 16,
            "model": {"backend": "tiny", "model": "", "revision": None, "load": {}},
            "recipe": {"n_clusters": 15, "t_m": 281},
        },
        "figures": {"modulation": {"oracle": scores}, "naive": {"oracle": scores | {"miou": figure | {"value": 0.6}}}},
    }


def added(*arguments: str | Path) -> str:
    outcome = CliRunner().invoke(app, ["results", "add", *map(str, arguments)])
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def test_a_table_has_a_row_for_each_method_and_replaces_what_was_measured_again(results, tmp_path):
    table, file = tmp_path / "table.csv", tmp_path / "results.json"
    file.write_text(json.dumps(results))
    assert "2 rows, 2 new and 0 replaced" in added(file, "--table", table, "--dataset", "mine")
    modulation = results["figures"].pop("modulation")
    results["figures"]["naive"]["oracle"]["miou"] = {"value": 0.4, "interval": [0.3, 0.5]}
    file.write_text(json.dumps(results))
    assert "2 rows, 0 new and 1 replaced" in added(tmp_path, "--table", table, "--dataset", "mine")
    first, second = read_table(table)
    assert (first.method, first.miou, second.method, second.miou) == ("modulation", 0.5, "naive", 0.4)
    assert (first.dataset, first.rule, first.clusters, first.images) == (
        "mine",
        "oracle + pamr + parts of 16 pixels",
        "15",
        3,
    )
    results["settings"]["recipe"]["t_m"] = 1
    results["figures"] = {"modulation": modulation}
    file.write_text(json.dumps(results))
    assert "3 rows, 1 new" in added(file, "--table", table, "--dataset", "mine")


def test_a_file_that_holds_no_results_costs_the_others_nothing(results, tmp_path):
    table, file, other = tmp_path / "table.csv", tmp_path / "results.json", tmp_path / "other.json"
    file.write_text(json.dumps(results))
    other.write_text("[1]")
    outcome = CliRunner().invoke(app, ["results", "add", str(other), str(file), "--table", str(table)])
    assert outcome.exit_code == 1
    assert "other.json holds no results; give the results.json of 'genseg evaluate'" in outcome.output
    assert len(read_table(table)) == 2


def test_a_path_that_does_not_exist_is_refused_before_anything_is_added(results, tmp_path):
    table, file = tmp_path / "table.csv", tmp_path / "results.json"
    file.write_text(json.dumps(results))
    outcome = CliRunner().invoke(app, ["results", "add", str(file), str(tmp_path / "none"), "--table", str(table)])
    assert outcome.exit_code == 2
    assert outcome.output == f"genseg: {tmp_path}/none does not exist; check the path\n"
    assert not table.exists()


def test_a_reproduction_adds_the_rows_that_were_measured(tmp_path):
    row = {
        "dataset": "ade20k-150", "split": "validation", "images": 2000, "protocol": "concept", "resolution": "full",
        "method": "modulation", "model": {"backend": "sd14", "model": "CompVis/stable-diffusion-v1-4"},
        "n_clusters": 30, "recipe": "0123abcd", "genseg": "0.1.0", "ours": {"value": 33.0, "interval": [32.5, 33.5]},
    }  # fmt: skip
    tables = {"2": {"rows": [row, row | {"method": "naive", "ours": None}]}}
    (tmp_path / "reproduction.json").write_text(json.dumps({"source": "", "tables": tables}))
    added(tmp_path, "--table", tmp_path / "table.csv")
    page = to_markdown(read_table(tmp_path / "table.csv"))
    assert page.splitlines()[0] == "### ade20k-150 (validation), concept, resolution full"
    assert (
        page.splitlines()[-1]
        == "| sd14 | modulation | 30 | 2000 | 33.0 [32.5,\N{NO-BREAK SPACE}33.5] | – | – | – | `0123abcd` |"
    )


def test_another_file_is_not_overwritten_as_a_table(results, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    outcome = CliRunner().invoke(app, ["results", "add", str(tmp_path), "--table", str(tmp_path / "notes.csv")])
    assert outcome.exit_code == 2
    assert "notes.csv is no table of results; give another file with --table" in outcome.output
    assert (tmp_path / "notes.csv").read_text() == "a,b\n1,2\n"
