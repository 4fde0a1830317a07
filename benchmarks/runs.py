"""Runs over a data set: their rate beside a bare loop, what kills do to them, their memory and their speed-up.

    python benchmarks/runs.py rate --images FOLDER --limit 1000
    python benchmarks/runs.py kill --images FOLDER --limit 100 --kills 20
    python benchmarks/runs.py memory --limit 10000
    python benchmarks/runs.py workers --images FOLDER --limit 200

`rate` segments the same images by `Segmenter.map` and by `genseg run` with its defaults, in turn. `kill` stops a run at
random moments (SIGKILL), its driver and its workers in turn, goes on with --resume and compares the rows with those of
a run that was left alone. `memory` makes small images and follows the resident size of the driver. Images are linked
into a scratch folder, LIMIT of them, evenly spaced.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

import genseg
from command import run
from genseg.runs.plan import items_of
from genseg.runs.rows import Row

SMALL = ["n_clusters=4", "draws=1", "n_init=1", "size=32"]  # of `memory`: cheap, and all the code paths


def main(argv: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["rate", "kill", "memory", "workers"])
    parser.add_argument("--images")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--shard-size", type=int, default=32)
    parser.add_argument("--options", nargs="*", default=["size=128"], help="recipe keys, beside the recipe fast")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        {"rate": rate, "kill": kill, "memory": memory, "workers": workers}[args.what](args, Path(scratch))


def rate(args: argparse.Namespace, scratch: Path) -> None:
    """Images a second of a bare loop and of a run, its start included, in one process after the other."""
    photos = linked(args, scratch)
    loop = [sys.executable, __file__, "loop", str(photos), *args.options]
    start = time.perf_counter()
    bare = json.loads(subprocess.run(loop, check=True, capture_output=True, text=True).stdout)
    whole = time.perf_counter() - start
    print(f"loop: {args.limit / bare['seconds']:.3f} images/s once loaded, {args.limit / whole:.3f} with its start")
    starting, working = told(command(photos, scratch / "run", args))
    print(
        f"genseg run: {args.limit / working:.3f} images/s once planned, {args.limit / (starting + working):.3f} in all"
    )
    print(f"ratio: {bare['seconds'] / working:.3f} once planned, {whole / (starting + working):.3f} with both starts")


def loop(photos: str, options: Sequence[str]) -> None:
    """The bare loop, in a process of its own."""
    segmenter = genseg.Segmenter("tiny", genseg.load_recipe("fast", calibration=tiny_recipe(), options=options))
    files = sorted(Path(photos).iterdir())
    segmenter(files[0])
    start = time.perf_counter()
    for _ in segmenter.map(files):
        pass
    print(json.dumps({"seconds": time.perf_counter() - start}))


def tiny_recipe() -> Any:
    """The bundled model's calibration."""
    return genseg.load_backend("tiny").recipe


def kill(args: argparse.Namespace, scratch: Path) -> None:
    """Kill, go on, compare row for row."""
    photos, moments, kills, runs = linked(args, scratch), random.Random(0), 0, 0
    starting, working = told(command(photos, scratch / "whole", args))
    whole = contents(scratch / "whole")
    while kills < args.kills:
        out, here, ended = scratch / f"killed{runs}", 0, False
        while not ended:
            process = subprocess.Popen(command(photos, out, args), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert process.stdout is not None
            if early := moments.random() < 0.25:  # a quarter while Ray and the workers start
                begun = moments.uniform(0, starting)
            else:
                until_images(process.stdout)
                begun = moments.uniform(0, working)
            if kills < args.kills:
                time.sleep(begun)
                children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
                victims = [] if early else [child for child in children if is_worker(child)]
                if process.poll() is None:
                    victim = moments.choice(victims) if victims and kills % 2 else psutil.Process(process.pid)
                    victim.kill()
                    kills, here = kills + 1, here + 1
            process.communicate()
            ended = process.returncode == 0
        same, runs = contents(out) == whole, runs + 1
        print(f"killed {here} times ({kills} in all): {'the same' if same else 'DIFFERENT'}", flush=True)
        if not same:
            raise SystemExit(1)
    print(f"{runs} runs of {args.limit} images equal the whole one, after {kills} kills")


def told(line: Sequence[str]) -> tuple[float, float]:
    """Seconds of a whole run: until it tells of its images, and from then on."""
    start = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.PIPE)
    assert process.stdout is not None
    until_images(process.stdout)
    begun = time.perf_counter()
    process.communicate()
    assert process.returncode == 0
    return begun - start, time.perf_counter() - begun


