"""How well do the merge tree and its natural cut agree with annotators? The figures of docs/granularity.md.

    python benchmarks/granularity.py --data BSDS [--model FOLDER] [key=value ...]

BSDS/images/NAME.jpg goes with BSDS/labels/NAME.0.png, NAME.1.png, ..., each annotator's regions. The tree is compared
with Ward's linkage of the same clusters' features, wherever they lie, which knows neither borders nor places.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy.cluster.hierarchy import cut_tree, ward
from scipy.stats import bootstrap, spearmanr

import genseg
from command import run
from genseg.cluster import AUTO_CLUSTERS
from genseg.evaluation.datasets import load_dataset
from genseg.evaluation.metrics import overlaps
from genseg.files import write_whole
from genseg.segmentation import Segmentation
from genseg.segmentation.tree import NATURAL

Labels = npt.NDArray[np.integer[Any]]


def coverings(labels: Labels, groupings: Iterator[Labels], truths: Sequence[Labels]) -> list[float]:
    """Covering of annotators' regions, their mean, by each grouping of labels.

    Args:
        labels: [H, W] in 0..n-1.
        groupings: The group of each label, [n].
        truths: [H, W] each, in 0..R-1.
    """
    n_labels, n_regions = int(labels.max()) + 1, [int(truth.max()) + 1 for truth in truths]
    pairs = zip(truths, n_regions, strict=True)
    common = np.concatenate([overlaps(labels, truth, n_labels, n) for truth, n in pairs], axis=1)
    regions, pixels = common.sum(axis=0), common.sum(axis=1) / len(truths)
    figures = []
    for groups in groupings:
        members = np.eye(int(groups.max()) + 1)[groups].T
        shared = members @ common
        iou = shared / ((members @ pixels)[:, None] + regions - shared)
        figures.append(float((regions * iou.max(axis=0)).sum() / regions.sum()))
    return figures


def of_tree(segmentation: Segmentation, truths: Sequence[Labels]) -> list[float]:
    """Coverings of all cuts of the tree, from 1 group on."""
    tree = segmentation.tree
    cuts = (tree.groups(n) for n in range(1, tree.n_regions + 1))
    return coverings(segmentation.components().labels, cuts, truths)


def of_linkage(segmentation: Segmentation, truths: Sequence[Labels]) -> list[float]:
    """Coverings of all cuts of Ward's linkage of the clusters that have pixels, from 1 group on."""
    present, labels = np.unique(segmentation.labels, return_inverse=True)
    merges = ward(segmentation.embeddings[present].astype(np.float64))
    cuts = (cut_tree(merges, n)[:, 0] for n in range(1, len(present) + 1))
    return coverings(labels.reshape(segmentation.labels.shape), cuts, truths)


def with_interval(*values: npt.NDArray[np.float64], statistic: Any = np.mean) -> list[float]:
    """A statistic over photos, and its 95 % bootstrap interval: [value, low, high]."""
    ends = bootstrap(
        values, statistic, paired=True, vectorized=False, n_resamples=2000, method="percentile", random_state=0
    )
    return [round(float(each), 4) for each in (statistic(*values), *ends.confidence_interval)]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all photos; print and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, help="photos, the first by name; all unless given")
    parser.add_argument("--backend", default="tiny")
    parser.add_argument("--model", help="a checkpoint in place of the backend's own")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/granularity.json"))
    parser.add_argument("options", nargs="*", metavar="key=value", help="recipe keys")
    args = parser.parse_args(argv)
    backend, dataset = genseg.load_backend(args.backend, model=args.model), load_dataset("folder", args.data)
    recipe = backend.resolve(None, [f"n_clusters={AUTO_CLUSTERS}", *args.options])
    segmenter = genseg.Segmenter(backend, recipe)
    trees, linkages, natural, numbers, annotators = [], [], [], [], []
    for key in track(dataset.keys[: args.images]):
        sample = dataset[key]
        segmentation = segmenter(sample.image)
        trees.append(of_tree(segmentation, sample.truths))
        linkages.append(of_linkage(segmentation, sample.truths))
        numbers.append(segmentation.tree.number_at(NATURAL))
        natural.append(trees[-1][numbers[-1] - 1])
        annotators.append(np.mean([truth.max() + 1 for truth in sample.truths]))
    best, best_linkage = (np.array([max(each) for each in figures]) for figures in (trees, linkages))
    report = {
        "best cut of each photo": with_interval(best),
        "the same by Ward's linkage": with_interval(best_linkage),
        "difference": with_interval(best - best_linkage),
        "best number for all photos": round(_same_number(trees), 4),
        "the same number by Ward's linkage": round(_same_number(linkages), 4),
        "natural cut": with_interval(np.array(natural)),
        "segments of the natural cut": round(float(np.mean(numbers)), 1),
        "regions of annotators": round(float(np.mean(annotators)), 1),
        "rank correlation of the numbers": with_interval(np.array(numbers), np.array(annotators), statistic=_rank),
        "photos": len(trees),
        "options": args.options,
    }
    for name, figure in report.items():
        print(f"{name}: {figure}")
    write_whole(args.out, lambda stream: stream.write(json.dumps(report, indent=1).encode()))


def _same_number(figures: Sequence[Sequence[float]]) -> float:
    """The best mean covering with one number of groups for all photos, or all groups where there are fewer."""
    return float(max(np.mean([each[min(n, len(each) - 1)] for each in figures]) for n in range(max(map(len, figures)))))


def _rank(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    return float(spearmanr(first, second).statistic)


if __name__ == "__main__":
    run(main)
