"""How good are the segments? The recipe's modulation beside other methods, on photos with ground truth.

    python benchmarks/quality.py --data FOLDER [--sets camvid facade bsds] [key=value ...]

FOLDER/SET/images/NAME.jpg goes with FOLDER/SET/labels/NAME.png (classes; 255 is ignored) or with NAME.0.png,
NAME.1.png, ... (each annotator's regions). Protocol: centre square, scaled to 128×128, K segments, oracle labels.
"""

from __future__ import annotations

import argparse
import dataclasses
import glob
import hashlib
import inspect
import json
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from skimage.segmentation import slic

import genseg
from command import run
from genseg.evaluation import baselines
from genseg.evaluation.baselines.pooling import masks_of_maps
from genseg.evaluation.baselines.upsampling import difference_maps
from genseg.evaluation.method import MethodInput
from genseg.evaluation.metrics import IGNORE, Labels
from genseg.evaluation.protocols import (
    GroundTruth,
    Record,
    Score,
    SegmentStatistics,
    measured,
    paired_interval,
    protocol_named,
)
from genseg.evaluation.resolution import center_square
from genseg.files import write_whole
from genseg.images import load_image
from genseg.interface import Backend

SIDE = 128  # pixels along each side of what is measured
ARGMAX = {"modulation-raw": "none", "modulation-rms": "rms"}  # what the argmax sees, by the recipe's `normalise`
MODEL = ("modulation", "naive", "feature-upsampling")  # as genseg.evaluation.baselines has them
METHODS = ("modulation", *ARGMAX, "naive", "feature-upsampling", "rgb-kmeans", "slic")
INTERVALS = ("miou", "accuracy", "boundary_f")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One photo: its centre square at full size, and the truths int64 [SIDE, SIDE] of its annotators."""

    name: str
    square: Image.Image
    truths: list[Labels]


def load_set(folder: Path, n_images: int) -> tuple[list[Sample], int | None]:
    """Read ``n_images`` photos of a set, evenly spaced in order of name.

    Returns:
        The samples, and the number of classes; None for a set of annotators' regions.
    """
    paths = sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(n_images, len(paths))).round().astype(int))]
    has_classes = (folder / "labels" / f"{paths[0].stem}.png").exists()
    samples = []
    for path in paths:
        image = load_image(path, max_pixels=100_000_000)
        pattern = f"{glob.escape(path.stem)}.png" if has_classes else f"{glob.escape(path.stem)}.*.png"
        truths = []
        for file in sorted((folder / "labels").glob(pattern)):
            with Image.open(file) as labels:
                if labels.size != image.size:
                    raise genseg.GensegError(f"{file} is not of its image's size {image.size}")
                square = center_square(labels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            truth = np.asarray(square, dtype=np.int64)
            truths.append(np.where(truth == 255, IGNORE, truth) if has_classes else truth)
        if not truths:
            raise genseg.GensegError(f"{folder / 'labels'} has no file {pattern}")
        samples.append(Sample(path.stem, center_square(image), truths))
    return samples, max(1 + int(s.truths[0].max()) for s in samples) if has_classes else None


def model_labels(backend: Backend, square: Image.Image, recipe: genseg.Recipe, seed: int) -> dict[str, Labels]:
    """Segments [SIDE, SIDE] of every method that needs the model, from one set of clusters and difference maps.

    They differ in the last step alone: how a low-resolution result becomes pixels.
    """
    seen = MethodInput(square, (SIDE, SIDE), recipe, seed, genseg.Segmenter(backend, recipe, seed=seed))
    labels = {name: baselines.METHODS[name](seen) for name in MODEL}
    labels |= {name: masks_of_maps(seen, difference_maps(seen, how)) for name, how in ARGMAX.items()}
    return {name: masks.segments for name, masks in labels.items()}


def color_labels(square: Image.Image, recipe: genseg.Recipe) -> dict[str, Labels]:
    """Segments [SIDE, SIDE] of the methods that see colors alone; SLIC is asked for K segments and gives fewer."""
    seen = MethodInput(square, (SIDE, SIDE), recipe)
    labels = baselines.METHODS["rgb-kmeans"](seen).segments
    asked = int(labels.max()) + 1  # K, which the recipe may leave to the colors
    return {"rgb-kmeans": labels, "slic": slic(np.asarray(seen.resized_image()), n_segments=asked, start_label=0)}


def weights_of(backend: str, model: str | None) -> dict[str, str]:
    """SHA-256 of each weights file of a local model, by its path inside it; empty for a model of the hub."""
    if model is None and backend == "tiny":
        from genseg_backends import tiny

        model = str(tiny.FOLDER)
    files = sorted(Path(model).rglob("*.safetensors")) if model else []
    return {str(f.relative_to(str(model))): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def identity(args: argparse.Namespace, backend: Backend, recipe: genseg.Recipe) -> dict[str, Any]:
    """Facts that determine the segments of `model_labels`.

    The code counts too: the algorithm's modules and those beside the backend's own (this file does not).
    """
    known = {k: v for k, v in dataclasses.asdict(recipe).items() if k not in ("keep_scores", "max_pixels")}
    home = Path(inspect.getfile(type(backend))).parent
    names = ("batches", "modulate", "parts", "pipeline", "segmenter")
    package = Path(genseg.__file__).parent
    sources = [
        *(package / f"{name}.py" for name in names),
        *sorted(package.glob("cluster/*.py")),
        *sorted(package.glob("images/*.py")),
        *sorted(package.glob("sites/*.py")),
        *sorted(package.glob("upsampling/*.py")),
    ]
    sources += [Path(inspect.getfile(MethodInput)), *sorted(Path(str(baselines.__file__)).parent.glob("*.py"))]
    sources += sorted([*home.glob("*.py"), *(home.parent / "engine").glob("*.py")])
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    weights = weights_of(args.backend, args.model) or args.model
    return {"recipe": known, "seed": args.seed, "backend": args.backend, "weights": weights, "code": code}


def digest(what: Any) -> str:
    """A short name of anything JSON can hold."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def cached_labels(
    file: Path, backend: Backend, sample: Sample, recipe: genseg.Recipe, seed: int
) -> tuple[dict[str, Labels], float]:
    """All methods' segments of one photo and the seconds the model took, from ``file`` if an earlier run left it."""
    if not file.exists():
        start = time.perf_counter()
        labels = model_labels(backend, sample.square, recipe, seed)
        seconds = time.perf_counter() - start
        small = {k: v.astype(np.uint8) for k, v in (labels | color_labels(sample.square, recipe)).items()}
        write_whole(file, lambda stream: np.savez_compressed(stream, allow_pickle=False, seconds=seconds, **small))
    with np.load(file, allow_pickle=False) as kept:
        return {n: kept[n].astype(np.int64) for n in kept.files if n != "seconds"}, float(kept["seconds"])


