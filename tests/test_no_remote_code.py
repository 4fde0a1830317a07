"""No code of a checkpoint is run: every loader of the libraries is told so, and hostile folders are tried."""

import ast
import json
import shutil
from pathlib import Path

import pytest

import genseg
from genseg.students.models import new_student, processor_for

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for part in ("genseg", "backends", "benchmarks", "examples") for path in (ROOT / part).rglob("*.py")
)
WEIGHTLESS = {"kind.config_class", "tokenizer", "AutoConfig", "transformers.AutoConfig", "AutoImageProcessor"}
"""Classes that read configurations and tokenizers alone."""
OWN = {"self.kind"}
"""Families of genseg's, whose ``from_pretrained`` is none of the libraries'."""


def loaders():
    """Every call of a loader: where it is, what it is called on, its name, and its constant keyword arguments."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, name = ast.unparse(node.func.value), node.func.attr
                constants = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                yield f"{path.relative_to(ROOT)}:{node.lineno}", owner, name, constants


def test_every_loader_of_the_libraries_refuses_code_and_pickles():
    wrong, seen = [], 0
    for where, owner, name, constants in loaders():
        if name == "load" and owner in ("torch", "pickle") and constants.get("weights_only") is not True:
            wrong.append(f"{where} lacks weights_only=True")
        if name == "from_pretrained" and owner not in OWN:
            seen += 1
            wanted = {"trust_remote_code": False} | ({} if owner in WEIGHTLESS else {"use_safetensors": True})
            wrong += [
                f"{where} lacks {key}={value}" for key, value in wanted.items() if constants.get(key) is not value
            ]
    assert seen >= 7  # or the walk has lost them
    assert wrong == []


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Whether code of a checkpoint has been run; whoever is asked for permission gives it."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return (tmp_path / "ran").exists


def hostile(folder, config, names, file="config.json"):
    """Let a folder name classes of its own, in a module that leaves a trace where it is imported."""
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder.parent / "ran"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Evil: pass\n")
    config = config | {"auto_map": dict.fromkeys(names, "evil.Evil")}
    (folder / file).write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("model_type", ["own", "segformer"])
def test_a_student_runs_no_code_of_its_checkpoint(tmp_path, ran, model_type):
    names = ("AutoConfig", "AutoModelForSemanticSegmentation")
    folder = hostile(tmp_path / "student", {"model_type": model_type}, names)
    with pytest.raises(genseg.GensegError, match="cannot be loaded as a model for semantic segmentation"):
        new_student("segformer-nano", str(folder), ["sky", "sea"])
    assert not ran()


def test_a_students_image_processor_runs_no_code(tmp_path, ran):
    config = {"image_processor_type": "Evil"}
    folder = hostile(tmp_path / "student", config, ["AutoImageProcessor"], "preprocessor_config.json")
    with pytest.raises(genseg.GensegError, match=r"image processor of .* is code, which is not run"):
        processor_for(str(folder), 32)
    assert not ran()


@pytest.mark.parametrize("model_type", ["own", "clip"])
def test_an_embedder_runs_no_code_of_its_checkpoint(tmp_path, ran, model_type):
    folder = hostile(tmp_path / "clip", {"model_type": model_type}, ["AutoConfig", "AutoModel", "AutoTokenizer"])
    hostile(folder, {"tokenizer_class": "Evil"}, ["AutoTokenizer"], "tokenizer_config.json")
    with pytest.raises(genseg.GensegError):
        genseg.load_embedder("maskclip", model=str(folder), device="cpu")
    assert not ran()


@pytest.mark.parametrize("entry", [["transformers", "AutoModel"], ["evil", "Evil"], ["os", "system"]], ids=str)
def test_a_pipeline_runs_no_code_of_its_checkpoint(tmp_path, ran, entry):
    from families import write_checkpoint

    folder = write_checkpoint(tmp_path / "sd3", "sd3")
    hostile(folder / "text_encoder_2", {"model_type": "own"}, ["AutoConfig", "AutoModel"])
    (folder / "ran").unlink(missing_ok=True)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder_2": entry}))
    with pytest.raises(
        genseg.GensegError, match=r"text_encoder_2 of .* no model or tokenizer of transformers, and no code"
    ):
        genseg.load_backend("sd3", model=str(folder), device="cpu")
    assert not ran()
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("config", [
    {"_class_name": "OnnxRuntimeModel", "prediction_type": "flow_prediction"},
    {"_class_name": "logging", "prediction_type": "flow_prediction"},
    {"_class_name": "DDIMScheduler", "beta_start": 0.1, "num_train_timesteps": 10**12},
], ids=["no scheduler", "no class", "too many timesteps"])  # fmt: skip
def test_a_scheduler_is_a_scheduler_of_a_bounded_number_of_timesteps(sd_checkpoint, tmp_path, config):
    folder = shutil.copytree(sd_checkpoint, tmp_path / "checkpoint")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(genseg.GensegError, match="correct its file"):
        genseg.load_backend("sd15", model=str(folder), device="cpu")
