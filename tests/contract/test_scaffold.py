"""A new plug-in project passes its own tests as it is, and a bad name costs nothing."""

import os
import subprocess
import sys

import pytest
import torch
from installed import lay_out

from genseg import FeatureTap, GensegError
from genseg.cli.scaffold import FAMILIES, write_project
from genseg.sites import as_map


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project("my-model", tmp_path_factory.mktemp("new"))


@pytest.mark.slow  # `make plugin` does it with an installed one
def test_a_new_project_passes_its_own_tests(project, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(project)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*lay_out(project, tmp_path), *filter(None, sys.path)])},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
    assert "failed" not in run.stdout


def test_it_is_as_small_as_promised(project):
    assert len((project / "genseg_my_model" / "backend.py").read_text().splitlines()) <= 75
    assert len((project / "tests" / "test_genseg_my_model.py").read_text().splitlines()) <= 10
    assert not list(project.rglob("*.txt"))
    assert "$" not in "".join(file.read_text() for file in project.rglob("*.*"))


@pytest.fixture
def _imported() -> None:
    """Libraries that can be imported only once, which pytester would drop after each run."""
    import diffusers

    import genseg_backends.engine.transformers
    import genseg_backends.engine.unets
    import genseg_backends.families.released  # noqa: F401

    _ = diffusers.AuraFlowTransformer2DModel, diffusers.PixArtTransformer2DModel, diffusers.UNet2DConditionModel
    _ = diffusers.AutoencoderKL, diffusers.DDIMScheduler, diffusers.FlowMatchEulerDiscreteScheduler


@pytest.mark.usefixtures("_imported")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_diffusion_backend_on_the_shared_bases_passes_its_own_tests(family, pytester):
    folder = write_project(f"my-{family}", pytester.path, family)
    assert len((folder / f"genseg_my_{family}" / "backend.py").read_text().splitlines()) <= 60
    pytester.syspathinsert(folder)
    run = pytester.inline_run("-q", "-p", "no:cacheprovider", str(folder))
    passed, _, failed = run.countoutcomes()
    assert (passed > 10, failed) == (True, 0)


@pytest.mark.usefixtures("_imported")
@pytest.mark.parametrize(
    "wrong",
    [{"extra_tokens=8": "extra_tokens=0"}, {"extra_tokens=8": "extra_tokens=0", "text_first=True": "text_first=False"}],
)
def test_tokens_that_are_counted_wrong_are_found_without_local_weights(wrong, pytester):
    folder = write_project(f"miscounted-{len(wrong)}", pytester.path, "joint")
    (backend,) = folder.glob("genseg_*/backend.py")
    text = backend.read_text()
    for right, miscounted in wrong.items():
        text = text.replace(right, miscounted)
    backend.write_text(text)
    pytester.syspathinsert(folder)
    (report,) = pytester.inline_run("-q", "-p", "no:cacheprovider", str(folder)).getfailures()
    assert "tokens_are_where_they_are_declared" in report.nodeid
    assert "declare first=20, the number of all tokens before them: text, class, registers" in str(report.longrepr)


@pytest.mark.usefixtures("_imported")
def test_a_module_that_is_not_there_is_named(pytester):
    folder = write_project("misnamed", pytester.path, "joint")
    (backend,) = folder.glob("genseg_*/backend.py")
    backend.write_text(backend.read_text().replace("ATTENTION_OUT}", 'Spot("attn9.to_out.0", "input")}'))
    pytester.syspathinsert(folder)
    report = pytester.inline_run("-q", "-p", "no:cacheprovider", str(folder)).getreports("pytest_runtest_logreport")[0]
    assert "has a module attn9.to_out.0, so there is no point" in str(report.longrepr)


def test_a_message_says_how_many_tokens_are_skipped():
    site = FeatureTap("norm1", channels=8, stride=8, grid=(4, 4), first=12)
    with pytest.raises(
        GensegError, match=r"grid \(4, 4\) behind 12 other tokens, and is \[1, 16, 8\]: the image alone"
    ):
        as_map(torch.zeros(1, 16, 8), site, (4, 4))


@pytest.mark.parametrize("name", ["My-Model", "1st", "a_b", "-a", "a--b", "../a", ""])
def test_what_is_no_name_is_refused(name, tmp_path):
    with pytest.raises(GensegError, match="lower-case words joined by hyphens"):
        write_project(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_and_a_folder_that_exists_are_refused(project, tmp_path):
    with pytest.raises(GensegError, match="there is a backend 'tiny' already, of genseg:builtin"):
        write_project("tiny", tmp_path)
    with pytest.raises(GensegError, match="exists already"):
        write_project("my-model", project.parent)
    (tmp_path / "file").write_text("")
    with pytest.raises(GensegError, match="cannot write"):
        write_project("other", tmp_path / "file")
    with pytest.raises(GensegError, match="unknown family 'gan'"):
        write_project("other", tmp_path, "gan")
