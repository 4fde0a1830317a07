"""The speed benchmark at a tiny size, in processes of its own as it always runs, and its figures."""

import json

import numpy as np
import pytest
from PIL import Image

import genseg
import speed
import speed_report


@pytest.fixture(scope="module")
def report(photo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    photo.save(folder / "photo.png")
    files = ["--images", str(folder / "photo.png"), "--out", str(folder / "speed.json")]
    small = ["--clusters", "3", "--gemm", "64", "--sweep", "2", "--procedures", "published", "paper", "fast,draws=1"]
    recipe = ["size=32", "margin=0", "draws=2", "n_init=1", "num_inference_steps=2", "t_m=1"]
    speed.main([*files, *small, *recipe])
    with Image.open(folder / "speed.png") as plot:
        assert min(plot.size) > 100
    return json.loads((folder / "speed.json").read_text())


def test_every_procedure_has_its_figures(report):
    assert list(report["procedures"]) == ["published:float32", "paper:float32", "fast:float32,draws=1"]
    assert report["failed"] == {}
    assert report["matmul"]["float32"] > 0
    for entry in report["procedures"].values():
        assert min(entry["seconds"], entry["speedup"], entry["speedup_same_dtype"], entry["utilisation"]) > 0
        assert entry["peak_memory"] >= entry["loaded_memory"] > 0
        assert entry["seconds"] >= sum(entry["stages"].values()) * 0.99
        assert 0 < entry["agreement"]["matched"] <= 1


def test_agreement_given_the_clusters_leaves_what_other_clusters_change_out(report):
    fast = report["procedures"]["fast:float32,draws=1"]["agreement"]
    assert fast["given"] > 0.5
    assert fast["given"] >= fast["matched"]


def test_the_published_procedure_is_counted_apart_from_its_own_count(report):
    entry = report["procedures"]["published:float32"]
    assert entry["passes"] == entry["evaluations"] == 2 + 2 + 1 + 2 * 3 * 1
    assert entry["decodes"] == 2 * 3
    assert entry["speedup"] == 1
    assert entry["agreement"] == {"equal": 1, "matched": 1, "ari": 1, "given": None}


def test_paper_gives_the_published_labels_for_less(report):
    published, paper = (report["procedures"][name] for name in ("published:float32", "paper:float32"))
    assert paper["agreement"]["equal"] > 0.999
    assert paper["agreement"]["given"] > 0.999
    assert paper["passes"] < published["passes"]
    assert paper["flops"] < published["flops"]


def test_the_sweep_times_masks(report):
    (entry,) = report["sweep"].values()
    assert entry["recipe"]["n_clusters"] == 2
    assert entry["recipe"]["draws"] == 1
    assert 0 < entry["seconds_per_mask"] < entry["seconds"]


def test_figures_say_where_they_come_from_and_name_no_place(report):
    assert set(report["machine"]) == {"cpu", "cores"}
    assert {"weights_sha256", "versions", "date"} <= set(report)
    assert "/" not in "".join(name for entry in report["procedures"].values() for name in entry["photos"])


def entry(seconds, **more):
    photo = {"seconds": seconds, "stages": {"modulate": seconds}, "passes": 1, "evaluations": 1, "decodes": 1}
    return {"photos": {"a": photo}, "flops": None} | more


def test_ratios_are_to_the_reference_and_to_the_same_dtype():
    names = ("published:float32", "published:bfloat16", "fast:bfloat16,draws=1")
    raw = {"procedures": dict(zip(names, map(entry, (8.0, 6.0, 2.0)), strict=True)), "sweep": {}, "matmul": {}}
    labels = {name: [np.arange(4) // 2] for name in names}
    found = speed_report.completed(raw, labels, {})["procedures"][names[2]]
    assert (found["speedup"], found["speedup_same_dtype"]) == (4, 3)


def test_without_the_published_procedure_there_are_no_ratios():
    raw = {"procedures": {"fast:float32": entry(1.0)}, "sweep": {}, "matmul": {}}
    found = speed_report.completed(raw, {"fast:float32": [np.zeros(4, int)]}, {})
    assert found["reference"] is None
    assert found["procedures"]["fast:float32"]["speedup"] is None
    assert found["procedures"]["fast:float32"]["agreement"] is None


def test_utilisation_is_of_the_measured_rate():
    raw = {"procedures": {"fast:float32": entry(2.0, flops=10)}, "sweep": {}, "matmul": {"float32": 20.0}}
    assert speed_report.completed(raw, {}, {})["procedures"]["fast:float32"]["utilisation"] == 10 / (2 * 20)


def test_no_photo_is_refused(tmp_path):
    with pytest.raises(genseg.GensegError, match="does not exist"):
        speed.main(["--images", str(tmp_path / "missing.jpg"), "--out", str(tmp_path / "speed.json")])
