"""A whole evaluation: resumed, with a bad image, under every protocol."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from colors import registry
from PIL import Image
from typer.testing import CliRunner

from genseg import load_backend
from genseg.cli import app
from genseg.errors import GensegError
from genseg.evaluation import models
from genseg.evaluation.datasets import Dataset, load_dataset
from genseg.evaluation.evaluate import evaluate
from genseg.evaluation.protocols import PROTOCOLS
from genseg_backends import tiny

COLORS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], dtype=np.uint8)
QUICK = {"size": 32, "margin": 0, "n_clusters": 4, "draws": 1, "n_init": 1, "replay_steps": 1}
KEYS = [f"{key}={value}" for key, value in QUICK.items()]
FREE = {"methods": ("grid", "slic"), "protocols": ("oracle", "per-image-hungarian"), "resolution": "full"}


def write_set(root: Path, count: int) -> Path:
    """Photos of three flat fields, whose borders move, and their truth."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for i in range(count):
        truth = np.zeros((32, 40), dtype=np.uint8)
        truth[:, 10 + i :] = 1
        truth[20 - i :, 25:] = 2
        Image.fromarray(COLORS[truth]).save(root / "images" / f"photo{i}.png")
        Image.fromarray(truth).save(root / "labels" / f"photo{i}.png")
    (root / "classes.txt").write_text("red\ngreen\nblue\n")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return load_dataset("folder", write_set(tmp_path / "data", 5))


def figures(found: object) -> str:
    return json.dumps({key: found.results[key] for key in ("figures", "gains", "gallery", "masks")})  # type: ignore[attr-defined]


def test_labels_that_are_all_ignored_are_a_sentence(data, tmp_path):
    for path in (tmp_path / "data/labels").iterdir():
        Image.new("L", (40, 32), 255).save(path)
    with pytest.raises(GensegError, match="no pixel of the ground truth has a class"):
        evaluate(data, tmp_path / "out", **FREE)


class Killed(BaseException):
    """An exception that nothing catches."""


class Witness:
    """Keeps the stages that it is told, and kills the run at one of them."""

    def __init__(self, last: int | None = None) -> None:
        self.stages: list[str] = []
        self.last = last

    def __call__(self, _key: str, stage: str, _done: int, _total: int) -> None:
        self.stages.append(stage)
        if len(self.stages) == self.last:
            raise Killed


def test_a_run_that_was_stopped_anywhere_ends_with_the_same_figures(data: Dataset, tmp_path: Path) -> None:
    whole = figures(evaluate(data, tmp_path / "whole", n_clusters=4, **FREE))
    for stop in (1, 3, 5, 6, 9):  # of five images, then of the first five that are scored
        out = tmp_path / f"stopped{stop}"
        with pytest.raises(Killed):
            evaluate(data, out, n_clusters=4, progress=Witness(stop), **FREE)
        witness = Witness()
        assert figures(evaluate(data, out, n_clusters=4, progress=witness, **FREE)) == whole
        assert witness.stages.count("kept") == min(stop, 5)


def test_a_bad_image_is_told_and_costs_no_other(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "data/images/photo2.png").write_bytes(b"no image")
    found = evaluate(data, tmp_path / "out", n_clusters=4, **FREE)
    assert [entry["image"] for entry in found.results["failures"]] == ["photo2"]
    assert found.results["figures"]["grid"]["oracle"]["images"] == 4


def test_another_setting_does_not_mix_with_what_is_kept(data: Dataset, tmp_path: Path) -> None:
    evaluate(data, tmp_path / "out", n_clusters=4, **FREE)
    with pytest.raises(GensegError, match="another recipe; choose another output folder"):
        evaluate(data, tmp_path / "out", n_clusters=5, **FREE)


def test_other_weights_do_not_mix_with_what_is_kept(data: Dataset, tmp_path: Path) -> None:
    settings = {**FREE, "methods": ("naive",), "limit": 1} | QUICK
    model = tmp_path / "model"
    shutil.copytree(tiny.FOLDER, model)
    evaluate(data, tmp_path / "out", **settings)
    with pytest.raises(GensegError, match="another model"):
        evaluate(data, tmp_path / "out", model=str(model), **settings)
    with pytest.raises(GensegError, match="another model"):
        evaluate(data, tmp_path / "out", dtype="bfloat16", **settings)


