"""Students learn what masks say, and training that is killed goes on as if it had not been."""

import json
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, SegformerConfig, pipeline
from two_colors import SIDE, row_of, run_of, two_colors
from typer.testing import CliRunner

import genseg
from genseg import GensegError
from genseg.cli import app
from genseg.cli.commands.distill import NAMES
from genseg.runs.run import Run
from genseg.runs.sources import ImageSource
from genseg.students.loss import agreement
from genseg.students.models import STUDENTS, new_student

QUICK = {"image_size": SIDE, "batch_size": 4, "steps": 6, "val_fraction": 0.3, "save_every": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return run_of(tmp_path_factory.mktemp("run"), [row_of(i) for i in range(24)])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """A checkpoint of a very small student, of other classes than those to be learned."""
    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=5, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=16
    )
    folder = tmp_path_factory.mktemp("checkpoint")
    AutoModelForSemanticSegmentation.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def trained(run, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("student")
    settings = QUICK | {"steps": 60, "batch_size": 8, "lr": 1e-2, "save_every": 30}
    return genseg.distill(run, "colors", out, checkpoint=tiny, **settings)


def weights(folder) -> dict[str, torch.Tensor]:
    return AutoModelForSemanticSegmentation.from_pretrained(folder).state_dict()


def test_two_colors_are_learned(trained):
    model = AutoModelForSemanticSegmentation.from_pretrained(trained)
    processor = AutoImageProcessor.from_pretrained(trained)
    pairs = []
    for index in range(100, 110):  # none of those it has seen
        image, labels = two_colors(index)
        with torch.no_grad():
            output = model(**processor(Image.fromarray(image), return_tensors="pt"))
        (found,) = processor.post_process_semantic_segmentation(output, target_sizes=[labels.shape])
        pairs.append((found, torch.from_numpy(labels).long()))
    assert agreement(pairs, 2)["miou"] > 0.9
    assert json.loads((trained / "training.json").read_text())["validation"]["miou"] > 0.9


def test_any_program_of_transformers_can_load_it(trained):
    model = AutoModelForSemanticSegmentation.from_pretrained(trained)
    assert model.config.id2label == {0: "red", 1: "blue"}
    assert model.config.label2id == {"red": 0, "blue": 1}
    found = pipeline("image-segmentation", model=str(trained))(Image.fromarray(two_colors(100)[0]))
    assert {each["label"] for each in found} == {"red", "blue"}
    record = json.loads((trained / "training.json").read_text())
    assert (record["recipe_hash"], record["names"], record["steps"]) == ("hash", ["red", "blue"], 60)
    assert not (trained / "state").exists()


def test_curves_are_those_of_the_training(trained):
    curves = EventAccumulator(str(trained / "curves")).Reload()
    assert len(curves.Scalars("loss")) == len(curves.Scalars("learning rate")) == 60
    assert curves.Scalars("loss")[-1].value < 0.5 * curves.Scalars("loss")[0].value
    assert [event.step for event in curves.Scalars("validation miou")] == [30, 60]
    rates = [event.value for event in curves.Scalars("learning rate")]
    assert max(rates) == pytest.approx(1e-2)
    assert rates[0] < rates[2] > rates[-1]


@pytest.mark.parametrize("name", ["trained", "mobilenet-v2"])
def test_onnx_gives_what_torch_gives(name, trained, run, tmp_path):
    out = trained
    if name != "trained":
        out = genseg.distill(run, "colors", tmp_path / "out", student=name, **QUICK | {"steps": 2})
    model = AutoModelForSemanticSegmentation.from_pretrained(out).eval()
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 32, 32), (2, 3, 64, 40), (3, 3, 50, 70)):
        pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = model(pixels).logits.numpy()
        (found,) = session.run(None, {"pixel_values": pixels.numpy()})
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-3


class Killed(Exception):  # noqa: N818 - it stands for a signal
    pass


