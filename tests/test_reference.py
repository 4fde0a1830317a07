"""The reference has every public name, every recipe key and every option, and the pages build without a warning."""

import importlib
import inspect
import io
import json
import pkgutil
import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from documents import ROOT
from sphinx.application import Sphinx

import genseg
import genseg.evaluation
from genseg.cli import app

MODULES = ["genseg.interface", "genseg.testing", "genseg.hookspecs", "genseg.sites.hooks", "genseg.batches"]
READERS = "genseg.evaluation.datasets."  # one module for each published layout: used by name, through load_dataset
EVALUATION = [m.name for m in pkgutil.walk_packages(genseg.evaluation.__path__, "genseg.evaluation.")]

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of Sphinx, in its extensions


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The pages as Sphinx knows them, and what it warned of: all is read and resolved, and no HTML is written."""
    out, warnings = tmp_path_factory.mktemp("site"), io.StringIO()
    site = Sphinx(ROOT / "docs", ROOT / "docs", out, out / "doctrees", "dummy", status=None, warning=warnings)
    site.build()
    return site, warnings.getvalue()


@pytest.fixture(scope="module")
def described(built) -> set[str]:
    """Every Python name that the reference has an entry for, by the object it stands for."""
    return {str(name) for name in built[0].env.domains.python_domain.objects}


def test_the_pages_build_without_warnings(built):
    assert built[1] == ""


def test_every_public_name_has_an_entry(described):
    assert {f"genseg.{name}" for name in genseg.__all__} <= described


@pytest.mark.parametrize("module", [*MODULES, *(m for m in EVALUATION if not m.startswith(READERS))])
def test_everything_public_of_a_module_has_an_entry(described, module):
    """Its functions and classes, under their own name or under that of the package they are imported from."""
    short = {name.rsplit(".", 1)[1] for name in described if name.startswith("genseg.")}
    assert {name for name, _ in public(module)} <= short


@pytest.mark.parametrize("owner", [genseg.Segmentation, genseg.Segmenter, genseg.Backend, genseg.Comparison])
def test_every_public_method_has_an_entry(described, owner):
    methods = {
        f"genseg.{owner.__name__}.{name}" for name, _ in inspect.getmembers(owner, inspect.isfunction) if name[0] != "_"
    }
    assert methods
    assert methods <= described


def public(module: str):
    """The functions and classes that a module defines."""
    loaded = importlib.import_module(module)
    for name, thing in vars(loaded).items():
        if name[0] != "_" and (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__ == module:
            yield name, thing


def test_every_option_of_every_command_has_an_entry(built):
    entries = built[0].env.domains.standard_domain.progoptions
    missing = [(name, option) for name, option in options() if (name.replace(" ", "-"), option) not in entries]
    assert not missing


def options(command=None, name="genseg"):
    command = command or typer.main.get_command(app)
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield from ((name, option) for option in [*parameter.opts, *parameter.secondary_opts])
    for part, child in getattr(command, "commands", {}).items():
        yield from options(child, f"{name} {part}")


def test_the_list_of_options_is_not_empty():
    assert {("genseg segment", "--clusters"), ("genseg backends check", "--no-locality")} <= set(options())


def test_programs_find_every_page_and_every_public_name(built):
    site = built[0]
    pages = (Path(site.outdir) / "llms.txt").read_text(encoding="utf-8")
    assert pages.startswith("# genseg\n\n> Segment images with what generative models already know")
    assert all(f"({name}.html): " in pages for name in site.env.found_docs if name != "index")
    index = json.loads((Path(site.outdir) / "api.json").read_text(encoding="utf-8"))
    assert set(index["python"]) == set(genseg.__all__)
    assert "timesteps" in index["python"]["features"]["signature"]
    assert "run_with_cache" in index["python"]["Segmenter"]["methods"]
    assert "--sites" in {name for each in index["commands"]["genseg features"]["parameters"] for name in each["names"]}
    assert index["recipe"]["t_f"]["bounds"] == [0, 999]
    assert {each["name"] for each in index["backends"]} == {info.name for info in genseg.list_backends()}


def test_every_backend_is_in_the_table_of_models(built):
    page = built[0].env.get_doctree("reference/models").astext()
    for info in genseg.list_backends():
        if info.card and info.factory.startswith("genseg_backends."):
            assert f"\n{info.name}\n" in page
            assert info.card.licence in page
    assert "0-2: resnet, normed" in page  # of U-Nets
    assert "\nb0-59\n" in page  # of the deepest transformer


def test_every_recipe_key_is_in_the_table(built):
    page = built[0].env.get_doctree("reference/recipes").astext()
    for field in fields(genseg.Recipe):
        assert f"\n{field.name}\n" in page, field.name


def test_no_docstring_begins_with_a_noun_clause():
    head = re.compile(r'^\s*"""What [^?]*$')  # a question is none
    folders = ("genseg", "backends", "benchmarks", "docs", "examples", "tests")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    lines = [(file, line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(files) > 400
    assert [(file.name, line) for file, line in lines if head.match(line)] == []
