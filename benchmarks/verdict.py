"""Does modulation beat a good upsampler of the same clusters? Paired differences for each set and number of clusters.

    python benchmarks/verdict.py --data FOLDER [--clusters 8,15,25] [key=value ...]
    python benchmarks/verdict.py --data FOLDER --encoder dinov2 --model FOLDER

FOLDER and protocol are those of benchmarks/quality.py. The recipe's `refine` is left out: the upsamplers are rows of
their own. Each photo is read once and perturbed once for each number of clusters, and each upsampler runs once for all
maps. Labels are kept beside the result, so that an interrupted run resumes. Written are the JSON and, beside it, the
table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

import genseg
from command import run
from genseg.cluster import cluster
from genseg.evaluation.baselines import GUIDED
from genseg.evaluation.baselines.upsampling import cluster_masks, difference_maps, nearness
from genseg.evaluation.method import MethodInput
from genseg.evaluation.protocols import Score, paired_interval
from genseg.files import write_whole
from genseg.interface import Backend, Encoder
from genseg.pipeline import Clusters, find_labels
from genseg.registry import ENCODERS
from genseg.upsampling.upsample import coarsened, refined
from quality import (
    SIDE,
    Sample,
    common_options,
    digest,
    identity,
    load_set,
    parsed,
    provenance,
    record_of,
    score_of,
    values_of,
)

BASELINES = ("naive", "feature-upsampling", *GUIDED)
MODULATED = ("modulation", *(f"modulation+{name}" for name in GUIDED))
METRICS = {"miou": "mIoU", "boundary_f": "boundary F", "covering": "covering"}
PAIRS = [("modulation", name) for name in BASELINES] + [(f"modulation+{name}", name) for name in GUIDED]
"""A method and what it is compared with, on the same clusters."""
ENCODER_PAIRS = [(name, "naive") for name in BASELINES[1:]]
"""Of an encoder, which cannot be perturbed."""

Segments = npt.NDArray[np.uint8]


def labels_of(scene: MethodInput, clusters: Sequence[int]) -> dict[str, Segments]:
    """Segments [SIDE, SIDE] of every method for every K, by ``METHOD K``, as `genseg.evaluation.baselines` makes them.

    Work is shared: features are read once, and as upsamplers treat channels alike, each sees the maps of all K at once.
    """
    scenes = []
    for count in clusters:
        own = replace(scene, recipe=replace(scene.recipe, n_clusters=count))
        state, size, features, *_ = scene.clusters
        own.__dict__["clusters"] = Clusters(state, size, features, *cluster(features, own.recipe))
        scenes.append(own)
    labels: dict[str, Segments] = {}

    def add(methods: Mapping[str, Sequence[torch.Tensor]], refine: str) -> None:
        maps = {
            f"{method} {count}": coarsened(each, scene.pixels, refine)
            for method, of_clusters in methods.items()
            for count, each in zip(clusters, of_clusters, strict=True)
        }
        for shape in {each.shape[1:] for each in maps.values()}:
            names = [name for name, each in maps.items() if each.shape[1:] == shape]
            together = refined(torch.cat([maps[name] for name in names]), scene.pixels, refine)
            for name, part in zip(names, together.split([len(maps[name]) for name in names]), strict=True):
                labels[name] = find_labels(part, (SIDE, SIDE), scene.recipe)[0].astype(np.uint8)

    masks = [cluster_masks(own) for own in scenes]
    plain = {"naive": masks, "feature-upsampling": [nearness(own) for own in scenes]}
    modulated = {} if scene.encoder else {"modulation": [difference_maps(own) for own in scenes]}
    add(plain | modulated, "none")
    for name in GUIDED:
        add({name: masks} | {f"{method}+{name}": maps for method, maps in modulated.items()}, name)
    return labels


def cached_labels(file: Path, scene: MethodInput, clusters: Sequence[int]) -> tuple[dict[str, Segments], float]:
    """Segments of one photo and the seconds that they took, from ``file`` if an earlier run left it."""
    if not file.exists():
        start = time.perf_counter()
        labels = labels_of(scene, clusters)
        seconds = time.perf_counter() - start
        write_whole(file, lambda stream: np.savez_compressed(stream, allow_pickle=False, seconds=seconds, **labels))
    with np.load(file, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files if name != "seconds"}, float(kept["seconds"])


def signed(points: float) -> str:
    """A difference in points, with a typographic minus."""
    return f"{points:+.1f}".replace("-", "−")


def cell(interval: Sequence[float]) -> str:
    """An interval in points; bold if 0 lies outside."""
    low, high = (100 * end for end in interval)
    text = f"{signed(low)} to {signed(high)}"
    return f"**{text}**" if low > 0 or high < 0 else text


def standing(intervals: Sequence[Sequence[float]]) -> str:
    """In how many settings a method is ahead, level and behind."""
    ahead, behind = sum(low > 0 for low, _ in intervals), sum(high < 0 for _, high in intervals)
    return f"{ahead} / {len(intervals) - ahead - behind} / {behind}"


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a Markdown table, the first as its head."""
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def markdown(report: Mapping[str, Any]) -> str:
    """The verdict: each metric's paired differences and how often each comparison is won, then all scores."""
    results = report["results"]
    heads = [f"{entry['set']} ({entry['images']}), K = {entry['clusters']}" for entry in results]
    parts = []
    for metric, title in METRICS.items():
        lines = [[f"{title}, in points", "ahead / level / behind", *heads]]
        for pair in results[0]["differences"]:
            intervals = [entry["differences"][pair][metric] for entry in results]
            lines.append([pair, standing(intervals), *map(cell, intervals)])
        parts.append(table(lines))
    lines = [[", ".join(METRICS.values()), *heads]]
    for method in results[0]["scores"]:
        scores = [entry["scores"][method] for entry in results]
        lines.append([method, *(" ".join(f"{score[metric]:.3f}"[1:] for metric in METRICS) for score in scores)])
    return "\n".join([*parts, table(lines)])


