import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from genseg import GensegError, Recipe, load_recipe
from genseg.recipe import BOUNDS, KEYS, list_presets


def test_paper_preset_has_the_constants_of_the_paper():
    recipe = load_recipe("paper")
    assert recipe == Recipe()
    assert (recipe.n_clusters, recipe.n_init, recipe.kmeans_seed) == (25, 100, 1234)
    assert (recipe.t_f, recipe.draws) == (0, 100)
    assert (recipe.num_inference_steps, recipe.t_m, recipe.replay_steps) == (50, 281, None)
    assert (recipe.strength, recipe.strength_unit, recipe.injection) == (10.0, "absolute", True)
    assert (recipe.blur, recipe.normalise) == (0.8, "none")


def test_layers_win_in_order(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("preset: fast\nt_m: 401\nstrength: 3\n")
    calibration = {"t_m": 181, "t_f": 101, "replay_steps": 2}
    recipe = load_recipe(file, calibration=calibration, options=["strength=4"], blur=0.0)
    assert recipe.draws == load_recipe("fast").draws, "the preset is the lowest layer"
    assert (recipe.t_f, recipe.replay_steps) == (101, 2), "then the calibration"
    assert recipe.t_m == 401, "then the file"
    assert (recipe.strength, recipe.blur) == (4.0, 0.0), "then options and keywords"


def test_a_calibration_can_be_for_one_preset():
    calibration = {"size": 160, "position": 0.1, "plus": {"size": 320, "position": 1.2}}
    plus, fast = (load_recipe(preset, calibration=calibration) for preset in ("plus", "fast"))
    assert (plus.size, plus.position) == (320, 1.2)
    assert (fast.size, fast.position) == (160, 0.1)
    assert load_recipe("plus", calibration=calibration, size=96).size == 96
    with pytest.raises(GensegError, match="did you mean position"):
        load_recipe("plus", calibration={"plus": {"positon": 1}})


def test_none_keyword_means_not_given():
    assert load_recipe("paper", n_clusters=None).n_clusters == 25


def test_numbers_of_arrays_are_numbers():
    recipe = load_recipe("paper", n_clusters=np.arange(9)[5], strength=np.float32(3), connected=np.bool_(True))
    assert (recipe.n_clusters, recipe.strength, recipe.connected) == (5, 3.0, True)


def test_a_resolved_recipe_is_taken_as_it_is():
    recipe = load_recipe("fast", t_f=7)
    assert load_recipe(recipe, calibration={"t_f": 900}) == recipe
    assert load_recipe(recipe, draws=1).draws == 1


@pytest.mark.parametrize("name", list_presets())
def test_presets_load(name: str):
    assert isinstance(load_recipe(name), Recipe)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_documented(key: str):
    assert f"        {key}: " in (Recipe.__doc__ or "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_cluster": 5}, "did you mean n_clusters"),
        ({"n_clusters": 1}, "2 to 10000, or 'auto'"),
        ({"n_clusters": "many"}, "'auto'"),
        ({"t_m": 1000}, "0 to 999"),
        ({"draws": 0}, "1 to 10000"),
        ({"draws": "few"}, "draws must be a whole number from 1 to 10000, not 'few'"),
        ({"draws": 2.5}, "draws must be a whole number from 1 to 10000, not 2.5"),
        ({"n_clusters": [2]}, r"n_clusters must be a whole number from 2 to 10000, or 'auto', not \[2\]"),
        ({"injection": "maybe"}, "injection must be true or false, not 'maybe'"),
        ({"point": {"a": 1}}, "point must be a word, not {'a': 1}"),
        ({"strength": float("nan")}, "0 to 1000000"),
        ({"strength": int("9" * 401)}, "0 to 1000000"),
        ({"kmeans_seed": -1}, "0 to 4294967295"),
        ({"position": 1e300}, "0 to 1000"),
        ({"reach": 999_999_999}, "0 to 8192"),
        ({"tap": "${oc.env:HOME}"}, r"not the variable \$\{oc.env:HOME\}"),
        ({"response": "linear"}, "leave out response"),
        ({"normalise": "max"}, "one of none, rms"),
    ],
)
def test_bad_values_say_what_to_do(given: dict, message: str):
    with pytest.raises(GensegError, match=message):
        load_recipe("paper", **given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t_n: 3", "did you mean"),
        ("- 1", "key: value"),
        ("a: [", "not YAML"),
        ("preset: papper", "did you mean paper"),
        ("preset: 3", "available: fast"),
        ("t_m: ${oc.env:HOME}", "expand none"),
    ],
)
def test_bad_files_say_what_to_do(tmp_path: Path, text: str, message: str):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(GensegError, match=message):
        load_recipe(file)


def test_every_number_has_bounds_that_its_default_keeps():
    numbers = {f.name for f in fields(Recipe) if re.search(r"int|float", str(f.type))}
    assert numbers == set(BOUNDS)


def test_a_recipe_of_an_earlier_version_still_loads():
    assert load_recipe({"response": "full"}) == load_recipe("paper")


def test_missing_file_and_preset():
    with pytest.raises(GensegError, match="cannot read the recipe"):
        load_recipe("nowhere.yaml")
    with pytest.raises(GensegError, match="did you mean fast"):
        load_recipe("fats")


def test_what_other_tools_call_a_key_is_answered_with_its_name():
    with pytest.raises(GensegError, match="no recipe key 'k'; use n_clusters"):
        load_recipe("paper", k=8)
