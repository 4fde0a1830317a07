import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import genseg
from genseg import GensegError, load_recipe
from genseg.calibration.criterion import SeedResult, SupervisedCriterion, UnsupervisedCriterion, unsupervised_terms
from genseg.calibration.search import candidates
from genseg.calibration.trials import TrialRunner
from genseg.pipeline import refined_maps

QUICK = {"n_clusters": 3, "n_init": 1, "draws": 1, "replay_steps": 1, "size": 48, "margin": 0}
STAY = {"tap": [], "channels": [], "t_f": [], "point": [], "t_m": []}


def halves(column: int, size: int = 32) -> np.ndarray:
    return np.tile((np.arange(size) >= column).astype(np.int32), (size, 1))


def maps_of(labels: np.ndarray) -> torch.Tensor:
    """Difference maps of which each is 1 where its label is, and 0 elsewhere."""
    return torch.stack([torch.from_numpy(labels == k).float() for k in range(labels.max() + 1)])


def found_as(grid_labels: np.ndarray, maps: torch.Tensor) -> SeedResult:
    """A result whose clusters have embeddings along axes of their own."""
    return SeedResult(grid_labels, np.eye(len(maps), dtype=np.float32), maps)


BLACK_AND_WHITE = torch.from_numpy(2 * halves(16).astype(np.float32) - 1).expand(1, 3, -1, -1)


@pytest.fixture(scope="module")
def found(tiny, photo):
    return genseg.calibrate(tiny, [photo], grid=STAY | {"strength": [0, 1e-9, 50]}, **QUICK)


# --- the criterion --------------------------------------------------------------------------------------------------


def test_masks_that_change_their_own_pixels_on_an_edge_of_the_image_score_one():
    perfect = found_as(halves(2, 4), maps_of(halves(16)))
    terms = unsupervised_terms(BLACK_AND_WHITE, [perfect, perfect])
    assert terms == pytest.approx({"localisation": 1, "stability": 1, "explained": 1})
    assert UnsupervisedCriterion().score([terms, terms])[0] == pytest.approx(1)


