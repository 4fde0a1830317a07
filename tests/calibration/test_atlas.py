"""The atlas of a model: its sites by timesteps, with clusters and scores."""

import re
from dataclasses import asdict

import numpy as np
import pytest
import torch
from commands import assert_refused, run

import genseg
from genseg.calibration.atlas import ROWS, principal_colors
from genseg.calibration.criterion import UnsupervisedCriterion
from genseg.calibration.trials import TrialRunner

SMALL = {"size": 64, "n_clusters": 4, "n_init": 1}
SITES = ["up1.2.output", "down2.output", "mid.output"]


@pytest.fixture(scope="module")
def atlas(tiny, photo):
    return genseg.atlas(photo, tiny, SITES, [201, 1], **SMALL)


def test_sites_are_in_the_order_in_which_they_run_and_timesteps_ascend(atlas):
    assert list(atlas.sites) == ["down2.output", "mid.output", "up1.2.output"]
    assert list(atlas.timesteps) == [1, 201]
    assert set(atlas.cells) == {(site, step) for site in SITES for step in (1, 201)}
    assert atlas.own == ("up1.2.output", 201)


def test_a_cell_has_the_clusters_and_the_score_of_calibration(atlas, tiny, photo):
    cell = atlas.cells["up1.2.output", 201]
    recipe = genseg.load_recipe(atlas.recipe, tap="up1.2.output", t_f=201)
    trials = TrialRunner(tiny, recipe, [photo])
    expected = trials.result(0, recipe, 0)
    assert (cell.grid_labels == expected.grid_labels).all()

    trial = trials.run("", recipe, UnsupervisedCriterion(), 0, lambda _: None)
    assert cell.terms == pytest.approx(trial.terms)
    assert cell.score == pytest.approx(trial.score)
    assert cell.colors.shape == (*cell.grid_labels.shape, 3)


@pytest.mark.parametrize("given", ["mapping", "file"])
def test_what_the_caller_gives_lies_over_what_makes_an_atlas_quick(tiny, photo, tmp_path, given):
    values = {"n_clusters": 12, "draws": 3, "n_init": 2, "size": 64, "margin": 16}
    recipe = {"preset": "fast", **values}
    if given == "file":
        recipe = tmp_path / "own.yaml"
        recipe.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    atlas = genseg.atlas(photo, tiny, "up1.2.output", [1], scores=False, recipe=recipe, options=["n_init=1"], draws=2)
    assert asdict(atlas.recipe).items() >= (values | {"n_init": 1, "draws": 2}).items()
    assert atlas.recipe.difference == "one-sided"
    own = genseg.atlas(photo, tiny, "up1.2.output", [1], scores=False, recipe=genseg.Recipe(**values)).recipe
    assert own == genseg.Recipe(**values)


def test_a_site_that_cannot_be_clustered_says_why_and_the_others_go_on(tiny, photo):
    atlas = genseg.atlas(photo, tiny, SITES, [1], **SMALL | {"n_clusters": 21})
    cell = atlas.cells["mid.output", 1]
    assert cell.grid_labels is None
    assert "exceeds" in cell.reason
    assert [best.site for best in atlas.best] == ["up1.2.output"]


def test_without_names_outputs_queries_and_the_own_tap_are_shown(tiny, photo):
    atlas = genseg.atlas(photo, tiny, timesteps=[1], scores=False, **SMALL)
    assert {name.rpartition(".")[2] for name in atlas.sites} == {"output", "query"}
    assert "up1.2.output" in atlas.sites
    assert 10 < len(atlas.sites) <= ROWS + 1
    assert not atlas.ranked


def test_parts_that_differ_have_other_colors_at_every_timestep_alike():
    features = torch.zeros(5, 4, 6)
    features[1, :, :3] = 1
    features[3, 2:] = 2
    colors = principal_colors([features, 10 * features + 3])
    assert (colors[0] == colors[1]).all()
    assert len(np.unique(colors[0].reshape(-1, 3), axis=0)) == 4
    assert principal_colors([torch.zeros(1, 1, 1)])[0].shape == (1, 1, 3)


def test_the_page_is_one_file_with_every_cell(atlas, tmp_path):
    page = atlas.to_html(tmp_path / "deep" / "atlas.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert all(f">{name}<small>" in page for name in atlas.sites)
    assert page.count("<td ") == len(atlas.cells)
    assert page.count('class=" own"') + page.count('class="best own"') == 1
    best = atlas.ranked[0]
    assert f"tap={best.site} t_f={best.timestep}" in page


@pytest.mark.usefixtures("quick_tiny")
def test_on_the_command_line(photo_folder, tmp_path):
    out, photo = tmp_path / "atlas.html", photo_folder / "b.png"
    result = run(
        "atlas", photo, "size=64", "n_clusters=4", "--sites", "mid.output,up1.output", "--timesteps", "1", "-o", out
    )
    assert result.exit_code == 0
    assert re.search(r"^tap=\S+ t_f=1: 0\.\d\d$", result.stdout, re.MULTILINE)
    assert "mid.output" in out.read_text(encoding="utf-8")
    assert_refused(run("atlas", photo, photo_folder / "a.JPG"), "one image, not of 2")
    assert_refused(run("atlas", photo, "n_clusters=auto", "-o", out, "--overwrite"), "give n_clusters=6")
    assert_refused(run("atlas", photo, "-o", out), f"{out} exists; give --overwrite")
