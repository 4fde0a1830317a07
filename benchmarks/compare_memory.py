"""Does comparing N models take more memory than the largest alone? Peak resident size of `genseg compare`, measured.

python benchmarks/compare_memory.py [--width 192] [--image examples/images/chelsea.jpg] [--out FILE]

Each run is a process of its own, on the CPU: every backend alone, then all together. Beside ``tiny`` stand two models
of SD's shape with random weights, the same size as each other: were one kept while the next is loaded, it would show.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import genseg
from command import run
from genseg.files import write_whole

ROOT = Path(__file__).parents[1]
LARGE = ("sd14", "sd15")  # two backends that load a checkpoint of SD's shape
BAR = 1.1  # the most that all together may take of the largest alone
QUICK = ("n_clusters=3", "n_init=1", "draws=1", "replay_steps=1", "size=128", "margin=0")
COMPARE = """
import json, resource, sys
import genseg
image, backends, models, options, out = json.loads(sys.argv[1])
genseg.compare([image], backends, out=out, models=models, options=options, device="cpu")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
WRITE = """
import json, sys
folder, width, tests = json.loads(sys.argv[1])
sys.path.append(tests)
import models
from pathlib import Path
layout = models.LAYOUTS["sd1"]
models.LAYOUTS["large"] = layout._replace(unet={"block_out_channels": (width, 2 * width, 4 * width, 4 * width)})
models.write_sd_checkpoint(Path(folder), layout="large")
"""


def in_a_process(code: str, *arguments: Any) -> str:
    """What a program prints that runs by itself; this process stays small, since a child's peak begins with it."""
    ended = subprocess.run([sys.executable, "-c", code, json.dumps(arguments)], capture_output=True, text=True)
    if ended.returncode:
        raise genseg.GensegError(ended.stderr.strip().splitlines()[-1])
    return ended.stdout


def peaks(image: Path, width: int) -> dict[str, int]:
    """Peak bytes of every backend alone, by its name, and of ``"together"``."""
    with tempfile.TemporaryDirectory() as folder:
        models = {name: str(Path(folder) / f"model-{name}") for name in LARGE}
        for checkpoint in models.values():
            in_a_process(WRITE, checkpoint, width, str(ROOT / "tests"))
        found = {}
        for name, backends in {"tiny": ["tiny"], **{n: [n] for n in LARGE}, "together": ["tiny", *LARGE]}.items():
            given = {n: model for n, model in models.items() if n in backends}
            found[name] = int(in_a_process(COMPARE, str(image), backends, given, QUICK, f"{folder}/{name}"))
    return found


def ratio(found: Mapping[str, int]) -> float:
    """Peak of all together over that of the largest alone."""
    return found["together"] / max(peak for name, peak in found.items() if name != "together")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and write a report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--width", type=int, default=192, help="channels of the large U-Nets' first level; SD's is 320")
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "images" / "chelsea.jpg")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)
    found = peaks(args.image, args.width)
    report = {"width": args.width, "peak_bytes": found, "ratio": ratio(found), "bar": BAR, "met": ratio(found) <= BAR}
    table = Table("backends", "peak MB")
    for name, peak in found.items():
        table.add_row(name, f"{peak / 1e6:.0f}")
    Console().print(
        table, f"together / largest alone: {ratio(found):.3f}, {'within' if report['met'] else 'over'} {BAR}"
    )
    if args.out is not None:
        write_whole(args.out, lambda file: file.write((json.dumps(report, indent=2) + "\n").encode()))


if __name__ == "__main__":
    run(main)