def test_maps_of_noise_score_almost_nothing():
    noise = [torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    terms = unsupervised_terms(BLACK_AND_WHITE, [found_as(halves(2, 4), maps) for maps in noise])
    assert all(value < 0.1 for value in terms.values())


def test_an_offset_that_leaks_everywhere_is_not_localised():
    leak = found_as(halves(2, 4), torch.ones(2, 32, 32))
    assert unsupervised_terms(BLACK_AND_WHITE, [leak, leak])["localisation"] == 0


def test_labels_across_the_images_edge_explain_none_of_its_colors():
    across = found_as(halves(2, 4).T.copy(), maps_of(halves(16).T.copy()))
    terms = unsupervised_terms(BLACK_AND_WHITE, [across, across])
    assert terms["localisation"] == 1
    assert terms["explained"] == pytest.approx(0, abs=1e-6)


def test_other_labels_under_other_noise_are_not_stable():
    there = [found_as(halves(2, 4), maps_of(labels)) for labels in (halves(16), halves(16).T.copy())]
    assert unsupervised_terms(BLACK_AND_WHITE, there)["stability"] == pytest.approx(0, abs=0.01)


def test_truths_are_scaled_and_the_ignored_does_not_count():
    truth = halves(32, 64)
    truth[:10] = 255
    criterion = SupervisedCriterion([truth], [(32, 32)])
    found = [found_as(halves(2, 4), maps_of(halves(16)))]
    score, terms = criterion.score([criterion.measure(0, BLACK_AND_WHITE, found)])
    assert (score, terms) == (1, {"oracle_miou": 1, "oracle_boundary_f": 1})


TILES = np.repeat(np.repeat(np.array([[0, 1], [2, 3]], np.int32), 16, axis=0), 16, axis=1)  # four segments


def labeled(protocol: str, truths: list[np.ndarray], embeddings: list[list[int]]) -> tuple[float, dict[str, float]]:
    """The score of images whose segments are `TILES`, by the embedding of each segment along one axis."""
    criterion = SupervisedCriterion(truths, [(32, 32)] * len(truths), protocol)
    rows = [
        criterion.measure(i, BLACK_AND_WHITE, [SeedResult(TILES, np.array(each, np.float32)[:, None], maps_of(TILES))])
        for i, each in enumerate(embeddings)
    ]
    return criterion.score(rows)


@pytest.mark.parametrize("protocol", ["traditional", "concept"])
def test_a_protocol_that_learns_sees_all_images_before_it_scores_any(protocol):
    plain, left, top = np.zeros((32, 32), np.int32), halves(16), halves(16).T.copy()
    # The first image, of one class, says nothing of the other.
    score, terms = labeled(protocol, [plain, left], [[0, 0, 0, 0], [0, 9, 0, 9]])
    assert terms == pytest.approx({f"{protocol}_miou": 1, f"{protocol}_boundary_f": 1})
    assert score == pytest.approx(1)
    # Alone, either would be perfect; but their classes are the other way round.
    _, terms = labeled(protocol, [left, top], [[9, 0, 9, 0], [0, 0, 9, 9]])
    assert terms[f"{protocol}_miou"] < 0.5


def test_a_matching_in_each_image_leaves_segments_over():
    _, terms = labeled("per-image-hungarian", [halves(16)], [[0] * 4])
    assert terms["per-image-hungarian_miou"] == pytest.approx(0.5)  # one quarter of the image for each half
    assert labeled("oracle", [halves(16)], [[0] * 4])[1]["oracle_miou"] == 1


# --- the search -----------------------------------------------------------------------------------------------------


def test_an_offset_of_no_size_and_one_too_small_score_zero_with_the_reason_and_the_search_goes_on(found):
    assert [trial.setting["strength"] for trial in found.trials] == [25, 0, 1e-9, 50]
    assert [trial.score for trial in found.trials[1:3]] == [0, 0]
    assert "changes no pixel" in found.trials[2].reason
    assert found.best.score == found.trials[3].score or found.best is found.trials[0]
    assert found.best.score > 0.3


def test_a_planted_good_setting_is_found(tiny, photo):
    start = {"strength": 0, "t_f": 999, "reach": 2}
    found = genseg.calibrate(
        tiny,
        [photo],
        grid={"tap": [], "channels": [], "t_f": [999, 1], "point": [], "t_m": [], "strength": [0, 25]},
        **QUICK | start,
    )
    assert found.trials[0].score == 0
    assert (found.recipe.t_f, found.recipe.strength) == (1, 25)  # t_f only counts once the offset has a size


def test_the_search_is_one_factor_at_a_time_around_the_best_so_far(tiny, photo):
    found = genseg.calibrate(tiny, [photo], grid=STAY | {"t_m": [61, 381], "strength": [5, 50]}, rounds=1, **QUICK)
    settings = [(trial.setting["t_m"], trial.setting["strength"]) for trial in found.trials]
    t_m = max(found.trials[:3], key=lambda trial: trial.score).setting["t_m"]
    assert settings == [(181, 25), (61, 25), (381, 25), (t_m, 5), (t_m, 50)]
    assert found.best is max(found.trials, key=lambda trial: trial.score)


def test_what_is_found_is_what_the_segmenter_finds(tiny, photo):
    recipe = load_recipe(tiny.preset, calibration=tiny.recipe, **QUICK | {"size": 64, "margin": 16, "reach": 1})
    runner = TrialRunner(tiny, recipe, [photo])
    for t_m in (181, 181, 381):  # the second time from what was kept
        tried = replace(recipe, t_m=t_m)
        found = runner.result(0, tried, seed=4)
        pixels = runner.pixels[0]
        expected = genseg.Segmenter(tiny, tried, seed=4).analyse(pixels)
        assert np.array_equal(found.grid_labels, expected.grid_labels)
        assert torch.allclose(found.maps, refined_maps(expected.differences, pixels, tried), atol=1e-6)


def test_features_are_read_once_for_each_tap_image_and_seed(tiny, photo):
    before = tiny.meter.evaluations
    grid = STAY | {"strength": [10, 50]}
    genseg.calibrate(tiny, [photo], grid=grid, rounds=1, **QUICK | {"draws": 20})
    seeds, settings, rows = 2, 3, 1 + 2 * QUICK["n_clusters"]
    assert tiny.meter.evaluations - before == seeds * (20 + settings * rows)


def test_labels_are_what_counts_where_there_are_some(tiny, photo):
    truth = np.zeros((64, 96), np.uint8)
    truth[:, 48:] = 1
    found = genseg.calibrate(tiny, [photo], truths=[truth], grid=STAY | {"strength": [50]}, rounds=1, **QUICK)
    assert set(found.best.terms) == {"oracle_miou", "oracle_boundary_f"}
    assert found.best.score == pytest.approx(np.mean(list(found.best.terms.values())))
    regions = genseg.calibrate(tiny, [photo], truths=[[truth, 1 - truth]], grid=STAY | {"strength": []}, **QUICK)
    assert regions.best.terms["oracle_miou"] == pytest.approx(found.trials[0].terms["oracle_miou"])


def test_trials_under_another_protocol_are_others(tiny, photo, tmp_path):
    truths = [np.tile((np.arange(96) >= 48).astype(np.uint8), (64, 1))]
    settings = {"truths": truths, "grid": STAY | {"strength": []}, "out": tmp_path / "trials.jsonl"} | QUICK
    found = {name: genseg.calibrate(tiny, [photo], protocol=name, **settings) for name in ("oracle", "concept")}
    assert set(found["concept"].best.terms) == {"concept_miou", "concept_boundary_f"}
    assert found["concept"].criterion == "mean of concept mIoU and boundary F"
    assert found["oracle"].best.key != found["concept"].best.key


def test_a_setting_that_a_protocol_cannot_score_scores_zero_with_the_reason(tiny, photo):
    truths = [np.tile(np.arange(96) // 10, (64, 1))]
    with pytest.raises(GensegError, match=r"no setting .* works .*traditional protocol makes 10 clusters of 3 masks"):
        genseg.calibrate(tiny, [photo], truths=truths, protocol="traditional", grid=STAY | {"strength": []}, **QUICK)


@pytest.mark.parametrize(
    ("truths", "protocol", "message"),
    [
        ([np.zeros((64, 96), int)], "orakle", "did you mean oracle"),
        ([np.zeros((64, 96), int)], "open-vocabulary", "needs an embedder that names masks"),
        ([[np.zeros((64, 96), int)]], "concept", "needs classes"),
        (None, "concept", "give the truths too"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused_before_a_model_is_loaded(photo, truths, protocol, message):
    with pytest.raises(GensegError, match=message):
        genseg.calibrate("sd15", [photo], truths=truths, protocol=protocol, model="no/such/folder")


def test_a_run_that_is_begun_again_tries_nothing_twice(tiny, photo, tmp_path):
    out, grid = tmp_path / "trials.jsonl", STAY | {"strength": [5, 50]}
    first = genseg.calibrate(tiny, [photo], grid=grid | {"strength": [5]}, out=out, **QUICK)
    before = tiny.meter.evaluations
    again = genseg.calibrate(tiny, [photo], grid=grid | {"strength": [5]}, out=out, **QUICK)
    assert tiny.meter.evaluations == before
    assert again.trials == first.trials
    more = genseg.calibrate(tiny, [photo], grid=grid, out=out, **QUICK)
    assert [json.loads(line)["key"] for line in out.read_text().splitlines()] == [trial.key for trial in more.trials]
    other = genseg.calibrate(tiny, [photo], grid=grid | {"strength": [5]}, out=out, seed=5, **QUICK)
    assert not {trial.key for trial in other.trials} & {trial.key for trial in more.trials}


def test_progress_counts_images_up_to_at_most_the_total(tiny, photo):
    told: list[tuple[str, int, int]] = []
    grid = STAY | {"strength": [50]}
    genseg.calibrate(tiny, [photo, photo], grid=grid, rounds=1, progress=lambda *step: told.append(step), **QUICK)
    assert told == [(what, n, 4) for what, ns in (("start", (0, 1, 2)), ("strength=50.0", (2, 3, 4))) for n in ns]


def test_candidates_are_what_the_backend_has_and_leave_out_timesteps_without_a_noise_axis(tiny, monkeypatch):
    recipe = load_recipe(tiny.preset, calibration=tiny.recipe)
    tried = candidates(tiny, recipe)
    assert list(tried) == ["tap", "channels", "t_f", "point", "t_m", "strength"]
    assert (tried["tap"], tried["point"]) == (list(tiny.taps), list(tiny.points))
    assert tried["t_m"] == [0, 81, 181, 281, 381]
    assert tried["strength"] == [6.25, 12.5, 25, 50, 100]
    monkeypatch.setattr(tiny, "capabilities", genseg.Capabilities(noise_axis=False))
    assert list(candidates(tiny, recipe)) == ["tap", "channels", "point", "strength"]


# --- what comes of it -----------------------------------------------------------------------------------------------


def test_the_recipe_file_gives_the_recipe_again(found, tiny, tmp_path: Path):
    file = found.save(tmp_path / "new" / "tiny.yaml")
    assert load_recipe(file, calibration=tiny.recipe) == found.recipe
    assert found.recipe.modulate  # which the bundled model's default does not
    lines = file.read_text().splitlines()
    assert [line for line in lines if line.startswith("#")] == lines[:3]
    assert lines[0].startswith(f"# backend: tiny, model: its own, genseg {genseg.__version__}, 20")
    keys = {line.split(":")[0] for line in lines[3:]}
    assert keys <= {"preset", "strength", "modulate", *QUICK} - {"replay_steps"}  # which `fast` has, too


def test_a_recipe_file_of_another_ending_is_refused(found, tmp_path: Path):
    with pytest.raises(GensegError, match=r"\.yaml"):
        found.save(tmp_path / "tiny.txt")


def test_the_plot_has_a_panel_for_each_factor_and_marks_what_was_chosen(found):
    figure = found.plot()
    assert [panel.get_title() for panel in figure.axes] == ["tap", "channels", "t_f", "point", "t_m", "strength"]
    x, y = figure.axes[-1].collections[-1].get_offsets()[0]
    assert found.values("strength")[int(x)] == found.recipe.strength
    assert y == found.best.score


def test_json_holds_recipe_and_trials(found):
    report = json.loads(found.to_json())
    assert report["recipe"] == asdict(found.recipe)
    assert [trial["score"] for trial in report["trials"]] == [trial.score for trial in found.trials]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "give some"),
        ({"grid": {"tap": ["up1.0.quary"]}}, "did you mean"),
        ({"grid": {"strenght": [1]}}, "unknown factor"),
        ({"grid": {"t_f": [1000]}}, "t_f must be"),
        ({"rounds": 0}, "rounds"),
        ({"truths": []}, "as many truths"),
        ({"truths": [np.full((64, 96), 255)]}, "no labeled pixel"),
        ({"truths": [np.ones((50, 50), np.uint8)]}, "truth 0 has 50x50 pixels and its image 96x64; scale the labels"),
        ({"truths": [[np.ones((64, 96), np.uint8), np.ones((96, 64), np.uint8)]]}, "truth 0 has 64x96 pixels"),
        ({"truths": [np.ones((64, 96))]}, "truth 0 must hold one whole number a pixel"),
        ({"device": "cuda"}, "device='cuda' does not change a loaded backend"),
        ({"grid": STAY | {"strength": [0]}, "strength": 0}, "no setting of backend 'tiny' works"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(tiny, photo, arguments, message):
    with pytest.raises(GensegError, match=message):
        genseg.calibrate(tiny, **{"images": [photo]} | QUICK | arguments)


def test_a_file_that_holds_no_trials_is_refused_and_left_alone(tiny, photo, tmp_path: Path):
    file = tmp_path / "notes.jsonl"
    file.write_text("my notes\n")
    with pytest.raises(GensegError, match="no file of trials"):
        genseg.calibrate(tiny, [photo], out=file, **QUICK)
    assert file.read_text() == "my notes\n"