def test_no_model_is_loaded_for_masks_that_are_there(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.yaml").write_text("draws: 1\n")
    settings = {**FREE, "methods": ("naive",), "recipe": str(tmp_path / "r.yaml"), "limit": 2}
    settings |= {key: value for key, value in QUICK.items() if key != "draws"}
    found = evaluate(data, tmp_path / "out", **settings)
    loaded = []
    load = models.BACKENDS.load
    monkeypatch.setattr(models.BACKENDS, "load", lambda name, **options: loaded.append(name) or load(name, **options))
    again = evaluate(data, tmp_path / "out", **{**settings, "protocols": ("concept",)})
    assert not loaded
    assert again.results["settings"] == found.results["settings"]
    assert again.results["masks"] == found.results["masks"]
    (tmp_path / "out/masks/naive/photo0.npz").unlink()
    assert figures(evaluate(data, tmp_path / "out", **settings)) == figures(found)
    assert loaded == ["tiny"]
    (tmp_path / "r.yaml").write_text("draws: 2\n")
    with pytest.raises(GensegError, match="another recipe"):
        evaluate(data, tmp_path / "out", **settings)


def test_loaded_backends_of_one_name_do_not_mix(data: Dataset, tmp_path: Path) -> None:
    settings = {**FREE, "methods": ("naive",), "limit": 1} | QUICK
    one, other = load_backend("tiny"), load_backend("tiny")
    other.recipe = {**other.recipe, "strength": 5}
    evaluate(data, tmp_path / "out", backend=one, **settings)
    with pytest.raises(GensegError, match="another recipe"):
        evaluate(data, tmp_path / "out", backend=other, **settings)
    with pytest.raises(GensegError, match="device='cuda' does not change a loaded backend"):
        evaluate(data, tmp_path / "out", backend=one, device="cuda", **settings)


def test_the_caption_has_the_number_of_clusters_that_methods_get(data: Dataset, tmp_path: Path, tiny) -> None:
    settings = {**FREE, "methods": ("naive",), "limit": 1} | QUICK | {"size": 64}
    found = {k: evaluate(data, tmp_path / str(k), backend=tiny, **settings | {"n_clusters": k}) for k in (4, "auto")}
    assert ", K = 4; in brackets" in found[4].caption()
    assert ", K = 25, not merged; in brackets" in found["auto"].caption()


def test_what_fails_to_load_leaves_the_folder_to_others(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(GensegError, match="none"):
        evaluate(
            data, tmp_path / "out", encoder="dinov2", model=str(tmp_path / "none"), **{**FREE, "methods": ("naive",)}
        )
    evaluate(data, tmp_path / "out", n_clusters=4, **FREE)


def test_names_are_kept_for_a_later_protocol(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genseg.registry.EMBEDDERS.plugins", registry())
    settings = {"methods": ("slic",), "resolution": "full", "n_clusters": 4, "embedder": "colors"}
    evaluate(data, tmp_path / "out", protocols=("oracle",), **settings)
    witness = Witness()
    found = evaluate(data, tmp_path / "out", protocols=("open-vocabulary",), progress=witness, **settings)
    assert witness.stages.count("kept") == 5
    assert found.results["figures"]["slic"]["open-vocabulary"]["accuracy"]["value"] > 0.8
    assert found.results["settings"]["model"]["names"]["embedder"] == "colors"


def test_a_protocol_that_needs_features_is_refused_for_a_method_without(data: Dataset, tmp_path: Path) -> None:
    settings = {**FREE, "protocols": ("oracle", "concept")}
    found = evaluate(data, tmp_path / "out", n_clusters=4, **settings)
    assert {(e["method"], e["protocol"]) for e in found.results["unmeasured"]} == {
        ("grid", "concept"),
        ("slic", "concept"),
    }
    with pytest.raises(GensegError, match="needs an embedding"):
        evaluate(data, tmp_path / "other", n_clusters=4, **{**FREE, "protocols": ("concept",)})


def test_segments_of_flat_fields_beat_a_grid(data: Dataset, tmp_path: Path) -> None:
    found = evaluate(
        data, tmp_path / "out", n_clusters=4, methods=("slic", "grid"), protocols=("oracle",), resolution="full"
    )
    low, high = found.results["gains"]["grid"]["oracle"]["boundary_f"]
    assert low > 0
    ahead = f"oracle, slic against grid: ahead in boundary F (+{100 * low:.1f} to +{100 * high:.1f} points), "
    assert [line[: len(ahead)] for line in found.verdict()] == [ahead]


def test_an_upsampler_after_modulation_is_compared_with_itself_alone(data: Dataset, tmp_path: Path) -> None:
    methods = ("modulation", "jbu", "modulation+jbu")
    found = evaluate(data, tmp_path / "out", methods=methods, resolution="full", limit=1, **QUICK)
    low, high = found.results["gains_of_modulation"]["jbu"]["oracle"]["miou"]
    after, alone = (found.results["figures"][name]["oracle"]["miou"]["value"] for name in ("modulation+jbu", "jbu"))
    assert low - 1e-9 <= after - alone <= high + 1e-9
    compared = [line.partition(":")[0] for line in found.verdict()]
    assert compared == [
        "oracle, modulation against jbu",
        "oracle, modulation against modulation+jbu",
        "oracle, modulation+jbu against jbu",
    ]


def test_the_command_writes_every_protocol_by_name(tmp_path: Path) -> None:
    root, out = write_set(tmp_path / "data", 3), tmp_path / "out"
    arguments = ["evaluate", "folder", str(root), "--protocol", "all", "--baselines", "naive", "--resolution", "full"]
    result = CliRunner().invoke(app, [*arguments, "-o", str(out), *KEYS])
    assert result.exit_code == 0, result.output
    assert "oracle, modulation against naive: " in result.output.splitlines()[-1]
    assert max(len(line) for line in result.stdout.splitlines() if "│" in line) <= 120
    assert "covering" not in result.output
    results = json.loads((out / "results.json").read_text())
    for method in ("modulation", "naive"):
        assert {p: f["protocol"] for p, f in results["figures"][method].items()} == {
            p: p for p in PROTOCOLS if p != "open-vocabulary"
        }
    table = (out / "table.md").read_text()
    assert "| traditional | modulation |" in table
    assert "toprule" in (out / "table.tex").read_text()
    for name in ("plot", "gallery"):
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 100


def test_the_command_says_what_is_wrong_in_a_sentence(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", 1)
    for arguments, words in (
        (["folder", str(tmp_path / "no")], "no"),
        (["folder", str(root), "--protocol", "orakle"], "oracle"),
        (["folder", str(root), "--baselines", "naiv"], "naive"),
        (["folder", str(root), "--protocol", "open-vocabulary"], "embedder"),
        (["folder", str(root), "--encoder", "dinov2", "--baselines", "none"], "baseline"),
        (["folder", str(root), "--encoder", "dinov2", "--baselines", "jbu,modulation+jbu"], "leave out modulation+jbu"),
        (["folder", str(root), "--encoder", "dinov2", "-b", "tiny", "--model", "x"], "takes the place of --backend"),
        (["folder", str(root), "--embedder-model", "x"], "--embedder-model needs --embedder"),
        (["folder", str(root), "--embedder", "maskclip"], "--embedder names masks for --protocol open-vocabulary"),
        (["folder", str(root), "-k", "8", "n_clusters=4"], "-k 8 and n_clusters=4 both set"),
        (["cocostuff", str(root)], "coco-stuff"),
    ):
        result = CliRunner().invoke(app, ["evaluate", *arguments, "-o", str(tmp_path / "out")])
        assert result.exit_code == 2, result.output
        assert words in result.output
        assert "Traceback" not in result.output


def test_the_data_sets_are_listed() -> None:
    result = CliRunner().invoke(app, ["datasets"])
    assert result.exit_code == 0, result.output
    assert "ade20k-150: " in result.output


def test_an_ablation_has_a_row_for_each_value_and_goes_on(tmp_path: Path) -> None:
    root, out = write_set(tmp_path / "data", 2), tmp_path / "out"
    arguments = ["ablate", "folder", str(root), "--sweep", "n_clusters=2,4", "--resolution", "full", "-o", str(out)]
    arguments += ["--refine", "pamr", "--dtype", "bfloat16", "--protocol", "all"]
    quick = [key for key in KEYS if not key.startswith("n_clusters")]
    result = CliRunner().invoke(app, [*arguments, *quick])
    assert result.exit_code == 0, result.output
    rows = json.loads((out / "ablation.json").read_text())
    assert [(row["key"], row["value"]) for row in rows] == [("n_clusters", "2"), ("n_clusters", "4")]
    components = [row["figures"]["naive"]["oracle"]["components"]["value"] for row in rows]
    assert components[0] < components[1]
    assert "| n_clusters=4 | oracle | modulation |" in (out / "ablation.md").read_text()
    assert "| n_clusters=4 | concept | modulation |" in (out / "ablation.md").read_text()
    for setting in (out / "settings").iterdir():
        settings = json.loads((setting / "settings.json").read_text())
        assert (settings["refine"], settings["model"]["dtype"]) == ("pamr", "bfloat16")
    assert (out / "ablation.png").stat().st_size > 5000
    again = CliRunner().invoke(app, [*arguments, *quick])
    assert again.output.count(": kept") == 4
    for sweep, words in (
        ("t_n=1", "t_m"),
        ("t_m", "reads key=value"),
        ("t_m=5000", "t_m must be"),
        ("t_m=1 -k 0", "n_clusters"),
    ):
        refused = CliRunner().invoke(app, ["ablate", "folder", str(root), "--sweep", *sweep.split(), "-o", str(out)])
        assert refused.exit_code == 2, refused.output
        assert words in refused.output
