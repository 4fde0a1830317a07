"""The benchmark of memory: its ratio, and that its processes do what they say, at a small size."""

import json

import pytest

import compare_memory


def test_the_ratio_is_to_the_largest_alone_whichever_that_is():
    assert compare_memory.ratio({"a": 100, "b": 400, "together": 500}) == 1.25
    assert compare_memory.ratio({"a": 400, "b": 100, "together": 400}) == 1


def test_every_run_is_measured_and_the_verdict_reported(tmp_path, capsys, monkeypatch, photo):
    photo.save(tmp_path / "photo.png")
    monkeypatch.setattr(compare_memory, "LARGE", ())
    out = tmp_path / "new" / "report.json"
    compare_memory.main(["--width", "32", "--image", str(tmp_path / "photo.png"), "--out", str(out)])
    report = json.loads(out.read_text())
    assert set(report["peak_bytes"]) == {"tiny", "together"}
    assert all(peak > 1e8 for peak in report["peak_bytes"].values())  # torch alone takes more
    assert report["met"] == (report["ratio"] <= 1.1)
    assert f"{report['ratio']:.3f}" in capsys.readouterr().out


def test_a_process_that_fails_says_why():
    with pytest.raises(compare_memory.genseg.GensegError, match="ValueError: no"):
        compare_memory.in_a_process("raise ValueError('no')")
