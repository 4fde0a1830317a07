"""Small checkpoints of every layout, and a hub that cannot be reached."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
from models import LAYOUTS, write_sd_checkpoint
from single_files import write_single_file

from genseg_backends.families import stable_diffusion


def pytest_collection_modifyitems(items):
    """Coverage is measured of genseg, which these tests are not about: without a tracer they take a third less time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A checkpoint folder of every layout. Copy it before changing it."""
    root = tmp_path_factory.mktemp("folders")
    return {layout: write_sd_checkpoint(root / layout, layout=layout) for layout in LAYOUTS}


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A single file of every layout that has such files. Copy it before changing it."""
    root = tmp_path_factory.mktemp("files")
    return {
        layout: write_single_file(root / f"{layout}.safetensors", layout=layout)
        for layout in LAYOUTS
        if layout != "lcm"
    }


@pytest.fixture
def small_configs(folders, tmp_path, monkeypatch):
    """The packaged configurations' stand-ins for small models: the same folders, the small checkpoints' files."""
    for layout, folder in folders.items():
        shutil.copytree(folder, tmp_path / "configs" / layout, ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(stable_diffusion, "CONFIGS", tmp_path / "configs")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache of the hub, and no hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"
