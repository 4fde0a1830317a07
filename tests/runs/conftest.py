"""Images that several tests of runs segment, and a small backend."""

import os
from collections.abc import Iterator

import pytest
from installed import lay_out

from genseg.cli.scaffold import write_project
from genseg.plugins import Plugins
from genseg.registry import BACKENDS


@pytest.fixture(scope="session")
def photos(tmp_path_factory, photo):
    """Nine photos of 64×48 pixels, and a file that is no image."""
    root = tmp_path_factory.mktemp("photos")
    for k in range(10):
        photo.crop((8 * k, 4 * k, 8 * k + 64, 4 * k + 48)).save(root / f"{k}.png")
    (root / "5.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Iterator[str]:
    """The name of a backend whose project is installed here and in workers that start from here."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "site").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for path in lay_out(write_project("new-model", folder), folder / "site"):
            patch.syspath_prepend(path)
            patch.setenv("PYTHONPATH", path, prepend=os.pathsep)
        plugins = Plugins("backend")
        plugins.discover()
        patch.setattr(BACKENDS, "plugins", plugins)
        yield "new-model"
