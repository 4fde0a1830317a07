"""The code on the README and in the docs runs, page by page and in order; what cannot run says why and parses."""

import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from documents import LANGUAGES, PAGES, ROOT, anchors, blocks, prose
from models import write_sd_checkpoint
from omegaconf import OmegaConf
from PIL import Image
from typer.testing import CliRunner

import genseg
from genseg.cli import app
from genseg.recipe import load_recipe

BLOCKS = [block for page in PAGES for block in blocks(page)]
CODE = [block for block in BLOCKS if block.language in LANGUAGES]
RUN = [page for page in PAGES if any(block.page == page and block.reason is None for block in CODE)]
NOT_RUN = [block for block in CODE if block.reason is not None]


@pytest.fixture(scope="module")
def materials(tmp_path_factory) -> Path:
    """The files that pages call photo.jpg, a.jpg, b.jpg, photos, truth, DATA and path/to/checkpoint."""
    folder = tmp_path_factory.mktemp("materials")
    for name in ("photos", "truth", "DATA/images", "DATA/labels"):
        (folder / name).mkdir(parents=True)
    photos = {"photo": ("coffee", (96, 64)), "a": ("astronaut", (64, 64)), "b": ("rocket", (96, 64))}
    for name, (example, size) in photos.items():
        photo = Image.open(ROOT / f"examples/images/{example}.jpg").resize(size)
        photo.save(folder / f"{name}.jpg")
        if name != "photo":
            truth = photo.convert("L").point(lambda value: value // 86)
            for place in ("photos", "DATA/images"):
                photo.save(folder / place / f"{name}.jpg")
            for place in ("truth", "DATA/labels"):
                truth.save(folder / place / f"{name}.png")
    (folder / "DATA/classes.txt").write_text("dark\ngray\nlight\n")
    write_sd_checkpoint(folder / "path/to/checkpoint")
    return folder


@pytest.fixture
def workplace(materials, tmp_path, monkeypatch) -> Path:
    """A copy of the materials, in which one page runs."""
    folder = tmp_path / "page"
    shutil.copytree(materials, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # some commands set it
    return folder


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("workplace", "quick_tiny")
def test_the_code_on_a_page_runs(page):
    names: dict[str, object] = {"__name__": "page"}
    with torch.random.fork_rng(devices=[]):
        for block in CODE:
            if block.page == page and block.reason is None:
                assert_runs(block, names)


def assert_runs(block, names) -> None:
    """That one block runs, in what the blocks before it left behind."""
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)
    elif block.language == "bash":
        for command in block.commands():
            first, *arguments = shlex.split(command, comments=True)
            assert first == "genseg", f"{block.place}: say why {first} is not run"
            result = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert result.exit_code == 0, f"{block.place}: {command}: {result.stderr}"
    else:
        name = block.text.splitlines()[0].removeprefix("# ")
        Path(name).write_text(block.text)
        load_recipe(name)


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.place)
def test_what_is_not_run_says_why_and_parses(block, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert len(block.reason) >= 10
    assert block.language in ("python", "bash")
    if block.language == "python":
        compile(block.text, block.place, "exec")
        return
    for command in block.commands():
        first, *arguments = shlex.split(command.split(" | ")[-1], comments=True)
        if first == "genseg":
            parsed(arguments)
        elif first == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in arguments if "=" not in word} <= set(targets)
        else:
            assert first in ("curl", "pip", "pytest", "python")


def parsed(arguments: list[str]) -> None:
    """Take a command line apart as the program would, and do nothing; an option that is not there is an error."""
    command, context, name, rest = typer.main.get_command(app), None, "genseg", arguments
    while True:
        context = command.context_class(command, info_name=name, parent=context)
        given, rest, _ = command.make_parser(context).parse_args(list(rest))
        if not rest or not hasattr(command, "commands"):
            break
        name, command = rest[0], command.commands.get(rest[0])
        assert command is not None, f"no such command: {name}"
        rest = rest[1:]
    positional = [*(given.get("inputs") or ()), *(given.get("options") or ())]
    load_recipe(options=[argument for argument in positional if "=" in argument])


def test_an_option_that_is_not_there_does_not_parse():
    parsed(["segment", "photo.jpg", "--clusters", "4", "t_m=281"])
    for wrong in (["segment", "photo.jpg", "--cluster-count", "4"], ["segment", "photo.jpg", "t_n=281"], ["segmend"]):
        with pytest.raises(Exception, match=r"[Nn]o such|unknown"):
            parsed(wrong)


def test_blocks_are_in_a_language_that_is_run_or_that_cannot_be():
    """So that no code hides behind another fence."""
    others = {block.language for block in BLOCKS if block.language not in LANGUAGES}
    directives = {language for language in others if language.startswith("{")}
    assert others - directives <= {"", "text", "bibtex"}
    plain = [block for block in BLOCKS if block.language in ("", "text")]
    code = re.compile(r"^(genseg |import |from \w+ import |pip )", re.MULTILINE)
    assert not [block.place for block in plain if code.search(block.text)]


def test_what_was_typed_in_recorded_sessions_parses(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    typed = [line for block in BLOCKS for line in block.text.splitlines() if line.startswith("$ ")]
    assert typed
    for line in typed:
        first, *arguments = shlex.split(line[2:].split(" | ")[-1])
        assert first == "genseg"
        parsed(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Links to files, and to headings in pages; those to other hosts are not followed."""
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = Path(os.path.normpath(page.parent / path)) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert not missing


def test_the_method_page_is_about_pictures_that_are_there_and_small():
    pictures = sorted((ROOT / "docs/images").glob("method-*.jpg"))
    assert [picture.stem for picture in pictures] == [
        f"method-{n}" for n in ("clusters", "difference", "labels", "modulation")
    ]
    assert all(picture.stat().st_size < 150_000 for picture in pictures)
    assert all(np.asarray(Image.open(picture)).std() > 10 for picture in pictures)


def test_the_gallery_shows_each_of_its_pictures_and_they_are_small():
    pictures = sorted((ROOT / "docs/images").glob("gallery-*.jpg"))
    assert [f"images/{each.name}" for each in pictures] == sorted(
        re.findall(r"!\[.+?\]\((.+?)\)", (ROOT / "docs/gallery.md").read_text(encoding="utf-8"))
    )
    assert sum(picture.stat().st_size for picture in pictures) < 900_000


def test_the_citation_names_this_version_and_the_paper():
    citation = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))
    assert citation["version"] == genseg.__version__
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Namekata", "Sabour", "Fidler", "Kim"]
    assert paper["identifiers"][0]["value"] == "arXiv:2401.11739"
