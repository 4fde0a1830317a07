"""Does an evaluation that is killed at random moments end with the figures of a whole run?

    python benchmarks/kill_evaluation.py --data FOLDER --kills 20

FOLDER is a data set as `genseg evaluate folder` reads it. Each kill (SIGKILL) comes after a random part of the time
that the whole run took; a run that ends before it is killed is compared, and a new one begins.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from command import run

SAME = ("figures", "gains", "gallery", "masks", "failures")


def command(data: Path, out: Path, limit: int) -> list[str]:
    options = ["--limit", str(limit), "--resolution", "128", "--protocol", "all", "--baselines", "naive,slic"]
    return [sys.executable, "-c", "from genseg.cli import main; main()", "evaluate", "folder", str(data), *options,
            "-o", str(out), "n_clusters=15", "draws=1"]  # fmt: skip


def results(out: Path) -> str:
    found = json.loads((out / "results.json").read_text())
    return json.dumps({key: found[key] for key in SAME}, sort_keys=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    moments, kills, same = random.Random(args.seed), 0, []
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        subprocess.run(command(args.data, Path(scratch) / "whole", args.limit), check=True, capture_output=True)
        seconds, whole = time.perf_counter() - start, results(Path(scratch) / "whole")
        while kills < args.kills:
            out, killed = Path(scratch) / f"killed{len(same)}", 0
            while True:
                process = subprocess.Popen(command(args.data, out, args.limit), stdout=subprocess.DEVNULL)
                limit = moments.uniform(0, seconds) if kills < args.kills else None
                try:
                    process.wait(limit)
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills, killed = kills + 1, killed + 1
            same.append(results(out) == whole)
            print(f"killed {killed} times ({kills} in all): {'the same' if same[-1] else 'DIFFERENT'}", flush=True)
    print(f"{sum(same)} of {len(same)} evaluations equal the whole run, after {kills} kills; {seconds:.1f} s a run")
    if not all(same):
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
