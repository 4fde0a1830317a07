"""A paper's tables on miniature data sets, with the bundled model in place of the paper's."""

from __future__ import annotations

import json
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from typer.testing import CliRunner

from genseg import Embedder
from genseg.cli import app
from genseg.errors import GensegError
from genseg.evaluation import results_table
from genseg.evaluation.baselines import METHODS
from genseg.evaluation.datasets import list_datasets, load_dataset
from genseg.evaluation.evaluate import evaluate
from genseg.evaluation.mask_store import MethodMasks
from genseg.evaluation.method import Masks
from genseg.evaluation.paper.published import PAPERS
from genseg.evaluation.paper.reproduce import Reproducer
from genseg.evaluation.paper.result import in_points
from genseg.evaluation.protocols import PROTOCOLS
from genseg.evaluation.resolution import RESOLUTIONS
from genseg.hookspecs import hookimpl
from genseg.plugins import Plugins

QUICK = ["size=32", "margin=0", "draws=1", "n_init=1", "replay_steps=1", "n_clusters=4"]
KEY = "ADE_val_00000001"
TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


class Letters(Embedder):
    """Texts by how long they are, pixels by their color: enough to name masks, without weights."""

    image_size, size_multiple = 32, 4

    def pixels(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(image, 4)[0]

    def texts(self, prompts: list[str]) -> Tensor:
        return torch.tensor([[np.cos(len(p)), np.sin(len(p)), 0.5] for p in prompts], dtype=torch.float32)


def maskclip(model=None, device=None, dtype=None) -> Letters:  # noqa: ARG001
    return Letters("maskclip")


@hookimpl
def register_embedders(register):
    register("maskclip", f"{__name__}:maskclip")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # --offline comes after its import here


@pytest.fixture
def _letters(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    made = Plugins("embedder")
    made.add(sys.modules[__name__], "test:letters")
    monkeypatch.setattr("genseg.registry.EMBEDDERS.plugins", made)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of CLIP's image tower."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**TOWER, image_size=32, patch_size=8)
    transformers.CLIPVisionModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """ADE20K alone."""
    layouts.ade20k(tmp_path / "root/ade20k-150")
    return tmp_path / "root"


def run(root: Path, out: Path, *arguments: str):
    given = ["reproduce", "emerdiff", "--data", str(root), "-b", "tiny", "-o", str(out)]
    return CliRunner().invoke(app, [*given, *arguments, *QUICK])


def test_the_help_tells_the_recipe_that_is_taken() -> None:
    told = " ".join(CliRunner().invoke(app, ["reproduce", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "[default: paper]" in told
    assert "the backend's own" not in told


def rows_of(out: Path) -> dict[tuple[str, str], dict]:
    tables = json.loads((out / "reproduction.json").read_text())["tables"]
    return {(row["dataset"], row["name"]): row for table in tables.values() for row in table["rows"]}


def test_rows_stand_beside_the_published_figures(root: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(root, out, "--table", "2", "--limit", "1", "--weights", f"clip={clip}")
    assert result.exit_code == 0, result.output
    rows = rows_of(out)
    for name, method, published in (("EmerDiff", "modulation", 33.1), ("SD, naive upsampling", "naive", 29.1)):
        row = rows["ade20k-150", name]
        whole = json.loads((out / row["folder"] / "results.json").read_text())["figures"][method]["concept"]["miou"]
        assert row["protocol"] == "concept"
        assert (row["images"], row["n_clusters"], row["published"]) == (1, 4, published)
        assert row["ours"]["value"] == pytest.approx(100 * whole["value"])
        assert row["difference"]["value"] == pytest.approx(100 * whole["value"] - published)
        assert row["difference"]["interval"] == pytest.approx([100 * end - published for end in whole["interval"]])
        cells = f"| {published} | {in_points(row['ours'])} | {in_points(row['difference'], '+')} |"
        assert f"| ade20k-150 | val | 1 | concept | {name} | 4 {cells}" in result.output
    unpublished = rows["ade20k-150", "CLIP, naive upsampling"]
    assert unpublished["ours"]["value"] > 0
    assert (unpublished["published"], unpublished["difference"]) == (None, None)
    assert unpublished["model"]["encoder"] == "clip"
    assert r"& concept & EmerDiff & 4 & 33.1 & " in (out / "reproduction.tex").read_text()
    assert "paper's is sd14" in result.output
    assert f"weights of clip are those of {clip}." in result.output
    assert "n_clusters=4 (25)" in result.output
    assert "At most 1 images" in result.output

    # What is missing costs its rows, and is told.
    assert [name for (dataset, name), row in rows.items() if row["ours"] or dataset == "ade20k-150"] == [
        "EmerDiff", "SD, naive upsampling", "DINO, naive upsampling", "CLIP, naive upsampling",
    ]  # fmt: skip
    why = rows["cityscapes-19", "EmerDiff"]["why"]
    info = next(info for info in list_datasets() if info.name == "cityscapes-19")
    assert f"{root / 'cityscapes-19'}; fetch {info.source}; the root must then hold {info.paths[0]}" in why
    assert f"not run: {why}" in result.output
    assert "weights: dino=CHECKPOINT" in rows["ade20k-150", "DINO, naive upsampling"]["why"]
    assert "| 30.5 | not run (" in result.output

    collected = {(row.model, row.weights, row.method, row.rule) for row in results_table.rows_of(out)}
    assert collected == {
        ("tiny", "", "modulation", "concept"), ("tiny", "", "naive", "concept"), ("clip", clip.name, "naive", "concept")
    }  # fmt: skip


@pytest.mark.usefixtures("_letters")
def test_masks_are_named_and_not_made_again(root: Path, tmp_path: Path) -> None:
    reproducer = Reproducer("emerdiff", root, [3], "tiny", options=QUICK, limit=1)
    assert {job.folder: images for job, images in reproducer.jobs.items()} == {
        "ade20k-150-full": 1, "ade20k-150-full-maskclip": 1,
    }  # fmt: skip
    made = evaluate(
        load_dataset("ade20k-150", root / "ade20k-150"), tmp_path / "ade20k-150-full", options=QUICK, limit=1,
        recipe="paper", methods=["modulation"], resolution="full",
    ).store  # fmt: skip
    halves = np.repeat([[1, 0]], layouts.W // 2, axis=1).repeat(layouts.H, axis=0).astype(np.int32)
    made.save("modulation", KEY, MethodMasks(Masks(halves, np.zeros((2, 3), dtype=np.float32)), None))
    told = []
    row = reproducer.run(tmp_path, lambda key, stage, *_: told.append((key, stage))).rows[0]
    assert (f"ade20k-150-full/{KEY}", "kept") in told
    assert (f"ade20k-150-full-maskclip/{KEY}", "done") in told
    assert (row["name"], row["protocol"], row["published"]) == ("MaskCLIP + EmerDiff", "open-vocabulary", 15.9)
    assert row["model"]["names"]["embedder"] == "maskclip"
    with np.load(tmp_path / row["folder"] / f"masks/modulation/{KEY}.npz") as file:
        assert np.array_equal(file["segments"], halves)
        assert file["named"].shape == (2,)
    results = json.loads((tmp_path / row["folder"] / "results.json").read_text())
    assert row["ours"]["value"] == 100 * results["figures"]["modulation"]["open-vocabulary"]["miou"]["value"]


def test_a_row_that_fails_while_it_runs_says_why(tmp_path: Path) -> None:
    """Four masks are too few for 27 classes."""
    layouts.coco_stuff(tmp_path / "root/coco-stuff-27")
    (tmp_path / "root/coco-stuff-27/images/val2017/000000000139.jpg").write_bytes(b"no image")
    result = run(tmp_path / "root", tmp_path / "out", "--table", "1")
    assert result.exit_code == 1, result.output
    rows = rows_of(tmp_path / "out")
    row = rows["coco-stuff-27", "EmerDiff"]
    assert (row["split"], row["images"], row["failures"], row["ours"], row["failed"]) == ("val", 1, 1, None, True)
    assert "27 clusters of 4 masks" in row["why"]
    assert "1 images could not be used and are left out: see coco-stuff-27-320/results.json" in result.output
    assert not rows["coco-stuff-27", "STEGO"]["failed"]


def test_what_cannot_be_run_at_all_is_one_sentence(root: Path, tmp_path: Path) -> None:
    def refused(*arguments: str, data: Path = root) -> str:
        result = run(data, tmp_path / "out", *arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.count("\n") == 1
        return result.stderr

    assert "none of the folders coco-stuff-27, ade20k-150," in refused(data=tmp_path / "no")
    assert "none of the folders coco-stuff-27;" in refused("--table", "1")
    assert "there is no file or folder no/such/model" in refused("--model", "no/such/model", "--table", "2")
    (tmp_path / "half/ade20k-150").mkdir(parents=True)
    assert "ade20k-150 lacks" in refused(data=tmp_path / "half")
    assert "no row can be run: " in refused("--table", "3")  # masks alone are no row
    assert "has the tables 1, 2, 3, not 4" in refused("--table", "4")
    assert "did you mean tcl" in refused("--weights", "tlc=file")
    assert "--weights tcl is not NAME=MODEL" in refused("--weights", "tcl")
    assert "did you mean sd14" in refused("-b", "sd114")
    assert "limit must be" in refused("--limit", "0")
    with pytest.raises(GensegError, match="did you mean emerdiff"):
        Reproducer("emerdif", root)


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_tables_name_what_there_is(paper) -> None:
    datasets = {info.name: info for info in list_datasets()}
    for table in paper.tables.values():
        assert table.protocol in PROTOCOLS
        assert table.resolution in RESOLUTIONS
        assert table.notes
        for row in table.rows:
            assert datasets[row.dataset].n_classes
            assert row.method in METHODS
            assert row.foreign or (row.embedder is None) == (table.protocol != "open-vocabulary")
            assert row.published is None or 0 < row.published < 100