@pytest.mark.parametrize("step", [1, 3, 6])
def test_killed_training_goes_on_as_if_it_had_not_been(step, run, tiny, uninterrupted, tmp_path):
    def kill(_stage, done, _total):
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        genseg.distill(run, "colors", tmp_path, checkpoint=tiny, progress=kill, **QUICK)
    seen = []
    torch.rand(1)  # what else draws numbers is of no matter
    genseg.distill(run, "colors", tmp_path, checkpoint=tiny, resume=True, progress=lambda *of: seen.append(of), **QUICK)
    assert seen[0] == ("train", step // 2 * 2, 6)  # a state is saved every second step
    expected, found = weights(uninterrupted), weights(tmp_path)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    again = (tmp_path / "model.safetensors").stat().st_mtime_ns
    genseg.distill(run, "colors", tmp_path, checkpoint=tiny, resume=True, **QUICK)  # nothing is left to do
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == again


@pytest.fixture(scope="module")
def uninterrupted(run, tiny, tmp_path_factory):
    return genseg.distill(run, "colors", tmp_path_factory.mktemp("whole"), checkpoint=tiny, **QUICK)


def test_another_seed_gives_another_student(run, tiny, uninterrupted, tmp_path):
    other = weights(genseg.distill(run, "colors", tmp_path, checkpoint=tiny, seed=1, **QUICK))
    assert not all(torch.equal(other[name], tensor) for name, tensor in weights(uninterrupted).items())


@pytest.mark.parametrize("student", sorted(STUDENTS))
def test_students_are_of_their_published_sizes(student):
    millions = {
        "segformer-b0": 3.7,
        "segformer-b1": 13.7,
        "segformer-b2": 27.4,
    }  # table 6 of the paper: 3.8, 13.7, 27.5
    with torch.device("meta"):
        model = new_student(student, None, [str(i) for i in range(19)])
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(millions.get(student, count), abs=0.06)
    assert model.config.num_labels == 19


def test_what_cannot_be_is_a_sentence(run, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(GensegError, match="unknown set of classes 'color': did you mean colors"):
        genseg.distill(run, "color", out)
    with pytest.raises(GensegError, match=r"unknown student 'segformer-b9'.*segformer-b0"):
        genseg.distill(run, "colors", out, student="segformer-b9", **QUICK)
    with pytest.raises(GensegError, match="holds no run"):
        genseg.distill(tmp_path, "colors", out)
    with pytest.raises(GensegError, match="nowhere cannot be loaded as a model for semantic segmentation"):
        genseg.distill(run, "colors", out, checkpoint=str(tmp_path / "nowhere"), **QUICK)
    with pytest.raises(GensegError, match="dtype must be one of float32"):
        genseg.distill(run, "colors", out, dtype="double")
    with pytest.raises(GensegError, match="lr must be a number from"):
        genseg.distill(run, "colors", out, lr=0)
    with pytest.raises(GensegError, match="image_size must be a number from 32 to 8192, not 1"):
        genseg.distill(run, "colors", out, image_size=1)
    with pytest.raises(GensegError, match="unknown setting 'image_sise': did you mean image_size"):
        genseg.distill(run, "colors", out, image_sise=64)
    with pytest.raises(GensegError, match="no device cuda here"):
        genseg.distill(run, "colors", out, device="cuda", **QUICK)
    assert not out.exists()


def test_the_device_is_the_one_asked_for_with_its_index():
    from genseg.students.training import _accelerator  # takes seconds to import

    devices = [str(_accelerator(device, "float32").device) for device in ("cpu:0", "cpu")]
    assert devices == ["cpu:0", "cpu"]  # of a second training in the same process, too


def test_a_folder_of_something_else_is_left_alone(run, tiny, trained, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(GensegError, match="is not empty; choose another folder"):
        genseg.distill(run, "colors", tmp_path, **QUICK)
    with pytest.raises(GensegError, match="holds no training to resume"):
        genseg.distill(run, "colors", tmp_path, resume=True, **QUICK)
    settings = QUICK | {"steps": 60, "lr": 1e-2, "save_every": 30, "image_size": 64}
    with pytest.raises(GensegError, match="another image_size and batch_size"):
        genseg.distill(run, "colors", trained, checkpoint=tiny, resume=True, **settings)


def test_a_missing_package_is_a_sentence(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(GensegError, match=r"needs the package 'onnx'; run: pip install 'genseg\[distill\]'"):
        genseg.distill(run, "colors", tmp_path / "out", **QUICK)


def test_the_command_knows_all_students():
    assert sorted(NAMES) == sorted(STUDENTS)


def test_the_command_trains_and_says_how_well(run, tiny, tmp_path):
    out = tmp_path / "out"
    asked = {"checkpoint": tiny, "image_size": 32, "batch_size": 4, "lr": 0.01, "min_confidence": 0.5}
    asked |= {
        "val_fraction": 0.3,
        "save_every": 1,
        "seed": 3,
        "dtype": "bfloat16",
        "student": "mobilenet-v2",
        "epochs": 1,
    }
    options = [word for key, value in asked.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    given = ["distill", run.store.url, "--classes", "colors", "--out", str(out), "--no-confidence-weighting", *options]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "mIoU" in done.output
    record = json.loads((out / "training.json").read_text())
    assert {key: record[key] for key in asked} == asked
    assert record["confidence_weighting"] is False
    assert (out / "model.onnx").exists()
    assert record["unreadable"] == {"images": 0, "why": ""}
    again = CliRunner().invoke(app, given)
    assert again.exit_code == 2
    assert "is not empty" in again.output


def test_batches_and_epochs_are_not_both_given(run, tmp_path):
    given = ["distill", run.store.url, "--classes", "colors", "-o", str(tmp_path / "out"), "--steps", "1"]
    refused = CliRunner().invoke(app, [*given, "--epochs", "2"])
    assert refused.exit_code == 2
    assert refused.output == "genseg: --steps takes the place of --epochs; give one of them\n"


def test_the_command_tells_of_images_that_are_gone(tiny, tmp_path):
    rows = [row_of(0), replace(row_of(1), image=None, source=ImageSource("gone.png")), row_of(2)]
    run = run_of(tmp_path / "run", rows)
    run.store.write("shards/shard-00001.parquet", b"PAR1")
    settings = ["--image-size", "32", "--batch-size", "3", "--steps", "1", "--val-fraction", "0", "--checkpoint", tiny]
    done = CliRunner().invoke(
        app, ["distill", run.store.url, "--classes", "colors", "-o", str(tmp_path / "out"), *settings]
    )
    assert done.exit_code == 1
    assert "genseg: 2 images or shards are left out; the first: gone.png does not exist" in done.stderr
    assert (tmp_path / "out" / "model.onnx").exists()
