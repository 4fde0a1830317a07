"""Plug-ins as pip lays them out, some of them broken: genseg keeps working and says whose fault it is."""

import os
import subprocess
import sys
from pathlib import Path

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


def genseg(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with the distributions of ``site`` installed."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT), str(ROOT / "backends")]),
        "COLUMNS": "300",
    }
    command = [sys.executable, "-c", "from genseg.cli import main; main()", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_list_names_the_distributions_at_fault(site: Path):
    listed = genseg(site, "backends")
    assert listed.returncode == 0, listed.stderr
    (needy,) = [line for line in listed.stdout.splitlines() if line.startswith("needy ")]
    assert "needy-plugin:models" in needy
    assert "needs the package 'absent_package'; run: pip install absent_package" in needy
    providers = [line for line in listed.stdout.splitlines() if line.startswith("shared ")]
    assert len(providers) == 2
    assert all(any(f"{which}-plugin:models" in line for line in providers) for which in ("first", "second"))
    assert any(line.startswith("tiny ") and "yes" in line for line in listed.stdout.splitlines())
    for name in ("broken", "outdated"):
        assert f"genseg: warning: genseg plug-in {name}-plugin:models is broken and left out" in listed.stderr
    assert "no_such_module_anywhere" in listed.stderr
    assert "register_models" in listed.stderr
    assert "Traceback" not in listed.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shared", "claimed by first-plugin:models and second-plugin:models; uninstall one of them"),
        ("needy", "needs the package 'absent_package'; run: pip install absent_package"),
        ("broken", "unknown backend 'broken'"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(site: Path, tmp_path: Path, name: str, said: str):
    failed = genseg(site, "segment", str(ROOT / "examples/images/rocket.jpg"), "-b", name, "--out", str(tmp_path))
    assert failed.returncode == 2
    assert said in failed.stderr.replace("\n", " ")
    assert "Traceback" not in failed.stderr


def test_the_other_backends_run(site: Path, tmp_path: Path):
    quick = ["n_clusters=3", "n_init=1", "draws=1", "replay_steps=1", "size=64", "margin=0"]
    photo = str(ROOT / "examples/images/rocket.jpg")
    done = genseg(site, "segment", photo, *quick, "-b", "good", "--out", str(tmp_path), "--save", "labels")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rocket.labels.png").is_file()
