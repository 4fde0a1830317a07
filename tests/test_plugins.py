"""Plug-ins as pip lays them out, some of them broken: genseg keeps working and says whose fault it is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
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


RUN = """
import json, sys
from typer.testing import CliRunner
from genseg.cli import app

for arguments in json.loads(sys.argv[1]):
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    print(json.dumps([ran.exit_code, ran.stdout, ran.stderr]))
"""
PHOTO = str(ROOT / "examples/images/rocket.jpg")
QUICK = ["n_clusters=3", "n_init=1", "draws=1", "replay_steps=1", "size=64", "margin=0"]
UNUSABLE = {
    "shared": "claimed by first-plugin:models and second-plugin:models; uninstall one of them",
    "needy": "needs the package 'absent_package'; run: pip install absent_package",
    "broken": "unknown backend 'broken'",
}


class Ran(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files are written."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def ran(site: Path, out: Path) -> dict[str, Ran]:
    """Command lines, one after another in one process in which the distributions of ``site`` are installed."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT), str(ROOT / "backends")]),
        "COLUMNS": "300",
    }
    lines = {"list": ["backends"]}
    lines |= {name: ["segment", PHOTO, "-b", name, "--out", str(out)] for name in UNUSABLE}
    lines["good"] = ["segment", PHOTO, *QUICK, "-b", "good", "--out", str(out), "--save", "labels"]
    command = [sys.executable, "-c", RUN, json.dumps(list(lines.values()))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return {name: Ran(*json.loads(line)) for name, line in zip(lines, done.stdout.splitlines(), strict=True)}


def test_the_list_names_the_distributions_at_fault(ran: dict[str, Ran]):
    code, out, err = ran["list"]
    assert code == 0, err
    (needy,) = [line for line in out.splitlines() if line.startswith("needy ")]
    assert "needy-plugin:models" in needy
    assert "needs the package 'absent_package'; run: pip install absent_package" in needy
    providers = [line for line in out.splitlines() if line.startswith("shared ")]
    assert len(providers) == 2
    assert all(any(f"{which}-plugin:models" in line for line in providers) for which in ("first", "second"))
    assert any(line.startswith("tiny ") and "yes" in line for line in out.splitlines())
    for name in ("broken", "outdated"):
        assert f"genseg: warning: genseg plug-in {name}-plugin:models is broken and left out" in err
    assert "no_such_module_anywhere" in err
    assert "register_models" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("name", "said"), UNUSABLE.items())
def test_what_cannot_be_used_is_one_sentence(ran: dict[str, Ran], name: str, said: str):
    failed = ran[name]
    assert failed.code == 2
    assert said in failed.err.replace("\n", " ")
    assert "Traceback" not in failed.err


def test_the_other_backends_run(ran: dict[str, Ran], out: Path):
    assert ran["good"].code == 0, ran["good"].err
    assert (out / "rocket.labels.png").is_file()
