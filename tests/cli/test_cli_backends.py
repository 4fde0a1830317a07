import json

import pytest
from models import write_sd_checkpoint
from typer.testing import CliRunner

import genseg
from genseg.cli import app
from genseg.contract.checks import CHECKS


def run(*arguments: object):
    return CliRunner().invoke(app, ["backends", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(autouse=True)
def _online_afterwards(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # which `show` would set for good


def test_by_itself_it_lists_with_families():
    result = run()
    assert result.exit_code == 0
    assert all(info.name in result.output for info in genseg.list_backends())
    assert "masked autoencoder" in result.output
    assert run("list").output == result.output


def test_as_json_every_backend_has_its_card():
    infos = {info["name"]: info for info in json.loads(run("list", "--json").output)}
    assert infos["sd15"]["card"]["licence"] == "CreativeML OpenRAIL-M"
    assert infos["sdxl"]["card"]["revision"] == "462165984030d82259a11f4367a4eed129e94a7b"
    assert all(info["card"]["licence"] and info["card"]["family"] for info in infos.values())


def test_the_embedded_model_is_shown_with_its_sites():
    output = run("show", "tiny").output
    assert "calibrated" in output
    assert "up1.2.output (default)" in output  # the recipe's, not the first
    sites = json.loads(run("show", "tiny", "--json").output)["sites"]
    assert {(s["kind"], s["name"]) for s in sites if s["default"]} == {
        ("tap", "up1.2.output"),
        ("point", "up1.1.cross"),
    }


def test_a_checkpoint_that_is_not_here_is_said_to_be_missing():
    output = run("show", "sd3").output
    assert "2,028,328,000" in output
    assert "known once the weights are here" in output


def test_a_local_checkpoint_is_shown(tmp_path):
    output = run("show", "sd15", "--model", write_sd_checkpoint(tmp_path / "sd")).output
    assert "up1.0.query (default)" in output
    assert "4x4" in output


def test_an_unknown_backend_is_refused_with_the_nearest():
    for command in ("show", "check"):
        result = run(command, "tinny")
        assert result.exit_code == 2
        assert "did you mean tiny" in result.output


def test_a_backend_that_passes_the_contract_is_listed_so(tmp_path):
    result = run("check", "vitmae", "--model", _vitmae(tmp_path), "--no-locality")
    assert result.exit_code == 0, result.output
    assert result.output.count("passed") == len(CHECKS) - 2
    assert result.output.count("not applicable") == 2


def test_a_failed_check_is_a_row_and_an_exit_code(tmp_path, monkeypatch):
    monkeypatch.setitem(CHECKS, "declarations", lambda _: 1 / 0)
    result = run("check", "vitmae", "--model", _vitmae(tmp_path), "--no-locality")
    assert result.exit_code == 1
    assert "division by zero" in result.output
    assert "fails 1 of" in result.output


def _vitmae(folder):
    from families import write_checkpoint

    return write_checkpoint(folder / "vitmae", "vitmae")


def test_the_list_says_what_a_backend_needs_until_its_weights_are_here(tmp_path, monkeypatch):
    from families import write_checkpoint
    from models import write_hub_cache

    from genseg_backends.families.pixel import ddpm

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    before = {info.name: info.problem for info in genseg.list_backends()}
    assert before["tiny"] == ""
    assert before["ddpm"].startswith(
        f"its weights are not on this machine; the hub has {ddpm.card.model} as pickles alone"
    )
    assert "accept the terms of black-forest-labs/FLUX.1-dev on the hub" in before["flux-dev"]
    assert before["sd15"].endswith("; they are downloaded at the first use")
    lines = {line.split()[0]: line for line in run("list").output.splitlines() if line.strip()}
    assert "ready" in lines["tiny"]
    assert "needs weights, converted: the hub has pickles alone" in lines["ddpm"]
    assert "needs weights (11.9B parameters, gated)" in lines["flux-dev"]
    assert "needs weights (0.9B parameters, open)" in lines["sd15"]
    write_hub_cache(tmp_path / "hub", ddpm.card.model, write_checkpoint(tmp_path / "ddpm", "ddpm"), ddpm.card.revision)
    assert {info.name: info.problem for info in genseg.list_backends()}["ddpm"] == ""
