"""How fast are the protocols and their measures, and does memory stay where it is?

    python benchmarks/protocols.py [--images 1000] [--side 512] [--classes 150] [--width 320]

Segments and truths are made up (smooth random maps, with seeds), written as the evaluation would keep them and measured
with every protocol. Prints processor time by stage, images a second of it, and the memory in use. Run it on one
core: OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.progress import track
from scipy.ndimage import gaussian_filter, zoom

from command import run
from genseg.evaluation.metrics import IGNORE, Labels
from genseg.evaluation.protocols import PROTOCOLS, Score, Seen, Truth, View, measured, protocol_named

VOID = 255


def smooth_map(rng: np.random.Generator, n_labels: int, side: int) -> Labels:
    """A map of ``n_labels`` smooth regions: int [side, side]."""
    heights = gaussian_filter(rng.standard_normal((n_labels, side // 4, side // 4)), (0, 4, 4))
    return np.stack([zoom(height, 4, order=1) for height in heights]).argmax(axis=0)


def make_set(folder: Path, n_images: int, side: int, n_classes: int, width: int) -> None:
    """Write NAME.npz (segments and embeddings) and NAME.png (the truth, 255 where nothing is measured)."""
    concepts = np.random.default_rng(0).standard_normal((n_classes, width))
    maps = [smooth_map(np.random.default_rng(n), n, side) for n in range(15, 26)]
    for i in track(range(n_images), description="making the set"):
        rng = np.random.default_rng(i)
        n_segments = 15 + i % len(maps)
        segments = np.roll(maps[i % len(maps)], rng.integers(0, side, 2), (0, 1)).astype(np.uint8)
        strewn = rng.random(segments.shape) < 0.01
        segments[strewn] = rng.integers(0, n_segments, strewn.sum())
        classes = rng.choice(rng.permutation(n_classes)[:10], n_segments)  # of segments: ten different ones at most
        truth = classes[np.roll(segments, rng.integers(-4, 5, 2), (0, 1))]
        truth[: side // 32] = VOID
        embeddings = (concepts[classes] + rng.standard_normal((n_segments, width))).astype(np.float32)
        np.savez_compressed(folder / f"{i:06}.npz", segments=segments, embeddings=embeddings)
        Image.fromarray(truth.astype(np.uint8)).save(folder / f"{i:06}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--width", type=int, default=320, help="of embeddings")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_set(Path(folder), args.images, args.side, args.classes, args.width)
        measure(Path(folder), args.classes)


def measure(folder: Path, n_classes: int) -> dict[str, float]:
    """Measure a set with every protocol, print the table and return processor seconds an image by stage."""
    console, seconds, process = Console(), Counter[str](), psutil.Process()
    files = sorted(folder.glob("*.npz"))
    protocols = [protocol_named(name, n_classes) for name in PROTOCOLS]
    scores = [Score(protocol, n_classes) for protocol in protocols]
    tables, memory = folder / "tables", dict[str, float]()
    tables.mkdir()
    last = time.process_time()

    def took(stage: str) -> None:
        nonlocal last
        now = time.process_time()
        seconds[stage] += now - last
        memory[stage] = max(memory.get(stage, 0), process.memory_info().rss / 2**20)
        last = time.process_time()

    def view_of(file: Path) -> View:
        with np.load(tables / file.name) as kept:
            return View(kept["table"], kept["embeddings"], kept["table"].argmax(axis=1))

    def read(file: Path) -> tuple[Seen, np.ndarray]:
        with np.load(file) as kept:
            segments, embeddings = kept["segments"], kept["embeddings"]
        truth = np.asarray(Image.open(file.with_suffix(".png")), dtype=np.int16)
        return Seen(segments, [Truth(np.where(truth == VOID, IGNORE, truth), n_classes)]), embeddings

    for file in files:
        seen, embeddings = read(file)
        took("read")
        (view,) = seen.views(embeddings)
        np.savez(tables / file.name, table=view.table.astype(np.int32), embeddings=embeddings[: len(view.table)])
        took("tables")
    for protocol in protocols:
        for _ in range(protocol.passes):
            for file in files:
                protocol.fit(view_of(file))
            protocol.close()
            took(f"learn: {protocol.name}")
    for file in files:
        seen, _ = read(file)
        view = view_of(file)
        took("read")
        _ = seen.tables
        took("tables")
        _ = seen.region_figures
        took("regions")
        given = [protocol.classes(view) for protocol in protocols]
        took("classes")
        for classes in given:
            seen.boundary_figures(0, classes)
        took("boundaries")
        for score, classes in zip(scores, given, strict=True):
            score.add(file.stem, measured(seen, [classes]))
        took("add up")
    for score in scores:
        score.figures()
    took("figures")
    for stage, total in seconds.items():
        console.print(
            f"{stage:24} {1000 * total / len(files):7.2f} ms an image, at most {memory[stage]:.0f} MiB in use"
        )
    console.print(f"all: {len(files) / seconds.total():.1f} images/s; scores {', '.join(PROTOCOLS)}")
    return {stage: total / len(files) for stage, total in seconds.items()}


if __name__ == "__main__":
    run(main)
