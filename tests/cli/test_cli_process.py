"""Commands in one new process: what depends on the environment, or on what has been imported before.

Plug-ins are as pip lays them out, some of them broken; the hub is one of this machine's own.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
HOOK = """
from genseg.hookspecs import hookimpl

@hookimpl
def register_backends(register):
    register({name!r}, "{module}_models:load")
"""
FACTORY = """
{imports}
import genseg

def load(model=None, device=None, dtype=None):
    "A model of {module}."
    return genseg.load_backend("tiny", device="cpu")
"""


def install(site: Path, distribution: str, name: str, *, hook: str = HOOK, imports: str = "") -> None:
    """Lay a distribution with one backend out in ``site``."""
    module = distribution.replace("-", "_")
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[genseg]\nmodels = {module}\n")
    (site / f"{module}.py").write_text(hook.format(name=name, module=module))
    (site / f"{module}_models.py").write_text(FACTORY.format(imports=imports, module=module))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where six distributions lie: two in order, and four that are not."""
    site = tmp_path_factory.mktemp("site")
    install(site, "good-plugin", "good")
    install(site, "broken-plugin", "broken", hook="import no_such_module_anywhere\n")
    install(site, "outdated-plugin", "outdated", hook=HOOK.replace("register_backends", "register_models"))
    install(site, "needy-plugin", "needy", imports="import absent_package.models")
    install(site, "first-plugin", "shared")
    install(site, "second-plugin", "shared")
    return site


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: one organization is gated, all else is not there."""

    def do_HEAD(self):
        gated = "gated" in self.path
        self.send_response(403 if gated else 401)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    """The address of a hub of this machine's own."""
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def damaged(sd_checkpoint, tmp_path_factory) -> Path:
    """A checkpoint without a U-Net's weights, of which diffusers prints a line of its own."""
    model = shutil.copytree(sd_checkpoint, tmp_path_factory.mktemp("damaged") / "model")
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    return model


RUN = """
import json, sys
from typer.testing import CliRunner
from genseg.cli import app

for arguments in json.loads(sys.argv[1]):
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    imported = [name for name in ("diffusers.models.autoencoders", "ray") if name in sys.modules]
    print(json.dumps([ran.exit_code, ran.stdout, ran.stderr, imported]))
"""
QUICK = ["n_clusters=3", "n_init=1", "draws=1", "replay_steps=1", "size=32", "margin=0"]
UNUSABLE = {
    "shared": "claimed by first-plugin:models and second-plugin:models; uninstall one of them",
    "needy": "needs the package 'absent_package'; run: pip install absent_package",
    "broken": "unknown backend 'broken'",
}
REFUSED = {
    ("sd3", "gated/model"): "gated/model is gated; accept its terms on the hub and log in with 'hf auth login'",
    ("sd15", "gated/model"): "gated/model is gated; accept its terms",
    ("sd3", "org/model"): "the hub has no org/model, or it is private; check the id, or log in",
    ("vitmae", "org/model"): "the hub has no org/model, or it is private",
}
"""Refusals of the hub, by backend and model."""


class Ran(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str
    imported: list[str]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files are written."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def photo_file(photo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo, alone in its folder."""
    file = tmp_path_factory.mktemp("photos") / "a.png"
    photo.save(file)
    return file


@pytest.fixture(scope="module")
def ran(site: Path, hub: str, damaged: Path, out: Path, photo_file: Path) -> dict[object, Ran]:
    """Command lines, one after another in one process in which the distributions of ``site`` are installed."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT), str(ROOT / "backends")]),
        "COLUMNS": "300",
        "HF_ENDPOINT": hub,
        "HF_HOME": str(out / "hub"),
        "NO_PROXY": "127.0.0.1",
    }
    segment = ["segment", str(photo_file), "--out", str(out), "-b"]
    lines: dict[object, list[str]] = {"good": [*segment, "good", *QUICK, "--save", "labels"]}
    lines["run"] = ["run", str(photo_file.parent), "-b", "good", *QUICK, "--out", str(out / "run")]
    lines |= {name: [*segment, name, "--overwrite"] for name in UNUSABLE}
    lines |= {(name, model): [*segment, name, "--model", model, "--overwrite"] for name, model in REFUSED}
    lines["damaged"] = [*segment, "sd15", "--model", str(damaged), "--overwrite"]
    lines["list"] = ["backends"]
    command = [sys.executable, "-c", RUN, json.dumps(list(lines.values()))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert done.stderr == "", "a library printed"
    return {name: Ran(*json.loads(line)) for name, line in zip(lines, done.stdout.splitlines(), strict=True)}


def test_the_list_names_the_distributions_at_fault(ran: dict[object, Ran]):
    code, out, err, _ = ran["list"]
    assert code == 0, err
    (needy,) = [line for line in out.splitlines() if line.startswith("needy ")]
    assert "needy-plugin:models" in needy
    assert "needs the package 'absent_package'; run: pip install absent_package" in needy
    providers = [line for line in out.splitlines() if line.startswith("shared ")]
    assert len(providers) == 2
    assert all(any(f"{which}-plugin:models" in line for line in providers) for which in ("first", "second"))
    assert any(line.startswith("tiny ") and "ready" in line for line in out.splitlines())
    assert err == ""


def test_the_first_command_warns_of_those_that_are_broken(ran: dict[object, Ran]):
    err = ran["good"].err
    for name in ("broken", "outdated"):
        assert f"genseg: warning: genseg plug-in {name}-plugin:models is broken and left out" in err
    assert "no_such_module_anywhere" in err
    assert "register_models" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("name", "said"), UNUSABLE.items())
def test_what_cannot_be_used_is_one_sentence(ran: dict[object, Ran], name: str, said: str):
    failed = ran[name]
    assert failed.code == 2
    assert said in failed.err.replace("\n", " ")
    assert "Traceback" not in failed.err


def test_the_other_backends_run(ran: dict[object, Ran], out: Path):
    assert ran["good"].code == 0, ran["good"].err
    assert (out / "a.labels.png").is_file()


def test_the_bundled_model_does_not_wait_for_autoencoders(ran: dict[object, Ran]):
    assert ran["good"].imported == []
    assert ran["list"].imported == ["diffusers.models.autoencoders"], "as some families import them"


def test_a_process_that_runs_a_folder_imports_no_ray(ran: dict[object, Ran]):
    assert ran["run"].code == 0, ran["run"].err
    assert "one worker is enough: segmenting in this process\n" in ran["run"].out
    assert "images: 1/1" in ran["run"].out
    assert ran["run"].imported == []


@pytest.mark.parametrize(("asked", "said"), REFUSED.items())
def test_what_the_hub_refuses_is_said_with_its_cure(ran: dict[object, Ran], asked: tuple[str, str], said: str):
    assert ran[asked].code == 2
    assert ran[asked].err.startswith(f"genseg: {said}")


def test_what_libraries_print_is_silenced(ran: dict[object, Ran], damaged: Path):
    code, out, err, _ = ran["damaged"]
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"genseg: {damaged} has no usable unet/")