def until_images(lines: Iterable[bytes]) -> None:
    """Read the output of a run until it tells of its images."""
    next((line for line in lines if images_done(line.decode()) is not None), None)


def memory(args: argparse.Namespace, scratch: Path) -> None:
    """Resident size of the driver over a run of many small images."""
    photos = scratch / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0)
    for k in range(args.limit):
        blocks = noise.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), dtype=np.uint8))).save(photos / f"{k:06}.png")
    args.options = SMALL
    process = subprocess.Popen(command(photos, scratch / "run", args), stdout=subprocess.PIPE, text=True)
    sizes: list[tuple[int, float]] = []
    assert process.stdout is not None
    start = time.perf_counter()
    for line in process.stdout:
        if (done := images_done(line)) is not None:
            sizes.append((done, psutil.Process(process.pid).memory_info().rss / 2**20))
    seconds = time.perf_counter() - start
    if process.wait():
        raise SystemExit(1)
    for done, size in sizes[:: max(len(sizes) // 10, 1)]:
        print(f"{done} images: {size:.0f} MiB")
    found = genseg.Run(str(scratch / "run"))
    keys = [row.key for row in found.rows(["key"], failed=True)]
    once = sorted(keys) == [f"{k:06}.png" for k in range(args.limit)]
    later = [size for done, size in sizes if done > args.limit // 10]
    print(
        f"driver: {min(later):.0f} to {max(later):.0f} MiB after the first tenth; {args.limit / seconds:.1f} images/s"
    )
    print(f"each image once: {once}; {found.counts()}")


def workers(args: argparse.Namespace, scratch: Path) -> None:
    """Images a second by number of workers, once they are loaded."""
    photos, alone = linked(args, scratch), 0.0
    for number in (1, 2):
        line = [*command(photos, scratch / f"run{number}", args), "--workers", str(number)]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        lines = [(time.perf_counter(), images_done(line)) for line in process.stdout or ()]
        # From the first shards to the last ones: loading is left out.
        counts = [(at, done) for at, done in lines if done is not None]
        (begun, first), (ended, last) = counts[number], counts[-1]
        pace = (last - first) / (ended - begun)
        alone = alone or pace
        print(f"{number} workers: {pace:.3f} images/s, {pace / alone:.2f} times one", flush=True)


def command(photos: Path, out: Path, args: argparse.Namespace) -> list[str]:
    """`genseg run` in a process of its own."""
    start = [sys.executable, "-c", "from genseg.cli import main; main()", "run", str(photos), *args.options]
    return [*start, "-r", "fast", "-o", str(out), "--resume", "--shard-size", str(args.shard_size)]


def images_done(told: str) -> int | None:
    """How many images a line of progress says are done; None for other lines."""
    found = re.match(r"images: (\d+)/", told)
    return int(found[1]) if found else None


def linked(args: argparse.Namespace, scratch: Path) -> Path:
    """A folder with LIMIT of the images."""
    there = [source.uri for _, source in items_of(args.images)]
    folder = scratch / "photos"
    folder.mkdir()
    for k in np.linspace(0, len(there) - 1, min(args.limit, len(there))).round().astype(int):
        (folder / f"{k:06}{Path(there[k]).suffix}").symlink_to(there[k])
    args.limit = len(list(folder.iterdir()))
    return folder


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is an actor of Ray Data."""
    try:
        return "MapWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def contents(out: Path) -> list[tuple[Any, ...]]:
    """All that a run found, row by row, but what it cost."""
    return list(_contents(genseg.Run(str(out)).rows(failed=True)))


def _contents(rows: Iterator[Row]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        masks = [(m.label, m.area, m.confidence, m.rle, m.embedding.tobytes()) for m in row.masks]
        yield row.key, row.source, row.status, row.error, row.labels_png, row.confidence_png, masks, row.recipe_hash


if __name__ == "__main__":
    if sys.argv[1:2] == ["loop"]:
        loop(sys.argv[2], sys.argv[3:])
    else:
        run(main)
