"""The benchmarks are commands, not a package: make their modules importable."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def data(tmp_path):
    """Two photos a set, wider than high: a set with classes and one with two annotators."""
    rng = np.random.default_rng(0)
    for name, suffixes in (("camvid", [""]), ("bsds", [".0", ".1"])):
        for folder in ("images", "labels"):
            (tmp_path / name / folder).mkdir(parents=True)
        for photo in ("one", "two"):
            truth = np.zeros((150, 200), np.uint8)
            truth[:, int(rng.integers(80, 120)) :] = 1
            truth[100:] += 2
            colors = rng.integers(0, 256, (4, 3))[truth] + rng.normal(0, 8, (150, 200, 3))
            Image.fromarray(colors.clip(0, 255).astype(np.uint8)).save(tmp_path / name / "images" / f"{photo}.png")
            for suffix in suffixes:
                truth[:5] = 255 if suffix == "" else truth[5]
                Image.fromarray(truth).save(tmp_path / name / "labels" / f"{photo}{suffix}.png")
    return tmp_path
