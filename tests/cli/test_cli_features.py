"""``genseg features``."""

import json

import pytest
import torch
from commands import assert_refused, run
from safetensors import safe_open

import genseg

SIZE = ("size=64", "margin=0")


@pytest.mark.usefixtures("quick_tiny")
def test_features_are_written_with_what_they_are(photo_folder, tmp_path):
    out, photo = tmp_path / "deep" / "x.safetensors", photo_folder / "b.png"
    command = ("features", photo, "--sites", "up1.*.query,module:conv_in", "--timesteps", "1,201", "--out", out, *SIZE)
    result = run(*command)
    assert result.exit_code == 0
    assert "up1.2.query: 2 x 128 x " in result.stdout
    expected = genseg.features(photo, sites=["up1.*.query", "module:conv_in"], timesteps=[1, 201], size=64, margin=0)
    with safe_open(out, "pt") as file:
        assert set(file.keys()) == set(expected)
        assert all(torch.equal(file.get_tensor(name), each) for name, each in expected.items())
        facts = json.loads(file.metadata()["genseg"])
    assert facts["timesteps"] == [1, 201]
    assert facts["sites"]["module:conv_in"] == {"module": "conv_in", "side": "output", "stride": 4}
    before = out.read_bytes()
    assert_refused(run(*command, "--draws", "2"), f"{out} exists; give --overwrite")
    assert out.read_bytes() == before
    assert json.loads(run(*command, "--json", "--overwrite").stdout)["shapes"]["module:conv_in"][:2] == [2, 64]


@pytest.mark.usefixtures("quick_tiny")
def test_all_sites_are_listed_and_modules_too(tiny):
    rows = {row["name"]: row for row in json.loads(run("features", "--list", "--json").stdout)}
    assert list(rows) == list(tiny.sites)
    assert rows["up1.2.output"]["declared"] == ["tap"]
    assert "up1.2.output" in run("features", "--list").stdout
    assert "module:conv_in@input " in run("features", "--list", "--modules").stdout


@pytest.mark.usefixtures("quick_tiny")
def test_attention_is_listed_and_written_with_the_names_of_its_tokens(photo_folder, tmp_path, tiny):
    rows = json.loads(run("features", "--list", "--kind", "attention", "--json").stdout)
    assert [row["name"] for row in rows] == list(tiny.attention_sites)
    assert "up1.0.cross" in run("features", "--list", "--kind", "attention").stdout
    out = tmp_path / "x.safetensors"
    command = ("features", photo_folder / "b.png", "--kind", "attention", "--sites", "up1.0.*", "--heads", "--out", out)
    assert run(*command, *SIZE).exit_code == 0
    with safe_open(out, "pt") as file:
        assert file.get_tensor("up1.0.cross").shape[:3] == (1, 4, 9)
        assert json.loads(file.metadata()["genseg"])["tokens"] == [str(number) for number in range(9)]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ["no image given"]),
        (("a.JPG", "b.png"), ["one image, not of 2"]),
        (("b.png", "--timesteps", "1,x"), ["--timesteps x is not a whole number"]),
        (("b.png", "--sites", "up9.query"), ["unknown site 'up9.query'"]),
        (("b.png", "--kind", "values"), ["--kind must be features or attention"]),
        (("b.png", "--words", "cat"), ["give kind='attention' too"]),
        (("b.png", "--modules"), ["give --list too"]),
        (("--list", "--modules", "--kind", "attention"), ["leave out --kind attention"]),
        (("--list", "--timesteps", "1"), ["--list reads nothing of an image; leave out --"]),
        (("b.png", "--kind", "attention", "--prompt", "cat"), ["no text encoder"]),
    ],
)
@pytest.mark.usefixtures("quick_tiny")
def test_what_cannot_be_done_is_refused(photo_folder, tmp_path, monkeypatch, arguments, parts):
    monkeypatch.chdir(photo_folder)
    result = run("features", "--out", tmp_path / "x.safetensors", *arguments)
    assert_refused(result, *parts)
    assert not list(tmp_path.iterdir())
