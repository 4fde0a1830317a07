"""The training script, for a few seconds: it learns, resumes, and writes what the backend loads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genseg

SCRIPT = Path(__file__).parents[1] / "examples" / "train_tiny.py"
TWICE = """
import runpy, sys

script, *options = sys.argv[1:]
for minutes in ("0.02", "0.05"):
    sys.argv = [script, *options, "--minutes", minutes]
    runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two parts on 24 plain photos in two groups."""
    folder = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    for index in range(24):
        path = folder / "images" / f"group{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), rng.integers(256, size=3), dtype=np.uint8)).save(path)
    options = ["--image-size", "32", "--patch", "4", "--channels", "16", "32", "16", "--token-dim", "16"]
    options += ["--batch-size", "4", "--warmup-steps", "1"]
    command = [sys.executable, "-c", TWICE, SCRIPT, "--images", folder / "images", "--out", folder / "out"]
    subprocess.run([*map(str, command), *options], check=True, capture_output=True, timeout=240)
    return folder / "out"


def test_a_second_run_goes_on_from_the_first(run: Path):
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert rows[1]["step"] > rows[0]["step"] > 0
    assert rows[1]["held_out"] < rows[0]["held_out"]


def test_what_it_writes_is_a_backend(run: Path):
    backend = genseg.load_backend("tiny", model=str(run / "model"), device="cpu")
    assert backend.image_size == 32
    tap = next(iter(backend.taps))
    point = next(iter(backend.points))
    seg = genseg.segment(
        Image.effect_noise((32, 32), 50),
        backend=backend,
        n_clusters=3,
        tap=tap,
        point=point,
        size=32,
        margin=0,
        replay_steps=1,
    )
    assert seg.labels.shape == (32, 32)
    assert (run / "samples.png").exists()