def measured(scores: Mapping[str, Score], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The scores of one setting by method, and the 95 % intervals of paired differences."""
    return {
        "scores": {name: {metric: values_of(score)[metric] for metric in METRICS} for name, score in scores.items()},
        "differences": {
            f"{first} − {other}": {metric: paired_interval(scores[first], scores[other], metric) for metric in METRICS}
            for first, other in pairs
        },
    }


def scene_of(sample: Sample, args: argparse.Namespace, model: Backend | Encoder, recipe: genseg.Recipe) -> MethodInput:
    """A photo as the methods see it."""
    if isinstance(model, Encoder):
        return MethodInput(sample.square, (SIDE, SIDE), recipe, args.seed, None, model)
    segmenter = genseg.Segmenter(model, recipe, seed=args.seed)
    return MethodInput(sample.square, (SIDE, SIDE), recipe, args.seed, segmenter)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison; print and write the tables."""
    parser = common_options(__doc__, "benchmarks/results/verdict.json", 10**6)
    parser.add_argument("--clusters", default="8,15,25", metavar="K,K,...", help="numbers of clusters")
    parser.add_argument("--encoder", help="a vision encoder in place of the backend, such as dinov2")
    args = parsed(parser, argv)
    clusters = [int(count) for count in args.clusters.split(",")]
    options = [*args.overrides, "refine=none", f"n_clusters={clusters[0]}"]
    model: Backend | Encoder
    if args.encoder:
        args.backend = args.encoder
        model, recipe = ENCODERS.load(args.encoder, model=args.model), genseg.load_recipe(options=options)
    else:
        model = genseg.load_backend(args.backend, model=args.model)
        recipe = model.resolve(None, options)
    pairs, methods = (ENCODER_PAIRS, BASELINES) if args.encoder else (PAIRS, (*BASELINES, *MODULATED))
    key = digest([identity(args, model, recipe), clusters])
    cache, console = args.out.parent / f".{args.out.stem}_cache", Console()
    results, seconds = [], []
    for name in args.sets:
        samples, n_classes = load_set(args.data / name, args.images)
        labels = {}
        for sample in track(samples, name, console=console):
            file = cache / f"{key}-{name}-{sample.name}.npz"
            labels[sample.name], spent = cached_labels(file, scene_of(sample, args, model, recipe), clusters)
            seconds.append(spent)
        for count in clusters:
            records = {
                method: {
                    sample.name: record_of(
                        labels[sample.name][f"{method} {count}"].astype(np.int64), sample.truths, n_classes
                    )
                    for sample in samples
                }
                for method in methods
            }
            scores = {method: score_of(images, n_classes) for method, images in records.items()}
            results.append({"set": name, "images": len(samples), "clusters": count} | measured(scores, pairs))
    report = {"protocol": f"centre square at {SIDE}, oracle labels", "recipe": asdict(recipe)}
    report |= provenance(args) | {"seconds_per_image": float(np.median(seconds)), "results": results}
    text = markdown(report)
    write_whole(args.out, lambda stream: stream.write(json.dumps(report, indent=1).encode()))
    write_whole(args.out.with_suffix(".md"), lambda stream: stream.write(text.encode()))
    Console(width=260).print(Markdown(text))
    console.print(f"{np.median(seconds):.1f} s an image (median); written: {args.out} and {args.out.stem}.md")


if __name__ == "__main__":
    run(main)
