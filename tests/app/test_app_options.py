"""The app's options: keys of the recipe, with bounds and help."""

from dataclasses import fields

import pytest
from app_parts import engine  # noqa: F401

from genseg import GensegError
from genseg.app.options import CLUSTERS, ELSEWHERE, MAX_IN_APP, PRESETS, advanced, as_text, key_help, recipe_help
from genseg.recipe import BOUNDS, CHOICES, Recipe, list_presets


def test_every_key_of_the_recipe_is_an_option_with_its_choices_and_help():
    options = {option.key: option for option in advanced()}
    assert {field.name for field in fields(Recipe)} == options.keys() | set(ELSEWHERE)
    assert all(len(option.help) > 10 for option in options.values())
    assert {key: options[key].choices for key in CHOICES} == CHOICES
    assert [options[key].kind for key in ("t_m", "size", "blur", "tap", "injection")] == [
        "integer",
        "integer",
        "number",
        "text",
        "choice",
    ]
    assert options["margin"].help.endswith("A multiple of the backend's size_multiple.")  # its last line
    assert key_help()["t_f"] == "Timestep at which features are read (paper: 1; the authors' notebook: 0)."


def test_options_are_given_as_on_the_command_line_and_bounded():
    options = {option.key: option for option in (*advanced(), CLUSTERS)}
    typed = {"size": " 64", "tap": "up1.0.self", "blur": "0.5", "injection": "false", "point": "", "reach": "  "}
    options_text = as_text([(options[key], value) for key, value in typed.items()])
    assert options_text == ("size=64", "tap=up1.0.self", "blur=0.5", "injection=false")
    for key in MAX_IN_APP.keys() | {"reach", "t_m", "blur"}:
        least, most = options[key].bounds
        assert as_text([(options[key], str(most))]) == (f"{key}={most}",)
        assert most == MAX_IN_APP.get(key, BOUNDS[key][1])
        with pytest.raises(GensegError, match=f"{key} must be from {least:g} to {most} in the app"):
            as_text([(options[key], str(most + 1))])


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("size", "0xffff", "a whole number"),
        ("size", "1_000_000", "a whole number"),
        ("size", "${t_m}", "a whole number"),
        ("blur", "nan", "a number"),
        ("tap", "${oc.env:HOME}", "a name"),
        ("tap", "a b", "a name"),
        ("decoder", "none", "one of full, tiny, latent"),
    ],
)
def test_what_yaml_would_make_more_of_is_refused(key, value, what):
    option = next(option for option in advanced() if option.key == key)
    with pytest.raises(GensegError, match=f"{key} must be {what}, not"):
        as_text([(option, value)])


def test_presets_are_explained_and_the_default_is_named(engine):
    assert set(PRESETS) == set(list_presets())
    engine.warm("tiny")
    assert recipe_help("tiny", None).startswith(f"{engine._loaded[1].preset}, the default of tiny: ")
    assert recipe_help("sd14", "fast").startswith("fast: ")
