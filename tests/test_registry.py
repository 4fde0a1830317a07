import functools
import sys
import warnings
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict, Unpack

import pytest

import genseg
from genseg import GensegError
from genseg.hookspecs import hookimpl
from genseg.plugins import Plugins

Registry = functools.partial(Plugins, "backend")


def plugin(*claims: tuple[str, str]) -> ModuleType:
    module = ModuleType("plugin")

    @hookimpl
    def register_backends(register):
        for claim in claims:
            register(*claim)

    module.register_backends = register_backends
    return module


def test_builtin_backends_are_listed_through_the_entry_point():
    infos = {info.name: info for info in genseg.list_backends()}
    assert {"tiny", "sd14", "sd15", "sd20", "sd21", "sd-turbo", "lcm"} <= set(infos)
    assert all(infos[name].usable for name in ("sd20", "sd21", "sd-turbo", "lcm"))
    assert infos["tiny"].usable
    assert infos["tiny"].provider == "genseg:builtin"
    assert all(info.description for info in infos.values() if info.usable)


def test_unknown_name_gives_the_nearest():
    with pytest.raises(GensegError, match="did you mean tiny"):
        genseg.load_backend("tinny")


def test_a_name_claimed_twice_is_an_error_only_when_used():
    registry = Registry()
    registry.add(plugin(("a", "m:f"), ("b", "m:g")), "one:x")
    registry.add(plugin(("b", "n:g")), "two:y")
    assert [(info.name, info.provider) for info in registry.infos()] == [("a", "one:x"), ("b", "one:x"), ("b", "two:y")]
    assert registry.factory("a") == "m:f"
    with pytest.raises(GensegError, match="one:x and two:y"):
        registry.factory("b")


def test_a_missing_package_is_named_with_its_cure():
    registry = Registry()
    registry.add(plugin(("a", "no_such_package.models:f")), "one:x")
    (info,) = registry.infos()
    assert not info.usable
    assert "pip install no_such_package" in info.problem


def test_a_hook_that_does_not_exist_is_refused():
    module = ModuleType("plugin")

    @hookimpl
    def register_backend(register): ...

    module.register_backend = register_backend
    registry = Registry()
    with pytest.raises(Exception, match="register_backend"):
        registry.add(module, "one:x")
    registry.add(plugin(("a", "m:f")), "one:x")  # the failed one left nothing behind
    assert registry.factory("a") == "m:f"


def test_a_broken_plugin_is_a_warning_that_names_its_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = tmp_path / "broken_thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-thing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[genseg]\nmodels = no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert metadata.distribution("broken-thing")
    registry = Registry()
    with pytest.warns(UserWarning, match="broken-thing:models"):
        registry.discover()
    assert registry.factory("tiny") == "genseg_backends.tiny:tiny"


def test_a_broken_plugin_is_told_of_once_for_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = tmp_path / "other_thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-thing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[genseg]\nmodels = no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        Plugins("backend").discover()
        Plugins("embedder").discover()
    assert len(caught) == 1


def test_discovery_finds_nothing_broken_here():
    registry = Registry()
    with warnings.catch_warnings(record=True) as caught:
        registry.discover()
    assert not caught
    assert registry.factory("tiny")


def test_the_public_surface_is_lazy_and_complete():
    for name in genseg.__all__:
        assert getattr(genseg, name).__name__ == name


# Options of a backend


class Options(TypedDict, total=False):
    revision: str


def plain(model, device, dtype):
    return model, device, dtype


def keyword(model, device, dtype, *, revision="main"):
    return model, device, dtype, revision


def typed(model, device, dtype, **options: Unpack[Options]):
    return model, device, dtype, options


def anything(model, device, dtype, **options: "OnlyForTypeCheckers"):  # noqa: F821
    return model, device, dtype, options


@pytest.fixture
def received(tiny, monkeypatch: pytest.MonkeyPatch):
    """Arguments that the factories of a plug-in, ``plain`` and so on, are called with."""
    calls: list[Any] = []
    module = ModuleType("factories")

    def recorded(factory):
        @functools.wraps(factory)
        def call(*args, **kwargs):
            calls.append(factory(*args, **kwargs))
            return tiny

        return call

    registry = Registry()
    for factory in (plain, keyword, typed, anything):
        setattr(module, factory.__name__, recorded(factory))
    registry.add(plugin(*((f.__name__, f"factories:{f.__name__}") for f in (plain, keyword, typed, anything))), "one:x")
    monkeypatch.setitem(sys.modules, "factories", module)
    monkeypatch.setattr("genseg.registry.BACKENDS.plugins", registry)
    return calls


@pytest.mark.parametrize(
    ("name", "expected"), [("keyword", "v1"), ("typed", {"revision": "v1"}), ("anything", {"revision": "v1"})]
)
def test_options_reach_the_factory(received, name, expected):
    genseg.load_backend(name, model="m", device="cpu", revision="v1", tiling=None)
    assert received == [("m", "cpu", None, expected)]


def test_a_factory_without_options_is_called_when_all_are_none(received):
    genseg.load_backend("plain", revision=None, tiling=None)
    assert received == [(None, None, None)]


@pytest.mark.parametrize(("name", "available"), [("plain", "none"), ("keyword", "revision"), ("typed", "revision")])
def test_an_option_that_the_factory_does_not_take_is_refused_listing_those_it_takes(received, name, available):
    with pytest.raises(GensegError, match=f"unknown option of backend '{name}', 'tilling': available: {available}$"):
        genseg.load_backend(name, tilling=True)
    assert not received