def record_of(segments: Labels, truths: Sequence[Labels], n_classes: int | None) -> Record:
    """Measure one photo's segments under the protocol ``oracle``."""
    seen, oracle = (
        SegmentStatistics(segments, [GroundTruth(truth, n_classes) for truth in truths]),
        protocol_named("oracle", n_classes),
    )
    return measured(seen, [oracle.classes(view) for view in seen.contingencies()])


def score_of(records: Mapping[str, Record], n_classes: int | None, seed: int = 0) -> Score:
    """Score of all photos of a set, from the record of each by its name."""
    score = Score(protocol_named("oracle", n_classes), n_classes, seed)
    for name, record in records.items():
        score.add(name, record)
    return score


def values_of(score: Score) -> dict[str, float]:
    """Every figure of a set, but the classes' own."""
    return {name: entry["value"] for name, entry in score.metrics().items() if isinstance(entry, dict)}


def summary(records: Mapping[str, Mapping[str, Record]], n_classes: int | None) -> dict[str, Any]:
    """Every figure of one set by method, with 95 % intervals, the gain over ``naive``, and the figures by image."""
    base = score_of(records["naive"], n_classes)
    methods = {}
    for method, images in records.items():
        score = score_of(images, n_classes)
        figures, entry = score.metrics(), dict[str, Any](values_of(score))
        entry["interval"] = {name: figures[name]["interval"] for name in INTERVALS}
        entry["gain_over_naive"] = {name: paired_interval(score, base, name) for name in INTERVALS}
        entry["by_image"] = {
            name: {key: value for key, value in image.metrics.items() if np.isfinite(value)}
            for name, image in images.items()
        }
        methods[method] = entry
    return {"images": len(records["naive"]), "methods": methods}


