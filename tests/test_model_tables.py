"""The page of all models: its configurations have the parameters of the cards, and its tables the declared sites."""

import functools
import re
from dataclasses import replace

import pytest

from genseg.registry import list_backends
from model_layouts import ENTRIES, backend_of, image_size, sections, sites_of
from model_tables import SITES, backends_table, rows_of, section, short_names, sites_table

OWN = {info.name: info.card for info in list_backends() if info.factory.startswith("genseg_backends.")}
backend_of = functools.cache(backend_of)
SHARED = [(names[0], name) for names in sections() for name in names[1:]]


def test_every_backend_is_in_both_tables():
    assert set(re.findall(r"^\| `([\w-]+)` \|", backends_table(), re.MULTILINE)) == set(OWN)
    titles = [line for line in SITES.read_text(encoding="utf-8").splitlines() if line.startswith("### `")]
    assert sorted(re.findall("`(.+?)`", "".join(titles))) == sorted(OWN)


@pytest.mark.slow
def test_the_file_of_sites_is_up_to_date():
    assert SITES.read_text(encoding="utf-8") == sites_table(), "run python docs/model_tables.py"


@pytest.mark.parametrize("name", ENTRIES)
def test_the_published_configuration_has_the_parameters_and_the_image_size_of_the_backend(name):
    assert backend_of(name).network.num_parameters() == OWN[name].parameters
    assert image_size(name) in (None, backend_of(name).image_size)


@pytest.mark.parametrize(("first", "name"), SHARED)
def test_backends_that_share_a_section_declare_the_same_sites(first, name):
    one, other = backend_of(first), backend_of(name)
    for sites in ("taps", "points"):
        at_its_size = {
            key: replace(site, grid=(other.image_size // site.stride,) * 2) for key, site in getattr(one, sites).items()
        }
        assert list(getattr(other, sites).items()) == list(at_its_size.items())


@pytest.mark.parametrize(("name", "depth", "width", "side"), [("dit", 28, 1152, 16), ("vitmae", 24, 1024, 14)])
def test_the_page_lists_the_sites_of_the_real_class(name, depth, width, side):
    backend = backend_of(name)
    stack = "encoder" if name == "vitmae" else "b"
    (row,) = (
        line.split(" | ")
        for line in section(backend, backend.sites, {name: image_size(name)}, "").splitlines()
        if line.startswith(f"| `{stack}0")
    )
    assert row[:4] == [f"| `{stack}0-{depth - 1}`", str(width), "16", f"{side}×{side}"]
    for index in range(depth):
        real = {
            key.partition(".")[2]: site for key, site in backend.sites.items() if key.startswith(f"{stack}{index}.")
        }
        assert set(row[4].removesuffix(" |").split(", ")) == set(real)
        assert {(site.channels, site.stride, site.grid) for site in real.values()} == {(width, 16, (side, side))}


def test_without_a_pass_there_are_the_declared_sites_in_the_order_of_the_blocks():
    backend = backend_of("lumina2")
    sites = sites_of("lumina2", backend)
    assert sites == {**backend.taps, **backend.points}
    assert [row[0] for row in rows_of(sites)] == ["b0-25"]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["normed", "query"], "normed, query"),
        (["0.resnet", "0.query", "1.resnet", "1.query", "output"], "`0-1`: resnet, query; output"),
        (["0.b0.output", "0.output", "1.b0.output", "1.output"], "`0-1.b0`: output; `0-1`: output"),
        (["0.b0.mlp", "0.b1.mlp", "1.b0.mlp", "1.b1.mlp", "2.b0.mlp"], "`0-1.b0-1` `2.b0`: mlp"),
        (["0.b0.key", "0.b1.key", "1.b0.key", "2.b0.key", "2.b1.key"], "`0.b0-1` `1.b0` `2.b0-1`: key"),
        (["0.output", "1.output", "output"], "`0-1`: output; output"),
        (["0.query", "0.b1.query", "0.b2.query"], "`0`: query; `0.b1-2`: query"),
    ],
)
def test_names_of_sites_in_short(names, text):
    assert short_names(names) == text