def table_of(sets: Mapping[str, Any]) -> Table:
    """The figures of `summary` as a table, one row for each set and method."""
    table = Table("set", "method", "mIoU", "accuracy", "boundary F", "precision", "recall", "components", "covering")
    for name, figures in sets.items():
        for method, entry in figures["methods"].items():
            cells = [
                f"{entry[k]:.3f} [{entry['interval'][k][0]:.3f}, {entry['interval'][k][1]:.3f}]" for k in INTERVALS
            ]
            cells += [f"{entry['boundary_precision']:.3f}", f"{entry['boundary_recall']:.3f}"]
            cells += [f"{entry['components']:.0f}", f"{entry['covering']:.3f}"]
            table.add_row(f"{name} ({figures['images']})", method, *(cell.replace("[", r"\[") for cell in cells))
        table.add_section()
    return table


def common_options(description: str | None, out: str, images: int) -> argparse.ArgumentParser:
    """The options that `quality`, `calibrate_tiny` and `verdict` share; a later definition replaces one."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0], conflict_handler="resolve")
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=["camvid", "facade", "bsds"], help="folders in it")
    parser.add_argument("--images", type=int, default=images, help="photos a set, evenly spaced")
    parser.add_argument("--backend", default="tiny")
    parser.add_argument("--model", help="a checkpoint in place of the backend's own")
    parser.add_argument("--clusters", type=int, default=15, help="K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys")
    return parser


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with ``key=value`` anywhere, also behind ``--sets``."""
    args = parser.parse_intermixed_args(argv)
    args.overrides += [word for word in args.sets if "=" in word]
    args.sets = [word for word in args.sets if "=" not in word]
    return args


def resolved(args: argparse.Namespace, backend: Backend, options: Sequence[str] = ()) -> genseg.Recipe:
    """The recipe: the backend's preset and calibration, K, then the command line's overrides, then ``options``."""
    layers = [f"n_clusters={args.clusters}", *args.overrides, *options]
    return genseg.load_recipe(backend.preset, calibration=backend.recipe, options=layers)


def provenance(args: argparse.Namespace) -> dict[str, Any]:
    """Where figures come from: weights, versions, machine and date."""
    packages = ("genseg", "torch", "diffusers", "numpy", "scipy", "scikit-learn", "scikit-image", "pillow")
    return {
        "backend": args.backend,
        "seed": args.seed,
        "weights_sha256": weights_of(args.backend, args.model),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def wide_console() -> Console:
    """A console on which the tables fit, also where it is no terminal."""
    return Console(width=max(Console().width, 180))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; print a table and write the JSON."""
    args = parsed(common_options(__doc__, "benchmarks/results/quality.json", 50), argv)
    console = wide_console()
    backend = genseg.load_backend(args.backend, model=args.model)
    recipe = resolved(args, backend)
    run, cache = digest(identity(args, backend, recipe)), args.out.parent / f".{args.out.stem}_cache"
    sets, seconds = {}, []
    for name in args.sets:
        samples, n_classes = load_set(args.data / name, args.images)
        records: dict[str, dict[str, Record]] = {method: {} for method in METHODS}
        for sample in track(samples, name, console=console):
            file = cache / f"{run}-{name}-{sample.name}.npz"
            labels, spent = cached_labels(file, backend, sample, recipe, args.seed)
            seconds.append(spent)
            for method in METHODS:
                records[method][sample.name] = record_of(labels[method], sample.truths, n_classes)
        sets[name] = summary(records, n_classes)
    report = {"protocol": f"centre square at {SIDE}, oracle labels", "recipe": dataclasses.asdict(recipe)}
    report |= provenance(args) | {"seconds_per_image": float(np.median(seconds)), "sets": sets}
    write_whole(args.out, lambda stream: stream.write(json.dumps(report, indent=1).encode()))
    console.print(table_of(sets))
    console.print(f"{np.median(seconds):.1f} s an image (median; the model's methods together)")
    console.print(f"written: {args.out}")


if __name__ == "__main__":
    run(main)
